"""Rows of the list of bad inputs and events that no other file tries: see tests/house/rows.txt for all of them."""

import asyncio
import base64
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from toolips_udp import handler, messages
from toolips_udp.dns.settings import KeyTable
from toolips_udp.dns.tsig import Keys
from toolips_udp.game import Game

ROOT = Path(__file__).parents[2]


def child(program, *wrapper, timeout=60):
    """What a program in a process of its own prints; it must end well."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


# ---- N: network and sockets ----


def test_n1_half_of_the_clients_die_and_a_broadcast_reaches_all_others(server, transport, peer, eventually):
    @handler
    def main(c):
        c.session["here"] = True
        c.respond(c.packet)

    running = server(main)
    clients = [peer(running.address) for _ in range(20)]
    for client in clients:
        assert client.ask(b"hello") == b"hello"
    for client in clients[::2]:
        client.close()
    for round_ in range(5):
        assert running.broadcast(b"%d" % round_) == 20
        for client in clients[1::2]:
            assert client.recv(100) == b"%d" % round_
    assert clients[1].ask(b"still here") == b"still here"
    eventually(lambda: running.counters["send_queued"] == 20 + 100 + 1)


PATH_OF_1280 = """
import os, socket, subprocess, sys
from types import SimpleNamespace
from toolips_udp import UDP, handler, serve

subprocess.run(["ip", "link", "set", "lo", "mtu", "1280", "up"], check=True)

@handler
def main(c):
    for n in range(10):
        c.respond(bytes([n]) * 1400)  # longer than a packet of this path: as one message with segments it is refused
    c.respond(bytes(60_000))

with serve(UDP, SimpleNamespace(main=main), "127.0.0.1:0", control=False, transport=sys.argv[1]) as server:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.connect(server.address.sockaddr())
        for _ in range(3):
            client.send(b"x")
            assert [client.recv(65536) for _ in range(11)] == [*(bytes([n]) * 1400 for n in range(10)), bytes(60_000)]
c = server.counters
assert c["send_queued"] == c["sent"] == 33, dict(c)
"""


@pytest.mark.skipif(not shutil.which("unshare") or not shutil.which("ip"), reason="needs unshare and ip")
def test_n2_answers_longer_than_a_narrow_path_arrive_whole_and_in_order(transport):
    wrapper = ("unshare", "-rn")
    if subprocess.run([*wrapper, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    child(PATH_OF_1280.replace("sys.argv[1]", repr(transport)), *wrapper)


def test_n4_a_storm_of_signals_in_the_loop_loses_and_repeats_nothing(server, transport, peer):
    running = server(handler(lambda c: c.respond(c.packet)))
    client = peer(running.address)
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    over = threading.Event()

    def storm():
        while not over.is_set():
            signal.pthread_kill(running._thread_id, signal.SIGUSR2)
            time.sleep(0.0001)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        for first in range(0, 5000, 50):
            wanted = [b"%d" % n for n in range(first, first + 50)]
            for packet in wanted:
                client.send(packet)
            assert [client.recv(100) for _ in wanted] == wanted
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR2, before)
    assert running.counters["handled"] == running.counters["sent"] == 5000


NO_DESCRIPTORS = """
import os, resource, socket
from types import SimpleNamespace
from toolips_udp import TCP, UDP, handler, serve

@handler
async def main(c):
    c.respond("line" if hasattr(c, "lines") else c.packet)

with serve((UDP, TCP), SimpleNamespace(main=main), "127.0.0.1:0", control=False) as server:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, socket.socket() as late:
        client.settimeout(10)
        client.connect(server.address.sockaddr())
        late.settimeout(10)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        late.connect(server.addresses[TCP].sockaddr())
        for n in range(200):
            client.send(b"%d" % n)
            assert client.recv(10) == b"%d" % n
        try:
            assert late.recv(10) == b""  # refused, not left to wait
        except ConnectionResetError:
            pass
        for fd in taken:
            os.close(fd)
    with socket.create_connection((server.address.host, server.address.port), timeout=10) as stream:
        assert stream.recv(10) == b"line"  # it accepts again
"""


def test_n10_udp_is_served_on_while_no_descriptor_is_left():
    child(NO_DESCRIPTORS)


def pairs_of_houses():
    from toolips_udp import dns

    zone = dns.Zone.from_text(
        "$ORIGIN example.test.\n$TTL 60\n@ SOA ns. me. 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
    )
    return {
        "dns": lambda: dns.Service(zone),
        "game": lambda: Game(),
        "messages": lambda: messages.Messages(token="a token of this test"),
    }


@pytest.mark.parametrize("house", ["dns", "game", "messages"])
def test_n13_two_servers_of_a_house_exchange_at_most_one_more_packet(server, house):
    make = pairs_of_houses()[house]
    one = server(module=SimpleNamespace(house=make()), transport="native")
    other = server(module=SimpleNamespace(house=make()), transport="native")
    dice = random.Random(13)
    question = bytes.fromhex("abcd01000001000000000000") + b"\x02ns\x07example\x04test\0\0\x01\0\x01"
    seeds = [
        question,
        question[:12],
        question[:-3],
        question[:2] + b"\x28" + question[3:],
        b"",
        b"\0",
        bytes(1200),
    ]
    seeds += [
        bytes.fromhex("8fff0000") + dice.randbytes(44),
        b"\x8f\xff\0\0\x82\xff\0\1" + bytes(40),
    ]  # ENet: connect
    seeds += [dice.randbytes(dice.choice([1, 4, 12, 48, 60, 400])) for _ in range(150)]
    for seed in seeds:
        one.send(seed, other.address)
    last, quiet = -1, 0
    while quiet < 15:  # until nothing has moved for a while
        time.sleep(0.02)
        now = one.counters["received"] + other.counters["received"]
        quiet, last = (quiet + 1 if now == last else 0), now
    assert other.counters["received"] == len(seeds)
    assert one.counters["received"] <= len(seeds), "an answer to an answer"


# ---- P: payload and handler ----


def test_p4_one_packet_in_a_hundred_raises_and_every_other_one_is_answered(server, transport, peer, caplog):
    caplog.set_level(logging.CRITICAL, "toolips_udp")

    @handler
    def main(c):
        number = int(c.text)
        if number % 100 == 7:
            raise RuntimeError(f"poison {number}")
        c.respond(c.packet)

    running = server(main)
    client = peer(running.address)
    for first in range(0, 5000, 50):
        for n in range(first, first + 50):
            client.send(b"%d" % n)
        wanted = [b"%d" % n for n in range(first, first + 50) if n % 100 != 7]
        assert [client.recv(100) for _ in wanted] == wanted
    assert running.counters["handler_failed"] == 50 and running.counters["handled"] == 4950


def test_p8_text_of_every_byte_never_raises_and_what_is_no_utf8_is_replaced(server, transport, peer):
    client = peer(server(handler(lambda c: c.respond(c.text))).address)
    for packet in [bytes([n]) for n in range(256)] + [
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"a\0b\r\n\x1b[2J",
    ]:
        assert client.ask(packet) == packet.decode("utf-8", "replace").encode()


def test_p10_answers_twice_from_another_thread_and_after_the_stop(server, transport, peer):
    kept = []

    @handler
    def main(c):
        if c.text == "twice":
            c.respond("one")
            c.respond("two")
        else:
            kept.append(c)
            thread = threading.Thread(target=lambda: c.respond("from a thread"))
            thread.start()
            thread.join()

    running = server(main)
    client = peer(running.address)
    assert client.ask(b"twice") == b"one" and client.recv(10) == b"two"
    assert client.ask(b"thread") == b"from a thread"
    running.stop()
    kept[0].respond("too late")  # counted, without an exception
    kept[0].send("too late", client.getsockname())


# ---- L: life ----


def test_l7_the_page_of_metrics_does_not_grow_with_sources_and_holds_nothing_of_theirs(server, peer):
    import urllib.request

    @handler
    def main(c):
        if c.packet.startswith(b"\xff"):
            raise ValueError(c.text)
        c.session["seen"] = True
        c.respond(c.packet)

    running = server(main, admin="127.0.0.1:0")

    def page():
        with urllib.request.urlopen(f"http://{running.admin.address}/metrics", timeout=10) as answer:
            return answer.read().decode()

    before = [line.rpartition(" ")[0] for line in page().splitlines() if not line.startswith("#")]
    for n in range(1, 1001):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((f"127.{n % 250 + 1}.{n // 250}.9", 0))
            client.settimeout(10)
            client.sendto(b'\xffevil"}\n' if n % 50 == 0 else b'evil"}\n%d' % n, running.address.sockaddr())
            if n % 50:
                client.recv(100)
    after = page()
    assert [line.rpartition(" ")[0] for line in after.splitlines() if not line.startswith("#")] == before
    assert "evil" not in after and "127." not in after


def test_l9_no_secret_is_in_a_log_line_a_repr_or_a_setting(server, caplog):
    caplog.set_level(logging.DEBUG)
    token, wrong = "a-token-nobody-may-read", "a-wrong-one-nobody-may-read"
    key = base64.b64encode(b"a key nobody may read").decode()
    house = messages.Messages(token=token)
    running = server(module=SimpleNamespace(house=house), transport="native")

    async def talk():
        async with messages.connect(token, str(running.address)) as client:
            said.append(repr(client))
        with pytest.raises(messages.LoginError):
            async with messages.connect(wrong, str(running.address)):
                pass

    said = [
        repr(house),
        repr(running),
        repr(running.settings),
        repr(running.manifest),
        repr(vars(running.manifest)),
        repr(KeyTable("xfr", key)),
        repr(Keys({"xfr": ("hmac-sha256", key)})),
    ]
    asyncio.run(talk())
    running.stop()
    text = "\n".join([*said, *caplog.messages, *(repr(vars(record)) for record in caplog.records)])
    for secret in (token, wrong, key, running.secret.hex(), repr(running.secret)):
        assert secret not in text


def test_l4_sigterm_during_the_start_and_twice(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\nfrom types import SimpleNamespace\nfrom toolips_udp import UDP, Extension, handler, start\n"
        "class Slow(Extension):\n    def on_start(self, server):\n        print('starts', flush=True); time.sleep(1)\n"
        "    def on_stop(self, server):\n        print('stopped', flush=True)\n"
        "@handler\nasync def main(c):\n    import asyncio\n    await asyncio.sleep(60)\n"
        "server = start(UDP, SimpleNamespace(slow=Slow(), main=main), '127.0.0.1:0', control=False, drain=30)\n"
        "print(server.address.port, flush=True)\nserver.wait()\n"
    )

    def run():
        return subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    with run() as during:
        assert during.stdout.readline() == "starts\n"
        during.send_signal(signal.SIGTERM)
        _, errors = during.communicate(timeout=30)
        assert during.returncode in (0, -signal.SIGTERM) and "Traceback" not in errors, errors
    with run() as twice:
        twice.stdout.readline()
        port = int(twice.stdout.readline())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"waits a minute", ("127.0.0.1", port))
            time.sleep(0.3)
            twice.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert twice.poll() is None  # it drains
            twice.send_signal(signal.SIGTERM)
            _, errors = twice.communicate(timeout=10)
        assert twice.returncode != 0 and "Traceback" not in errors, errors
