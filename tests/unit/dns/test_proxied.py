"""T6: PROXYv2 from listed proxies, over UDP, TCP and TLS: access, views, limits and cookies go by the client."""

import asyncio
import random
import socket
import ssl
import struct
from contextlib import suppress

import pytest

from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.address import Address
from toolips_udp.dns import edns
from toolips_udp.dns.message import Message, ask
from toolips_udp.transports import proxied

PROXY = "127.0.0.9"
CLIENT = Address("192.0.2.7", 5353)
SIX = Address("2001:db8::7", 5353)
BOTH = pytest.mark.parametrize("native", [True, False], ids=["c", "python"])


def zone(number):
    return ours.Zone.from_text(f"@ 60 SOA a b 1 2 3 4 5\n@ NS a\n@ A 192.0.2.{number}", "z.test")


def views(**settings):
    """Who is 192.0.2.7, who is 2001:db8::7, and everybody else, told by the address they get."""
    steps = [
        ours.View("four", clients=["192.0.2.7"], steps=[zone(4)]),
        ours.View("six", clients=["2001:db8::7"], steps=[zone(6)]),
        ours.View("rest", steps=[zone(1)]),
    ]
    return ours.Service(*steps, proxies=[PROXY], **settings)


def view_of(octets):
    return {4: "four", 6: "six", 1: "rest"}[Message.parse(octets).answer[0].data[-1]]


@pytest.fixture
def udp():
    """`udp(host)(data, to)` sends from that host and gives what comes back, or None."""
    made = []

    def at(host):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.append(sock)
        sock.bind((host, 0))
        sock.settimeout(3)

        def exchange(data, to, wait=True):
            sock.sendto(data, to)
            return sock.recv(4096) if wait else None

        return exchange

    yield at
    for sock in made:
        sock.close()


def question(*options, id=7):
    packet = ask("z.test", "A", id=id, rd=False).encode()
    return packet[:-2] + len(b"".join(options)).to_bytes(2, "big") + b"".join(options)


@BOTH
def test_t6_a_listed_proxy_says_for_whom_it_asks_and_gets_the_reply(
    server, udp, eventually, native, transport
):
    running = server(views(native=native))
    from_proxy, stranger = udp(PROXY), udp("127.0.0.1")
    for client, view in ((CLIENT, "four"), (SIX, "six"), (Address("198.51.100.1", 1), "rest")):
        for stream in (False, True):  # what the client used is another matter than what the proxy uses
            header = proxied.header(client, stream=stream)
            assert view_of(from_proxy(header + question(), running.address)) == view
    local = proxied.MARK + b"\x20\0\0\4abcd"
    assert view_of(from_proxy(local + question(), running.address)) == "rest"
    assert view_of(stranger(question(), running.address)) == "rest"
    # a header from a stranger is no question
    assert Message.parse(stranger(proxied.header(CLIENT) + question(), running.address)).rcode == 4
    for broken in (question(), proxied.header(CLIENT)[:20], b"", b"x" * 40, proxied.header(CLIENT)):
        from_proxy(broken, running.address, wait=False)
    eventually(lambda: running.counters["malformed"] == 5)


@BOTH
def test_t6_access_and_limits_go_by_the_client_and_not_by_the_proxy(server, udp, eventually, native):
    service = ours.Service(
        zone(1),
        access={"query": ["192.0.2.0/24"]},
        limit=ours.RateLimit(1, 3, slip=0, trusted=["127.0.0.0/8"]),
        proxies=[PROXY],
        native=native,
    )
    running = server(service)
    from_proxy = udp(PROXY)
    for _ in range(3):
        reply = Message.parse(from_proxy(proxied.header(CLIENT) + question(), running.address))
        assert reply.rcode == 0
    from_proxy(proxied.header(CLIENT) + question(), running.address, wait=False)  # the fourth of this client
    other = Message.parse(from_proxy(proxied.header(Address("192.0.2.8", 1)) + question(), running.address))
    assert other.rcode == 0
    foreign = from_proxy(proxied.header(Address("203.0.113.1", 1)) + question(), running.address)
    assert Message.parse(foreign).rcode == 5 and Message.parse(foreign).options[edns.EDE] == b"\0\x12"
    eventually(lambda: running.counters["received"] - running.in_flight == 6)
    if native:
        assert service.half.stage.counters["limited"] == 1
    else:
        assert service.limit.counters["dropped"] == 1


@BOTH
def test_t6_a_cookie_belongs_to_the_client_behind_the_proxy(server, udp, native):
    service = ours.Service(
        zone(1), limit=ours.RateLimit(0.001, 1, slip=0, trusted=[]), proxies=[PROXY], native=native,
        secret=bytes(16),
    )  # fmt: skip
    running = server(service)
    from_proxy = udp(PROXY)
    client_cookie = edns.option(edns.COOKIE, b"12345678")
    first = Message.parse(from_proxy(proxied.header(CLIENT) + question(client_cookie), running.address))
    cookie = edns.option(edns.COOKIE, first.options[edns.COOKIE])
    for _ in range(3):  # verified: no rate limit
        assert (
            Message.parse(from_proxy(proxied.header(CLIENT) + question(cookie), running.address)).rcode == 0
        )
    stolen = proxied.header(Address("192.0.2.8", 1))
    from_proxy(stolen + question(), running.address)  # its one reply
    assert Message.parse(from_proxy(stolen + question(cookie), running.address)).rcode == 23


def test_t6_handlers_see_the_client_and_their_answers_go_to_the_proxy(server, udp):
    service = ours.Service(proxies=[PROXY])

    @service.answers("z.test", "A")
    def plain(q):
        return ours.A(q.client.host, ttl=0)

    @service.answers("later.test", "A")
    async def later(q):
        await asyncio.sleep(0.01)
        return ours.A(q.client.host, ttl=0)

    @service.answers("thread.test", "A", threaded=True)
    def threaded(q):
        return ours.A(q.client.host, ttl=0)

    running = server(service)
    from_proxy = udp(PROXY)
    for name in ("z.test", "later.test", "thread.test"):
        reply = from_proxy(proxied.header(CLIENT) + ask(name, "A").encode(), running.address)
        assert Message.parse(reply).answer[0].data == bytes((192, 0, 2, 7)), name


def test_t6_forwarded_answers_go_back_to_the_proxy(server, udp, peer):
    upstream = server(ours.Service(zone(9)), mode=(UDP, TCP))
    service = ours.Service(
        ours.Forward(f"udp://{upstream.address}"), access={"recursion": ["192.0.2.7"]}, proxies=[PROXY]
    )
    running = server(service)
    from_proxy, to = udp(PROXY), running.address
    for id in (1, 2):  # from upstream, then from the cache
        reply = Message.parse(from_proxy(proxied.header(CLIENT) + ask("z.test", "A", id=id).encode(), to))
        assert (reply.id, reply.answer[0].data[-1]) == (id, 9)
    refused = from_proxy(proxied.header(SIX) + ask("z.test", "A").encode(), running.address)
    assert Message.parse(refused).rcode == 5


def over_stream(sock, data, chunks=None):
    """Send, in pieces if told to, and read one framed reply; None when the server closes."""
    for piece in chunks or [data]:
        sock.sendall(piece)
    with suppress(ConnectionResetError):
        head = sock.recv(2, socket.MSG_WAITALL) if not isinstance(sock, ssl.SSLSocket) else sock.recv(2)
        if len(head) == 2:
            return sock.recv(struct.unpack("!H", head)[0])
    return None


def framed(packet):
    return struct.pack("!H", len(packet)) + packet


@BOTH
def test_t6_a_connection_of_a_proxy_begins_with_its_header(server, eventually, native, transport):
    running = server(views(native=native), mode=TCP, message_timeout=0.3)
    data = proxied.header(CLIENT, stream=True) + framed(question())

    def connect(host=PROXY):
        return socket.create_connection(running.address, 3, (host, 0))

    with connect() as sock:
        assert view_of(over_stream(sock, data)) == "four"
        assert view_of(over_stream(sock, framed(question()))) == "four"  # once for all messages
    with connect() as sock:
        assert view_of(over_stream(sock, b"", [data[i : i + 1] for i in range(len(data))])) == "four"
    with connect() as sock:
        assert view_of(over_stream(sock, proxied.MARK + b"\x20\0\0\0" + framed(question()))) == "rest"
    with connect("127.0.0.1") as sock:
        assert view_of(over_stream(sock, framed(question()))) == "rest"
    before = running.counters["malformed"]
    with connect() as sock:
        assert over_stream(sock, framed(question())) is None
    eventually(lambda: running.counters["malformed"] == before + 1)
    with connect() as sock:  # one that never says for whom
        assert over_stream(sock, data[:10]) is None
    eventually(lambda: running.counters["stale"] == 1)


def test_t6_connections_are_counted_by_the_client_behind_the_proxy(server, eventually):
    running = server(views(), mode=TCP, max_per_address=2)
    data = proxied.header(CLIENT, stream=True) + framed(question())
    opened = [socket.create_connection(running.address, 3, (PROXY, 0)) for _ in range(4)]
    try:
        assert [over_stream(sock, data) is not None for sock in opened] == [True, True, False, False]
        eventually(lambda: running.counters["limited"] == 2)
        other = data.replace(socket.inet_aton("192.0.2.7"), socket.inet_aton("192.0.2.8"))
        with socket.create_connection(running.address, 3, (PROXY, 0)) as sock:
            assert over_stream(sock, other) is not None
        opened.pop(0).close()
        eventually(lambda: running.in_flight == 1)
        with socket.create_connection(running.address, 3, (PROXY, 0)) as sock:
            assert over_stream(sock, data) is not None
    finally:
        for sock in opened:
            sock.close()


def test_t6_before_tls_the_header_is_read_in_the_clear(server, certificate):
    running = server(views(tls=certificate, listen=["tls://127.0.0.1:0"]), mode=(UDP, TCP))
    address = running.extensions[0].listeners.addresses["tls://127.0.0.1:0"]
    context = ssl.create_default_context(cafile=certificate[0])
    with socket.create_connection(address, 3, (PROXY, 0)) as sock:
        sock.sendall(proxied.header(CLIENT, stream=True))
        with context.wrap_socket(sock, server_hostname="localhost") as inner:
            assert view_of(over_stream(inner, framed(question()))) == "four"


def test_t6_c_and_python_read_any_header_alike():
    module = pytest.importorskip("toolips_udp._native.dns", reason="the native DNS is not built")
    service = views()
    (stage,) = service.stages()
    assert stage is service.half.stage and module.PROXY
    chance = random.Random(1)
    good = [proxied.header(CLIENT), proxied.header(SIX, stream=True), proxied.MARK + b"\x20\0\0\0"]
    for _ in range(20_000):
        data = bytearray(chance.choice(good) + question())
        for _ in range(chance.choice((0, 1, 1, 2))):
            data[chance.randrange(20)] = chance.choice(
                (0, 1, 2, 0x11, 0x12, 0x20, 0x21, 0x22, chance.randrange(256))
            )
        data = bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        header = proxied.read(data)
        size, ip, port = module.read_proxied(data)
        assert size == (header.size if header else 0), data.hex()
        client = header.client if header else None
        assert (ip, port) == ((client.host, client.port) if client else (None, 0)), data.hex()
