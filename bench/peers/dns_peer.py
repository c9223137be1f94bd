"""DNS servers as contenders: `python bench/peers/dns_peer.py KIND ZONEFILE` prints "ready PORT".

Kinds: nsd, knot (the installed programs, one UDP worker, rate limits off), dnslib (its codec
on a uvloop DatagramProtocol, answers from a dict), ours (the zone image), ours-python (a `def` handler).
The zone is bench.test.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
import time
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
PROBE = b"\x12\x34\0\0\0\1\0\0\0\0\0\0\5bench\4test\0\0\6\0\1"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for_answer(port: int) -> None:
    until = time.monotonic() + 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        while time.monotonic() < until:
            try:
                sock.send(PROBE)
                if sock.recv(512)[3] & 15 == 0:
                    return
            except OSError:
                time.sleep(0.05)
    raise SystemExit("the peer does not answer")


def program(kind: str, zone: str) -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config")
        text = (NSD if kind == "nsd" else KNOT).format(port=port, folder=folder, zone=Path(zone).resolve())
        config.write_text(text)
        command = ["nsd", "-d", "-c", str(config)] if kind == "nsd" else ["knotd", "-c", str(config)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        wait_for_answer(port)
        print("ready", port, flush=True)
        process.wait()


def ours(kind: str, zone: str) -> None:
    import types

    from toolips_udp import UDP, dns, start

    if kind == "ours":
        service = dns.Service(dns.Zone.load(zone, origin="bench.test"))
    else:
        service = dns.Service()

        @service.answers("*.bench.test", "A")
        def answer(q):
            return dns.A("10.0.0.1", ttl=60)

    server = start(UDP, types.SimpleNamespace(service=service, __name__="bench"), "127.0.0.1:0")
    print("ready", server.address.port, flush=True)
    server.wait()  # until SIGTERM, which drains
    server.stop()


async def codec(zone: str) -> None:
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


if __name__ == "__main__":
    kind, zone = sys.argv[1:3]
    if kind in ("nsd", "knot"):
        program(kind, zone)
    elif kind == "dnslib":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(codec(zone))
    else:
        ours(kind, zone)
