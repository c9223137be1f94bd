"""DNS servers as contenders: `python bench/peers/dns_peer.py KIND FOLDER [BACKEND [LOAD]]` prints "ready PORT".

FOLDER holds `bench.zone` (the zone bench.test) and what the kinds of ours read. Programs, with one UDP
worker and rate limits off: nsd, knot serve the zone; unbound, dnsdist ask the server at port BACKEND.
unbound-dot is unbound over TLS too, with FOLDER/cert.pem and key.pem, and the port is that of TLS.
dnslib is its codec on a uvloop DatagramProtocol. Ours: zone (the zone image), stored (the same from a
store, which reloads), tcp (over TCP, up to 1,000 connections), dot (over TLS), limited (replies to every
address that showed no cookie are limited), many (every `*.zone` of FOLDER/zones), python (a `def` handler),
logged (the zone, and 1 % of the answers in FOLDER/log), tapped and tapped-all (1 % of them, or all, as dnstap
to FOLDER/tap), waiting (an
`async def` that waits 100 ms), forward (asks BACKEND), blocking (a list, FOLDER/blocked.txt, before
the zone). With LOAD, the program of the generator, every name of FOLDER/asked.txt is asked before
"ready": what has a cache is measured with a full one. After "ready" one of ours takes commands on
stdin and answers each with a line of JSON: `reload` says how long that took, `held` how many answers
its cache holds.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

NSD = """
server:
  ip-address: 127.0.0.1@{port}
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  database: ""
  pidfile: "{folder}/pid"
  xfrdfile: "{folder}/xfrd"
  zonelistfile: "{folder}/zones"
  server-count: 1
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
  verbosity: 0
remote-control:
  control-enable: no
zone:
  name: bench.test
  zonefile: "{zone}"
"""
KNOT = """
server:
  rundir: "{folder}"
  listen: 127.0.0.1@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "{folder}"
log:
  - target: stderr
    any: error
zone:
  - domain: bench.test
    file: "{zone}"
    zonefile-load: whole
    journal-content: none
"""
UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  directory: "{folder}"
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  verbosity: 0
  num-threads: 1
  outgoing-range: 8192
  num-queries-per-thread: 4096
  msg-cache-size: 256m
  rrset-cache-size: 512m
  so-rcvbuf: 4m
  incoming-num-tcp: 100
  module-config: "iterator"
  minimal-responses: yes
  do-not-query-localhost: no
  local-zone: "test." nodefault
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{backend}
"""
UNBOUND_DOT = UNBOUND.replace(
    "  directory:",
    """  interface: 127.0.0.1@{tls_port}
  tls-port: {tls_port}
  tls-service-key: "{source}/key.pem"
  tls-service-pem: "{source}/cert.pem"
  directory:""",
)
DNSDIST = """
setSecurityPollSuffix("")
setLocal("127.0.0.1:{port}")
setACL("127.0.0.0/8")
newServer({{address="127.0.0.1:{backend}", checkName="bench.test.", checkType="SOA"}})
setMaxUDPOutstanding(65535)
setUDPMultipleMessagesVectorSize(100)
setRingBuffersSize(1000, 1)
getPool(""):setCache(newPacketCache(1000000, {{maxTTL=86400, numberOfShards=1}}))
"""
PROGRAMS = {
    "nsd": (NSD, ["nsd", "-d", "-c"]),
    "knot": (KNOT, ["knotd", "-c"]),
    "unbound": (UNBOUND, ["unbound", "-d", "-c"]),
    "unbound-dot": (UNBOUND_DOT, ["unbound", "-d", "-c"]),
    "dnsdist": (DNSDIST, ["dnsdist", "--supervised", "--disable-syslog", "-C"]),
}
PROBE = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\5bench\4test\0\0\6\0\1"


def free_port() -> int:
    """A port of 127.0.0.1 that is free for UDP and for TCP."""
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port = int(udp.getsockname()[1])
            try:
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit("no port is free for UDP and TCP")


def wait_for_answer(port: int, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        while time.monotonic() < until:
            try:
                sock.send(PROBE)
                if sock.recv(512)[3] & 15 == 0:
                    return
                time.sleep(0.05)
            except OSError:
                time.sleep(0.02)
    raise SystemExit("the peer does not answer")


def warm(port: int, folder: Path, load: str) -> None:
    """Asks every name once: one socket goes through the list, as long as a slow server needs."""
    if load:
        how = "--edns --sockets 1 --in-flight 64 --warmup 0 --seconds 1 --names"
        command = [load, f"127.0.0.1:{port}", *how.split(), str(folder / "asked.txt")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def program(kind: str, folder: Path, backend: str, load: str) -> None:
    port, tls_port = free_port(), free_port()
    text, command = PROGRAMS[kind]
    with tempfile.TemporaryDirectory() as own:
        config = Path(own, "config")
        words = {"port": port, "tls_port": tls_port, "folder": own, "source": folder, "backend": backend}
        config.write_text(text.format(zone=folder / "bench.zone", **words))
        process = subprocess.Popen(
            [*command, str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sys.stderr
        )
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        wait_for_answer(port)
        warm(port, folder, load)
        print("ready", tls_port if kind.endswith("-dot") else port, flush=True)
        process.wait()


def answering(kind: str, folder: Path, backend: str):
    """The service of one of our kinds."""
    from toolips_udp import dns
    from toolips_udp.dns.dnstap import Dnstap
    from toolips_udp.dns.querylog import QueryLog

    if kind in ("zone", "tcp", "logged", "tapped", "tapped-all"):
        service = dns.Service(dns.Zone.load(folder / "bench.zone", origin="bench.test"))
        if kind == "logged":
            service.query_log = QueryLog(folder / "log", 0.01)
        if kind.startswith("tapped"):
            service.dnstap = Dnstap(folder / "tap", 1.0 if kind == "tapped-all" else 0.01)
        return service
    if kind == "dot":
        tls = str(folder / "cert.pem"), str(folder / "key.pem")
        zone = dns.Zone.load(folder / "bench.zone", origin="bench.test")
        return dns.Service(zone, listen=["tls://127.0.0.1:0"], tls=tls)
    if kind == "limited":
        zone = dns.Zone.load(folder / "bench.zone", origin="bench.test")
        return dns.Service(zone, limit=dns.RateLimit(trusted=()))
    if kind == "stored":
        store = dns.ZoneStore(files={"bench.test": folder / "bench.zone"})
        store.load()
        return dns.Service(store)
    if kind == "many":
        return dns.Service(*(dns.Zone.load(path) for path in sorted(folder.glob("zones/*.zone"))))
    if kind == "forward":
        return dns.Service(dns.Forward(f"127.0.0.1:{backend}"), cache_size=64 << 20)
    if kind == "blocking":
        zone = dns.Zone.load(folder / "bench.zone", origin="bench.test")
        return dns.Service(dns.Blocklist(str(folder / "blocked.txt")), zone)
    service = dns.Service()
    if kind == "python":

        @service.answers("*.bench.test", "A")
        def answer(q):
            return dns.A("10.0.0.1", ttl=60)
    else:

        @service.answers("*.bench.test", "A", at_most=4096)
        async def wait_and_answer(q):
            await asyncio.sleep(0.1)
            return dns.A("10.0.0.1", ttl=60)

    return service


def ours(kind: str, folder: Path, backend: str, load: str) -> None:
    from toolips_udp import TCP, UDP, start

    service = answering(kind, folder, backend)
    modes = (UDP, TCP) if kind == "tcp" else UDP
    server = start(modes, types.SimpleNamespace(service=service, __name__="bench"), "127.0.0.1:0")
    warm(server.address.port, folder, load)
    port = server.modes[-1].address.port if kind == "dot" else server.address.port
    print("ready", port, flush=True)

    def commands() -> None:
        for line in sys.stdin:
            if line.strip() == "held":
                print(json.dumps({"held": len(service.half.cache)}), flush=True)
                continue
            began = time.perf_counter()
            problems = service.reload()
            print(json.dumps({"seconds": time.perf_counter() - began, "problems": problems}), flush=True)

    threading.Thread(target=commands, daemon=True).start()
    server.wait()  # until SIGTERM, which drains
    server.stop()


async def codec() -> None:
    """What a Python programmer would write without a toolkit: uvloop, and dnslib to read and write."""
    import dnslib

    class Answers(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.sendto = transport.sendto

        def datagram_received(self, data, address):
            asked = dnslib.DNSRecord.parse(data)
            reply = asked.reply()
            reply.add_answer(dnslib.RR(asked.q.qname, dnslib.QTYPE.A, rdata=dnslib.A("10.0.0.1"), ttl=60))
            self.sendto(reply.pack(), address)

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    await asyncio.get_running_loop().create_datagram_endpoint(Answers, sock=sock)
    print("ready", sock.getsockname()[1], flush=True)
    await asyncio.Event().wait()


def main(kind: str, folder: str, backend: str = "0", load: str = "") -> None:
    if kind in PROGRAMS:
        program(kind, Path(folder).resolve(), backend, load)
    elif kind == "dnslib":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(codec())
    else:
        ours(kind, Path(folder).resolve(), backend, load)


if __name__ == "__main__":
    main(*sys.argv[1:])
