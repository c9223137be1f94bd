"""X4, X5 with several workers: one fetches, all serve; a NOTIFY that any of them hears reaches it; the duty moves."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest

from tests.conftest import free_port
from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.dns import names, rrtypes, transfer
from toolips_udp.dns.message import Message, ask

ZONE = "@ 60 SOA a b {serial} 3600 3600 {expire} 60\n@ NS a\nwww 60 A 192.0.2.{serial}\n"
MODULE = """
from toolips_udp import dns
transfers = dns.Transfers()
transfers.secondary("e.test", [("127.0.0.1:{primary}", None)])
transfers.notify("e.test", "127.0.0.1:{below}")
transfers.allow("e.test", [("127.0.0.1", None)])
service = dns.Service(*transfers.steps(), transfers=transfers)
"""


def zone(serial, expire=86_400):
    return ours.Zone.from_text(ZONE.format(serial=serial, expire=expire), "e.test")


class Below:
    """A secondary of the secondary: it counts the NOTIFY that come, and answers them."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.heard = []
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self):
        while True:
            data, to = self.sock.recvfrom(2048)
            if data == b"end":
                return
            message = Message.parse(data)
            self.heard.append(transfer.serial_of(message.answer[0].data))
            self.sock.sendto(data[:2] + bytes((data[2] | 0x80,)) + data[3:], to)

    def close(self):
        self.sock.sendto(b"end", self.sock.getsockname())
        self.thread.join()
        self.sock.close()


def asked(address, times=20):
    """What so many clients hear, each from a port of its own, so that every worker is asked: octets or RCODEs."""
    found = set()
    for _ in range(times):
        with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.sendto(ask("www.e.test", "A").encode(), address)
            reply = Message.parse(sock.recv(4096))
            found.add(reply.answer[0].data[-1] if reply.answer else f"rcode {reply.rcode}")
    return found


def histories(address, serial, times=20):
    """The serials of the SOA records that so many clients hear who ask for what came after that one (RFC 1995)."""
    found = set()
    for number in range(times):
        with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            question = ask("e.test", "IXFR", rd=False, id=number)
            question.add(question.authority, [zone(serial).soa])
            sock.sendto(question.encode(), address)
            answer = Message.parse(sock.recv(4096)).answer
            found.add(tuple(transfer.serial_of(each.data) for each in answer if each.type == rrtypes.SOA))
    return found


def notify(address, host="127.0.0.1"):
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(10)
        sock.sendto(transfer.notify(names.from_text("e.test"), 7), address)
        return Message.parse(sock.recv(4096))


@pytest.fixture
def two(server, tmp_path, eventually):
    """A primary here, and its secondary of two workers."""
    below = Below()

    def make(expire=86_400):
        store = ours.ZoneStore(tmp_path)
        store.save(zone(1, expire))
        out = ours.Transfers()
        out.allow("e.test", [("127.0.0.1", None)])
        store.changed.append(out.changed)
        primary = server(ours.Service(store, transfers=out), mode=(UDP, TCP), ip=f"127.0.0.1:{free_port()}")
        path = tmp_path / "copies.py"
        path.write_text(MODULE.format(primary=primary.address.port, below=below.port))
        copy = server(module=str(path), mode=(UDP, TCP), workers=2)
        eventually(lambda: asked(copy.address) == {1})
        return store, out, copy, primary, below

    yield make
    below.close()


def test_x4_one_of_two_workers_fetches_and_both_serve_what_it_has(two, eventually):
    store, out, copy, _, below = two()
    assert out.counters["out"] == 1
    eventually(lambda: below.heard == [1])
    for serial in range(2, 7):  # whichever of them hears it, from whatever port it comes
        store.save(zone(serial))
        reply = notify(copy.address)
        assert (reply.rcode, reply.aa) == (0, True)
        eventually(lambda serial=serial: asked(copy.address) == {serial})
        eventually(lambda serial=serial: below.heard == list(range(1, serial + 1)))
    assert out.counters["out"] == 6  # each version once, for two workers


def test_x5_notify_from_strangers_changes_nothing_at_any_worker(two):
    store, out, copy, _, _ = two()
    store.save(zone(2))
    assert {notify(copy.address, "127.0.0.3").rcode for _ in range(10)} == {5}
    assert asked(copy.address) == {1} and out.counters["out"] == 1


def test_x4_the_duty_moves_when_its_worker_is_killed_and_no_zone_is_lost(two, eventually):
    store, _, copy, _, below = two()
    eventually(lambda: below.heard == [1])
    for serial in (2, 3):
        eventually(lambda: copy.group.spare is not None and 0 not in copy.pids)
        before = copy.group.on_duty
        os.kill(before.pid, signal.SIGKILL)
        assert asked(copy.address) == {serial - 1}
        eventually(lambda before=before: copy.group.on_duty is not before and 0 not in copy.pids)
        assert asked(copy.address) == {serial - 1}
        store.save(zone(serial))
        notify(copy.address)
        eventually(lambda serial=serial: asked(copy.address) == {serial})
    eventually(lambda: below.heard == [1, 2, 3])


def test_x4_a_reload_into_fresh_workers_keeps_the_zone_also_without_the_primary(two, eventually):
    store, _, copy, primary, below = two()
    store.save(zone(2))
    notify(copy.address)
    eventually(lambda: asked(copy.address) == {2})
    eventually(lambda: below.heard == [1, 2])
    primary.stop()
    pids = copy.pids
    over, found = threading.Event(), set()

    def ask_on():
        while not over.is_set():
            found.update(asked(copy.address, 1))

    asking = threading.Thread(target=ask_on)
    asking.start()
    copy.reload()
    over.set()
    asking.join()
    assert not set(pids) & set(copy.pids) and found == {2} == asked(copy.address)
    assert copy.group.on_duty.pid in copy.pids and below.heard == [1, 2]  # nobody is told again


def test_x4_a_copy_expires_in_every_worker(two, eventually):
    _, _, copy, primary, _ = two(expire=4)
    primary.stop()
    eventually(lambda: asked(copy.address) == {"rcode 2"})


def test_x5_a_primary_of_two_workers_tells_once_of_each_version_when_all_have_it(
    server, tmp_path, eventually
):
    below = Below()
    try:
        (tmp_path / "e.test.zone").write_text(ZONE.format(serial=1, expire=9))
        path = tmp_path / "primary.py"
        path.write_text(
            "from toolips_udp import dns\n"
            f"store = dns.ZoneStore({str(tmp_path)!r})\nstore.load()\ntransfers = dns.Transfers()\n"
            f"transfers.notify('e.test', '127.0.0.1:{below.port}')\nstore.changed.append(transfers.changed)\n"
            "service = dns.Service(store, transfers=transfers)\n"
        )
        running = server(module=str(path), mode=(UDP, TCP), workers=2)
        eventually(lambda: below.heard == [1])
        (tmp_path / "e.test.zone").write_text(ZONE.format(serial=2, expire=9))
        running.reload()
        eventually(lambda: below.heard == [1, 2])
        running.reload()
        assert asked(running.address) == {2} and below.heard == [1, 2]
    finally:
        below.close()


def test_x5_a_server_of_one_process_tells_of_its_zones_when_it_starts(server, eventually):
    below = Below()
    try:
        transfers = ours.Transfers()
        transfers.notify("e.test", f"127.0.0.1:{below.port}")
        server(ours.Service(zone(5), transfers=transfers))
        eventually(lambda: below.heard == [5])
    finally:
        below.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_x3_who_takes_over_at_a_reload_knows_the_changes_from_before_and_of_the_reload(
    server, tmp_path, eventually, workers
):
    file = tmp_path / "e.test.zone"
    file.write_text(ZONE.format(serial=1, expire=9))
    path = tmp_path / "primary.py"
    path.write_text(
        "from toolips_udp import dns\n"
        f"store = dns.ZoneStore({str(tmp_path)!r})\nstore.load()\ntransfers = dns.Transfers()\n"
        "transfers.allow('e.test', [('127.0.0.1', None)])\nstore.changed.append(transfers.changed)\n"
        "service = dns.Service(store, transfers=transfers)\n"
    )
    running = server(module=str(path), mode=(UDP, TCP), workers=workers)
    assert histories(running.address, 1) == {(1,)}
    file.write_text(ZONE.format(serial=2, expire=9))
    running.reload()
    eventually(lambda: histories(running.address, 1) == {(2, 1, 2, 2)})  # found while it serves already
    running.reload()
    assert histories(running.address, 1) == {(2, 1, 2, 2)}
    file.write_text(ZONE.format(serial=3, expire=9))
    running.reload()
    eventually(lambda: histories(running.address, 1) == {(3, 1, 2, 2, 3, 3)})
    assert histories(running.address, 2) == {(3, 2, 3, 3)}
    assert histories(running.address, 3) == {(3,)}


def test_x3_a_secondary_of_two_workers_keeps_its_history_over_a_reload(two, eventually):
    store, _, copy, _, _ = two()
    store.save(zone(2))
    notify(copy.address)
    eventually(lambda: histories(copy.address, 1) == {(2, 1, 2, 2)})
    copy.reload()
    assert histories(copy.address, 1) == {(2, 1, 2, 2)}
    store.save(zone(3))
    notify(copy.address)
    eventually(lambda: histories(copy.address, 1) == {(3, 1, 2, 2, 3, 3)})
