"""T1: one service on many addresses and several workers; sockets outlive reloads and workers (spec sections 8, 9)."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import free_port
from toolips_udp import TCP, UDP
from toolips_udp.dns.message import Message, ask
from toolips_udp.errors import StartError, ToolipsError

ROOT = Path(__file__).parents[2]
ZONE = "@ 60 SOA a b 1 2 3 4 5\n@ NS a\nwww 60 A 192.0.2.1\n"
HAVE_H2 = all(importlib.util.find_spec(name) for name in ("h2", "hypercorn"))


class Client:
    """Asks one port over one transport, each time from a new socket."""

    def __init__(self, kind, port, certificate, timeout=10):
        self.kind, self.port, self.timeout = kind, port, timeout
        self.context = ssl.create_default_context(cafile=certificate[0])
        self.context.set_alpn_protocols({"tls": ["dot"], "https": ["http/1.1"]}.get(kind, []))

    def address(self, name="www.example.org"):
        """The last octet of the answer's address, or the RCODE as text."""
        reply = Message.parse(getattr(self, "_" + self.kind)(ask(name, "A").encode()))
        return reply.answer[-1].data[-1] if reply.answer else f"rcode {reply.rcode}"

    def _udp(self, packet):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(self.timeout)
            sock.sendto(packet, ("127.0.0.1", self.port))
            return sock.recv(4096)

    def _tcp(self, packet, wrap=contextlib.nullcontext):
        with socket.create_connection(("127.0.0.1", self.port), self.timeout) as plain, wrap(plain) as sock:
            sock.sendall(len(packet).to_bytes(2, "big") + packet)
            file = sock.makefile("rb")
            return file.read(int.from_bytes(file.read(2), "big"))

    def _tls(self, packet):
        return self._tcp(packet, lambda plain: self.context.wrap_socket(plain, server_hostname="localhost"))

    def _https(self, packet):
        made = http.client.HTTPSConnection("localhost", self.port, context=self.context, timeout=self.timeout)
        with contextlib.closing(made):
            made.request("POST", "/dns-query", packet, {"content-type": "application/dns-message"})
            return made.getresponse().read()


class Served:
    """`toolips-udp dns serve FILE` in a process of its own, and everything that it says."""

    def __init__(self, file, certificate):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(certificate[0])}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "toolips_udp", "dns", "serve", str(file)],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []
        self.reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr))
        self.reader.start()

    def wait_for(self, text, within=60):
        end = time.monotonic() + within
        while not any(text in line for line in list(self.said)):
            assert self.process.poll() is None and time.monotonic() < end, "".join(self.said)
            time.sleep(0.02)

    def workers(self):
        found = " ".join(p.read_text() for p in Path(f"/proc/{self.process.pid}/task").glob("*/children"))
        return sorted(map(int, found.split()))

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.reader.join()
        self.process.stderr.close()
        return code


SAMPLE = """
[service]
listen = ["127.0.0.1:{plain}", "tls://127.0.0.1:{tls}"{https}]
id = "ns1"
workers = 2
tls = {{ certificate = "{certificate}", key = "{key}" }}
access = {{ recursion = ["127.0.0.0/8", "::1", "10.0.0.0/8"] }}
cache = {{ size = "8MiB", stale = "1d" }}
handlers = "answers.py"
[[key]]
name = "xfr"
secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"
[[zone]]
name = "example.org"
file = "zones/example.org.zone"
transfer_to = [{{ address = "192.0.2.53", key = "xfr" }}]
[[forward]]
zone = "."
to = ["tls://127.0.0.1:{tls}#localhost", "tls://127.0.0.9:{tls}#localhost"]
[[blocklist]]
file = "lists/*.txt"
"""


@pytest.fixture
def sample(tmp_path, certificate):
    """The configuration of the specification, with ports and a certificate of this test."""
    (tmp_path / "zones").mkdir()
    (tmp_path / "zones/example.org.zone").write_text(ZONE)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/ads.txt").write_text("||ads.example.org^\n")
    (tmp_path / "answers.py").write_text(
        "from toolips_udp import dns\nservice = dns.Service()\n"
        "@service.answers('here.example.org', 'A')\ndef here(q):\n    return dns.A('192.0.2.99', ttl=0)\n"
    )
    ports = {"plain": free_port(), "tls": free_port(), "https": free_port()}
    https = f', "https://127.0.0.1:{ports["https"]}/dns-query"' if HAVE_H2 else ""
    file = tmp_path / "server.toml"
    file.write_text(
        SAMPLE.format(**{**ports, "https": https}, certificate=certificate[0], key=certificate[1])
    )
    running = Served(file, certificate)
    try:
        running.wait_for("2 workers")
        clients = [Client(kind, ports["plain"], certificate) for kind in ("udp", "tcp")]
        clients += [Client(kind, ports[kind], certificate) for kind in ("tls", "https")[: 1 + HAVE_H2]]
        yield running, {client.kind: client for client in clients}, tmp_path
        assert running.end() == 0, "".join(running.said)
    finally:
        running.end()


def held(pid, ports):
    """The sockets on these ports that wait for clients, and that this process holds."""
    waiting = set()
    for kind, state in (("tcp", "0A"), ("udp", "07")):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) in ports and fields[3] == state:
                waiting.add(f"socket:[{fields[9]}]")
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(fd))
    return waiting & found


def test_t1_the_sample_configuration_serves_every_address_with_two_workers_through_reload_and_kill(sample):
    running, clients, folder = sample
    ports = {client.port for client in clients.values()}
    before = held(running.process.pid, ports)
    assert len(before) == 2 * len(clients)  # one per worker

    def all_say(number, times=6):
        for client in clients.values():
            assert [client.address() for _ in range(times)] == [number] * times, client.kind

    all_say(1)
    for client in clients.values():
        assert client.address("here.example.org") == 99 and client.address("x.ads.example.org") == "rcode 3"
    text = (folder / "zones/example.org.zone").read_text()
    (folder / "zones/example.org.zone").write_text(text.replace("192.0.2.1", "192.0.2.2"))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("was reloaded")
    all_say(2)
    serving = running.workers()
    os.kill(serving[-2] if len(serving) > 2 else serving[0], signal.SIGKILL)
    all_say(2)
    assert held(running.process.pid, ports) == before  # those of the start, all of them, and still open
    assert running.process.poll() is None


@pytest.mark.skipif(
    not (shutil.which("dig") and shutil.which("kdig")),
    reason="dig or kdig is not installed (Debian: bind9-dnsutils, knot-dnsutils)",
)
def test_t1_dig_and_kdig_ask_each_address_before_and_after_a_reload_and_a_kill(sample):
    running, clients, _ = sample

    def dug(program, kind):
        words = [
            program,
            "@127.0.0.1",
            "-p",
            str(clients[kind].port),
            "www.example.org",
            "A",
            "+short",
            "+time=5",
        ]
        words += {"udp": [], "tcp": ["+tcp"], "tls": ["+tls"], "https": ["+https"]}[kind]
        return subprocess.run(words, capture_output=True, text=True, timeout=30).stdout.strip()

    def all_dig():
        for program in ("dig", "kdig"):
            assert {kind: dug(program, kind) for kind in clients} == dict.fromkeys(clients, "192.0.2.1"), (
                program
            )

    all_dig()
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("was reloaded")
    all_dig()
    for pid in running.workers()[:1]:
        os.kill(pid, signal.SIGKILL)
    all_dig()


MODULE = """
from toolips_udp import dns
service = dns.Service(dns.Zone.from_text({zone!r}, "example.org"), listen={listen!r}, tls={tls!r})
"""


@pytest.fixture
def module(tmp_path, certificate):
    """`module(*listen)` writes one with a service on these addresses; its path."""

    def write(*listen):
        path = tmp_path / "served_on_many.py"
        path.write_text(MODULE.format(zone=ZONE, listen=listen, tls=tuple(map(str, certificate))))
        return str(path)

    return write


def test_t1_what_waits_in_a_further_socket_is_answered_when_its_worker_is_killed(
    server, module, certificate, eventually
):
    port, tls = free_port(), free_port()
    running = server(module=module(f"127.0.0.1:{port}", f"tls://127.0.0.1:{tls}"), mode=(UDP, TCP), workers=2)
    eventually(lambda: running.group.spare is not None)
    clients = [Client(kind, at, certificate) for kind, at in [("udp", port), ("tcp", port), ("tls", tls)] * 8]
    serving = running.pids
    for pid in serving:
        os.kill(pid, signal.SIGSTOP)
    answers = []
    asking = [threading.Thread(target=lambda c=client: answers.append(c.address())) for client in clients]
    for thread in asking:
        thread.start()
    time.sleep(0.2)  # they wait now, in the sockets of workers that do nothing
    assert not answers
    for pid in serving:
        os.kill(pid, signal.SIGKILL)
    for thread in asking:
        thread.join(20)
    assert answers == [1] * len(clients)
    assert running.counters["worker_lost"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_t1_a_reload_loses_no_question_at_a_further_address(server, module, certificate, workers):
    port, tls = free_port(), free_port()
    path = module(f"127.0.0.1:{port}", f"tls://127.0.0.1:{tls}")
    running = server(module=path, mode=(UDP, TCP), workers=workers)
    clients = [Client(kind, at, certificate) for kind, at in (("udp", port), ("tcp", port), ("tls", tls))]
    over, wrong, asked = threading.Event(), [], []

    def ask_on(client):
        while not over.is_set():
            try:
                found = client.address()
            except (OSError, ToolipsError) as error:
                found = error
            asked.append(found)
            if found not in (1, 2):
                wrong.append((client.kind, found))

    asking = [threading.Thread(target=ask_on, args=(client,)) for client in clients]
    for thread in asking:
        thread.start()
    text = Path(path).read_text()
    for number in (2, 1, 2):
        Path(path).write_text(text.replace("192.0.2.1", f"192.0.2.{number}"))
        running.reload()
        assert [client.address() for client in clients] == [number] * 3
    over.set()
    for thread in asking:
        thread.join(20)
    assert not wrong and len(asked) > 10


@pytest.mark.parametrize("workers", [1, 2])
def test_t1_a_reload_keeps_the_addresses_and_says_so(server, module, certificate, workers):
    port = free_port()
    path = module(f"tcp://127.0.0.1:{port}")
    running = server(module=path, mode=UDP, workers=workers)
    module(f"tcp://127.0.0.1:{port}", f"udp://127.0.0.1:{port}")
    with pytest.raises(StartError, match="A reload keeps the addresses"):
        running.reload()
    assert Client("tcp", port, certificate).address() == 1


def test_t1_further_addresses_are_counted_and_named_and_a_taken_one_is_refused(
    server, module, certificate, eventually, caplog
):
    port = free_port()
    caplog.set_level("INFO")
    running = server(module=module(f"127.0.0.1:{port}"), mode=UDP, workers=2)
    assert f"udp://127.0.0.1:{port}, tcp://127.0.0.1:{port}" in caplog.text
    for kind in ("udp", "tcp"):
        assert [Client(kind, port, certificate).address() for _ in range(10)] == [1] * 10
    eventually(lambda: running.counters["received"] == running.counters["handled"] == 20)
    with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
        server(module=module(f"127.0.0.1:{port}"), mode=UDP)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: run the tests as root")
def test_t3_workers_that_became_nobody_have_read_a_key_that_only_root_may_read(server, module, certificate):
    ports = {"tls": free_port(), "https": free_port()}
    listen = [f"{kind}://127.0.0.1:{port}" for kind, port in ports.items()]
    path = module(*listen[: 1 + HAVE_H2])
    mode = os.stat(certificate[1]).st_mode
    os.chmod(certificate[1], 0o600)
    try:
        running = server(module=path, mode=(UDP, TCP), workers=2, user="nobody", harden=True)
        clients = [Client(kind, ports[kind], certificate) for kind in list(ports)[: 1 + HAVE_H2]]
        assert [client.address() for client in clients * 4] == [1] * 4 * len(clients)
        running.reload()
        assert [client.address() for client in clients * 4] == [1] * 4 * len(clients)
        assert not running.refused_calls
    finally:
        os.chmod(certificate[1], mode)


LAUNCH = (
    "import os, sys; fds = [int(fd) for fd in sys.argv[1].split(',')]; "
    "[os.dup2(fd, 3 + n, True) for n, fd in enumerate(fds)]; "
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds))); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_t1_a_further_socket_of_systemd_is_served_with_what_waited_in_it(tmp_path, certificate, workers):
    (tmp_path / "example.org.zone").write_text(ZONE)
    with socket.socket() as inherited:
        inherited.bind(("127.0.0.1", 0))
        inherited.listen(16)
        port = inherited.getsockname()[1]
        early, answers = Client("tcp", port, certificate, timeout=60), []
        asking = threading.Thread(target=lambda: answers.append(early.address()))
        asking.start()
        words = ["-m", "toolips_udp", "dns", "serve", "--zones-dir", str(tmp_path), "--workers", workers]
        words += ["--listen", f"127.0.0.1:{free_port()}", "--listen", f"tcp://127.0.0.1:{port}"]
        high = os.dup(inherited.fileno())
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(high), *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, pass_fds=[high],
        )  # fmt: skip
        os.close(high)
        try:
            asking.join()
            assert answers == [1] == [Client("tcp", port, certificate).address()]
        finally:
            process.terminate()
            assert process.wait(20) == 0
