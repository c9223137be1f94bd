"""DNS over HTTPS against clients that are behind a proxy, slow, many or hostile (spec T3, T4, T6)."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from tests.conftest import free_port
from toolips_udp import TCP, UDP, Address
from toolips_udp import dns as ours
from toolips_udp.dns.message import Message, ask
from toolips_udp.dns.resets import Resets
from toolips_udp.transports import proxied

h2 = pytest.importorskip(
    "h2.connection", reason="DNS over HTTPS needs the extra doh: pip install 'toolips_udp[doh]'"
)
pytest.importorskip("hypercorn", reason="DNS over HTTPS needs the extra doh: pip install 'toolips_udp[doh]'")
ZONE = "@ 60 SOA a b 1 2 3 4 30\n@ NS a\nwww 60 A 192.0.2.1\n"
MESSAGE = "application/dns-message"


@pytest.fixture
def https(server, certificate):
    """`https(*steps, ...)` serves them; the address of the listener, and the server."""

    def make(*steps, tls=certificate, start=None, **settings):
        service = ours.Service(
            *(steps or (ours.Zone.from_text(ZONE, "e.test"),)), listen=[f"https://127.0.0.1:{free_port()}"],
            tls=tuple(map(str, tls)), **settings,
        )  # fmt: skip
        running = server(service, mode=(UDP, TCP), **(start or {}))
        return next(iter(service.listeners.addresses.values())), running

    return make


class Browser:
    """An HTTP/2 client that does what it is told, also what it should not."""

    def __init__(self, address, certificate, before=b"", source=None):
        context = ssl.create_default_context(cafile=certificate[0])
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(address, 5, (source, 0) if source else None)
        plain.sendall(before)
        self.sock = context.wrap_socket(plain, server_hostname="localhost")
        self.h2 = h2.H2Connection()
        self.h2.initiate_connection()
        self.flush()
        self.replies = {}
        self.over = False

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def send(self, method="POST", path="/dns-query", body=None, kind=MESSAGE, end=True):
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        self.h2.send_headers(
            stream, [*headers, *([("content-type", kind)] if kind else [])], end_stream=body is None and end
        )
        self.replies[stream] = ["", {}, b"", False]
        while body and not self.replies[stream][3]:
            room = min(16_384, self.h2.local_flow_control_window(stream))
            if room:
                self.h2.send_data(stream, body[:room], end_stream=len(body) <= room)
                body = body[room:]
            else:
                self.flush()
                self.hear()
        return stream

    def hear(self):
        """What comes next; False when the server has closed."""
        try:
            data = self.sock.recv(65_536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.over = True
            return False
        for event in self.h2.receive_data(data):
            found = self.replies.get(getattr(event, "stream_id", None))
            kind = type(event).__name__
            if kind == "ResponseReceived":
                found[1] = {key.decode(): value.decode() for key, value in event.headers}
                found[0] = found[1][":status"]
            elif kind == "DataReceived":
                found[2] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif kind == "StreamEnded":
                found[3] = True
        return True

    def exchange(self, *args, **kw):
        """Status, headers and body of one request."""
        stream = self.send(*args, **kw)
        self.flush()
        while not self.replies[stream][3] and self.hear():
            pass
        return self.replies[stream][:3]

    def close(self):
        self.sock.close()


@pytest.fixture
def browser(certificate):
    made = []

    def make(address, **kw):
        made.append(Browser(address, certificate, **kw))
        return made[-1]

    yield make
    for each in made:
        each.close()


def question(name="www.e.test"):
    return ask(name, "A").encode()


def test_t4_every_status_over_h2_and_the_lifetime_of_what_is_answered(https, browser):
    address, _ = https()
    client = browser(address)
    status, headers, body = client.exchange(body=question())
    assert (status, headers["content-type"], headers["cache-control"]) == ("200", MESSAGE, "max-age=60")
    assert Message.parse(body).answer[0].data[-1] == 1 and "server" not in headers
    status, headers, body = client.exchange(body=question("nx.e.test"))
    assert (status, Message.parse(body).rcode, headers["cache-control"]) == ("200", 3, "max-age=30")
    assert client.exchange(body=question("other.test"))[0] == "200"  # REFUSED is a DNS reply
    assert client.exchange(body=b"short")[0] == "400"
    assert client.exchange("GET", "/dns-query?dns=%21%21", kind=None)[0] == "400"
    assert client.exchange("GET", "/dns-query", kind=None)[0] == "400"
    assert client.exchange("GET", "/elsewhere", kind=None)[0] == "404"
    status, headers, _ = client.exchange("PUT", body=question())
    assert (status, headers["allow"]) == ("405", "GET, POST")
    assert client.exchange(body=question(), kind="text/plain")[0] == "415"
    assert client.exchange(body=question(), kind=None)[0] == "415"
    assert client.exchange(body=question() + bytes(65_536))[0] == "413"
    assert client.exchange(body=question())[0] == "200"  # on the same connection


def test_t4_a_hundred_questions_at_a_time_are_answered_on_one_connection_for_as_long_as_it_likes(
    https, browser
):
    address, running = https()
    client = browser(address)
    for _ in range(12):
        streams = [client.send(body=question()) for _ in range(100)]
        client.flush()
        while not all(client.replies[s][3] for s in streams):
            assert client.hear()
        assert {client.replies[s][0] for s in streams} == {"200"}
    assert running.counters["received"] == 1


def test_t4_over_a_hundred_resets_in_ten_seconds_close_the_connection(https, browser, eventually):
    address, running = https()
    client, neighbour = browser(address), browser(address)
    for _ in range(100):
        client.h2.reset_stream(client.send(body=question()))
    assert client.exchange(body=question())[0] == "200"  # a hundred are too many for nobody
    for _ in range(50):  # rapid reset: CVE-2023-44487
        client.h2.reset_stream(client.send(body=None, end=False))
    client.flush()
    while client.hear():
        pass
    assert client.over
    assert neighbour.exchange(body=question())[0] == "200"
    eventually(lambda: running.counters["limited"] == 1)


def test_t4_resets_that_a_client_makes_us_send_count_too(https, browser, eventually):
    address, running = https()
    client = browser(address)
    client.exchange(body=question())
    for _ in range(150):  # CVE-2025-8671: a request that has ended, and then data for it
        stream = client.send(body=question())
        client.flush()
        client.sock.sendall(bytes((0, 0, 1, 0, 0)) + stream.to_bytes(4, "big") + b"x")
        client.sock.settimeout(0.01)
        try:
            client.hear()
        except TimeoutError:
            pass
        client.sock.settimeout(5)
        if client.over:
            break
    while client.hear():
        pass
    eventually(lambda: running.counters["limited"] == 1)


def test_t4_a_client_that_takes_no_answer_is_cut_though_it_keeps_talking(
    https, browser, eventually, monkeypatch
):
    monkeypatch.setattr("toolips_udp.dns.https.REQUEST", 0.5)
    address, running = https()
    client = browser(address)
    client.h2.update_settings({4: 0})  # INITIAL_WINDOW_SIZE: not one octet of a body
    client.send(body=question())
    client.flush()

    def cut():
        try:
            client.h2.ping(bytes(8))
            client.flush()
            return not client.hear()
        except OSError:
            return True

    eventually(cut)
    eventually(lambda: running.counters["stale"] == 1)


def frame(kind, size=0):
    return size.to_bytes(3, "big") + bytes((kind,)) + bytes(5) + bytes(size)


def test_t4_resets_are_counted_wherever_the_octets_are_cut_and_only_of_the_last_ten_seconds():
    data = bytes(24) + (frame(0, 300) + frame(3, 4) + frame(1, 3)) * 101
    for step in (1, 7, 9, 10, 1000, len(data)):
        resets = Resets()
        said = [resets.too_many(data[i : i + step], 1.0) for i in range(0, len(data), step)]
        assert said[-1] and not any(said[: len(said) * 98 // 100]), step
    slow = Resets()
    assert not any(slow.too_many(bytes(24) * (not i) + frame(3, 4), i * 0.11) for i in range(1000))
    assert any(slow.too_many(frame(3, 4), 110 + i * 0.09) for i in range(1000))


@pytest.mark.parametrize(
    "data", [b"GET / nonsense", bytes(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(200)) * 3]
)
def test_t4_what_is_no_http_cuts_its_connection_and_no_other(https, browser, certificate, data, eventually):
    address, running = https()
    neighbour = browser(address)
    context = ssl.create_default_context(cafile=certificate[0])
    for protocols in (["h2"], ["http/1.1"], []):
        context.set_alpn_protocols(protocols)
        with (
            socket.create_connection(address, 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(data + b"\r\n\r\n")
            try:
                while sock.recv(4096):
                    pass
            except ConnectionError:
                pass
    assert neighbour.exchange(body=question())[0] == "200"
    eventually(lambda: running.in_flight == 1)


def test_t4_headers_over_16_kib_end_the_connection(https, browser):
    address, _ = https()
    client = browser(address)
    client.exchange("GET", "/dns-query?dns=" + "A" * 20_000, kind=None)
    while client.hear():
        pass
    assert client.over and not any(reply[0] == "200" for reply in client.replies.values())


PROXY = "127.0.0.9"
CLIENT = Address("192.0.2.7", 5353)


def test_t6_https_behind_a_proxy_is_answered_for_the_client_in_its_header_and_others_are_not_believed(
    https, browser, eventually
):
    view = ours.View(
        "client", clients=["192.0.2.7"], steps=[ours.Zone.from_text(ZONE.replace("2.1", "2.7"), "e.test")]
    )
    rest = ours.View("rest", steps=[ours.Zone.from_text(ZONE, "e.test")])
    address, running = https(view, rest, proxies=[PROXY])
    header = proxied.header(CLIENT, stream=True)

    def view_of(**kw):
        client = browser(address, **kw)
        return [Message.parse(client.exchange(body=question())[2]).answer[0].data[-1] for _ in range(2)]

    assert view_of(before=header, source=PROXY) == [7, 7]
    assert view_of(before=proxied.MARK + b"\x20\0\0\0", source=PROXY) == [1, 1]  # the proxy itself
    assert view_of() == [1, 1]
    before = running.counters["malformed"]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        view_of(source=PROXY)  # a proxy that does not say for whom
    with pytest.raises((ConnectionError, ssl.SSLError)):
        view_of(before=header)  # who is no proxy
    eventually(lambda: running.counters["malformed"] == before + 2)


def test_t6_https_connections_are_limited_by_client(https, browser, eventually):
    address, running = https(proxies=[PROXY])
    header = proxied.header(CLIENT, stream=True)
    for _ in range(8):
        assert browser(address, before=header, source=PROXY).exchange(body=question())[0] == "200"
    with pytest.raises((ConnectionError, ssl.SSLError)):
        browser(address, before=header, source=PROXY)
    eventually(lambda: running.counters["limited"] == 1)


def test_t1_a_question_that_is_being_answered_survives_the_drain_and_an_idle_connection_does_not(
    https, browser, eventually
):
    service = ours.Service()
    asked = []

    @service.answers("slow.e.test", "A")
    async def slow(q):
        asked.append(q.name)
        await asyncio.sleep(0.5)
        return ours.A("192.0.2.5")

    address, running = https(serve_by(service))
    busy, idle = browser(address), browser(address)
    assert idle.exchange(body=question("nx.test"))[0] == "200"
    stream = busy.send(body=question("slow.e.test"))
    busy.flush()
    eventually(lambda: asked)
    running.stop(wait=False)
    while not busy.replies[stream][3] and busy.hear():
        pass
    assert Message.parse(busy.replies[stream][2]).answer[0].data[-1] == 5
    while idle.hear():
        pass
    assert idle.over and running.ended.wait(10)


def serve_by(service):
    """The handlers of one service as a step of another."""

    class Step:
        recursive = False

        async def ask(self, q):
            return await service.ask(q)

    return Step()


def reused(address, certificate, session):
    """A whole exchange; whether the session was taken up again, and the one to try next."""
    context, old = session or (ssl.create_default_context(cafile=certificate[0]), None)
    with socket.create_connection(address, 5) as plain:
        with context.wrap_socket(plain, server_hostname="localhost", session=old) as sock:
            sock.sendall(b"GET /dns-query HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            while sock.recv(4096):
                pass
            return sock.session_reused, (context, sock.session)


def test_t3_tickets_are_taken_up_until_the_keys_change_and_a_bad_certificate_changes_nothing(
    https, certificate, tmp_path
):
    copies = [tmp_path / "chain.pem", tmp_path / "key.pem"]
    for old, new in zip(certificate, copies, strict=True):
        new.write_bytes(old.read_bytes())
    address, running = https(tls=copies)
    first, session = reused(address, certificate, None)
    again, _ = reused(address, certificate, session)
    assert (first, again) == (False, True)
    service = running.extensions[0]
    copies[0].write_text("nonsense")
    assert "cannot be used" in service.reload()["certificates"]
    again, _ = reused(address, certificate, session)
    assert again  # the context is the one from before
    copies[0].write_bytes(certificate[0].read_bytes())
    assert service.reload() == {}
    again, session = reused(address, certificate, session)
    assert not again  # a ticket made with the keys from before
    assert reused(address, certificate, session)[0]
