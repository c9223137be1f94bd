"""Views by listener, the recursion they offer, and their zones in transfers (spec P6, X1)."""

import random
import socket
import struct
import time

import pytest

from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.dns.message import Message, ask
from toolips_udp.dns.tsig import Keys, signed
from toolips_udp.errors import StartError

BOTH = pytest.mark.parametrize("native", [True, False], ids=["c", "python"])


def free_port():
    """A port that is free for UDP and TCP on both hosts, below those that the system gives to clients."""
    for _ in range(50):
        port = random.randrange(15_000, 32_000)
        try:
            for host in ("127.0.0.1", "127.0.0.2"):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as sock:
                        sock.bind((host, port))
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")


def zone(number):
    return ours.Zone.from_text(f"@ 60 SOA a b {number} 2 3 4 5\n@ NS a\n@ A 192.0.2.{number}", "z.test")


def over_udp(address, packet):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.sendto(packet, address)
        return Message.parse(sock.recv(4096))


def over_tcp(address, packet):
    with socket.create_connection(address, 3) as sock:
        sock.sendall(struct.pack("!H", len(packet)) + packet)
        (size,) = struct.unpack("!H", sock.recv(2, socket.MSG_WAITALL))
        return Message.parse(sock.recv(size, socket.MSG_WAITALL))


def last(message):
    return message.answer[0].data[-1]


@BOTH
def test_p6_views_are_chosen_by_the_listener(server, native):
    inside, outside = f"127.0.0.1:{free_port()}", f"127.0.0.2:{free_port()}"
    service = ours.Service(
        ours.View("inside", listeners=[inside], steps=[zone(1)]),
        ours.View("outside", listeners=[f"udp://{outside}"], steps=[zone(2)]),
        listen=[outside],
        native=native,
    )
    server(service, mode=(UDP, TCP), ip=inside)
    packet = ask("z.test", "A").encode()
    one, two = ((text.split(":")[0], int(text.split(":")[1])) for text in (inside, outside))
    assert last(over_udp(one, packet)) == last(over_tcp(one, packet)) == 1
    assert last(over_udp(two, packet)) == 2
    assert over_tcp(two, packet).rcode == 5  # only its UDP is named


@BOTH
def test_p6_a_view_offers_recursion_only_where_its_own_steps_can(server, native):
    service = ours.Service(
        ours.View("asks", clients=["127.0.0.1"], steps=[zone(1), ours.Forward("udp://127.0.0.1:1")]),
        ours.View("rest", steps=[zone(2)]),
        native=native,
        access={"recursion": ["127.0.0.0/8"]},
    )
    running = server(service)
    packet = ask("z.test", "A").encode()
    assert over_udp(running.address, packet).flags & 0x80
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", 0))
        sock.settimeout(3)
        sock.sendto(packet, running.address)
        reply = Message.parse(sock.recv(4096))
    assert last(reply) == 2 and not reply.flags & 0x80


def test_p6_a_configuration_names_only_listeners_that_are_there(tmp_path):
    from toolips_udp.dns import building, settings

    path = tmp_path / "server.toml"
    path.write_text(
        '[service]\nlisten = ["127.0.0.1:5300"]\n[[view]]\nname = "a"\nlisteners = ["127.0.0.1:53"]\n'
    )
    with pytest.raises(StartError, match=r"5300. Add it to listen"):
        building.build(settings.read(path), file=path)
    path.write_text(
        path.read_text().replace(':53"]\n[[', ':5300"]\n[[').replace('"127.0.0.1:53"', '"127.0.0.1:5300"')
    )
    (view,) = building.build(settings.read(path), file=path).steps
    assert {kind for kind, _ in view.listeners} == {"udp", "tcp"}
    with pytest.raises(StartError, match="expected udp://"):
        ours.View("x", listeners=["smoke://127.0.0.1"])


def test_x1_a_transfer_gives_the_zone_of_the_clients_own_view(server):
    transfers = ours.Transfers()
    transfers.allow("z.test", [("127.0.0.0/8", None)])
    service = ours.Service(
        ours.View("other", clients=["10.0.0.0/8"], steps=[zone(1)]),
        ours.View("mine", steps=[zone(2)]),
        transfers=transfers,
    )
    running = server(service, mode=(UDP, TCP))
    assert (
        over_tcp(running.address, ask("z.test", "AXFR").encode())
        .answer[0]
        .data.endswith(struct.pack("!5I", 2, 2, 3, 4, 5))
    )


def test_x1_the_address_is_judged_before_the_signature(server):
    keys = {"xfr": ("hmac-sha256", "c2VjcmV0c2VjcmV0c2VjcmV0")}
    mine, theirs = Keys(keys), Keys({"xfr": ("hmac-sha256", "b3RoZXJvdGhlcm90aGVyb3Ro")})
    for allowed, rcode in (("127.0.0.0/8", 9), ("192.0.2.9", 5)):
        transfers = ours.Transfers(mine)
        transfers.allow("z.test", [(allowed, "xfr")])
        running = server(ours.Service(zone(1), transfers=transfers), mode=(UDP, TCP))
        packet, _, _ = signed(ask("z.test", "AXFR").encode(), theirs.get("xfr"), int(time.time()))
        assert over_tcp(running.address, packet).rcode == rcode
