"""What one answer costs, from a zone, a cache, Python, a forwarder: parts of bench/dns.py."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import harness as h

from . import dns_work as work
from .dns_run import COLD, WAITING, Run, Samples, have, peer


def answering(run: Run, name: str, folder: Path, kinds: Sequence[str]) -> Samples:
    """The zone image, the cache and all peers, on one set of questions."""
    with h.Served(peer("nsd" if have("nsd") else "zone", folder), h.CLIENT_CORE) as behind:
        contenders = [
            *(peer(kind, folder) for kind in ("nsd", "knot", *kinds)),
            *(peer(kind, folder, behind.port, warm=True) for kind in ("unbound", "dnsdist", "forward")),
        ]
        return run.group(name, contenders, folder / "asked.txt")


def equal(run: Run) -> None:
    found = answering(run, "equal", work.equal(run.folder / "equal"), ("zone", "python", "dnslib"))
    run.row("equal names: zone / NSD", found, "zone", "nsd", 0.75)
    run.row("equal names: zone / Knot", found, "zone", "knot", 0.70)
    run.row("equal names: cache / Unbound, cache hit", found, "forward", "unbound", 0.65)
    run.row("equal names: cache / dnsdist, packet cache", found, "forward", "dnsdist", 0.65)
    run.row("equal names: cache / NSD", found, "forward", "nsd", 0.75)
    run.row("plain Python handler / NSD", found, "python", "nsd", 1.2)
    run.row("plain Python handler / uvloop + dnslib", found, "python", "dnslib", 0.10)


def mixed(run: Run) -> None:
    found = answering(run, "mixed", work.mixed(run.folder / "mixed"), ("zone",))
    run.row("mixed sizes: zone / NSD", found, "zone", "nsd", 0.88)
    run.row("mixed sizes: zone / Knot", found, "zone", "knot", None)
    run.row("mixed sizes: cache / Unbound, cache hit", found, "forward", "unbound", 0.75)
    run.row("mixed sizes: cache / dnsdist, packet cache", found, "forward", "dnsdist", None)


def absent(run: Run) -> None:
    folder = work.equal(run.folder / "absent")
    names = f"--names {work.one_in_ten_absent(folder)}"
    contenders = [
        peer("zone", folder),
        peer("zone", folder, name="zone, 10 % absent", load=names),
        peer("nsd", folder),
        peer("nsd", folder, name="nsd, 10 % absent", load=names),
    ]
    present = [c for c in contenders if have(c.name.partition(",")[0])]
    found = run.group("absent", present, folder / "asked.txt")
    run.row("10 % random absent names / none", found, "zone, 10 % absent", "zone", 1.3)
    run.row("NSD: 10 % random absent names / none", found, "nsd, 10 % absent", "nsd", None)


def zones(run: Run) -> None:
    one, many = work.zones(run.folder / "one", 1), work.zones(run.folder / "many", work.NAMES)
    contenders = [peer("many", one, name="1 zone"), peer("many", many, name="10,000 zones")]
    found = run.group("zones", contenders, one / "asked.txt")
    run.row("10,000 zones / 1 zone", found, "10,000 zones", "1 zone", 1.05)


def watched(run: Run) -> None:
    """The zone alone, with a query log of 1 %, with dnstap of 1 % and of all, to a reader on the other core."""
    folder = work.equal(run.folder / "watched")
    kinds = ("zone", "logged", "tapped", "tapped-all")
    with _reader(folder / "tap"):
        found = run.group("watched", [peer(kind, folder) for kind in kinds], folder / "asked.txt")
    run.row("query log, 1 % / none", found, "logged", "zone", 1.1)
    run.row("dnstap, 1 % / none", found, "tapped", "zone", 1.1)
    run.row("dnstap, every answer / none", found, "tapped-all", "zone", None)


@contextlib.contextmanager
def _reader(path: Path) -> Iterator[None]:
    """A reader of dnstap that throws away what it gets."""
    from toolips_udp.dns.dnstap import CONTENT_TYPE
    from toolips_udp.dns.framestream import ACCEPT, FINISH, STOP, control

    def take(sock: socket.socket) -> None:
        with sock:
            sock.recv(4096)
            sock.sendall(control(ACCEPT, CONTENT_TYPE))
            stop = control(STOP)
            while data := sock.recv(1 << 20):
                if data.endswith(stop):
                    sock.sendall(control(FINISH))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=take, args=listener.accept()[:1], daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=accept, daemon=True).start()
        yield


def cold(run: Run) -> None:
    folder = work.cold(run.folder / "cold")
    with h.Served(peer("nsd" if have("nsd") else "zone", folder), h.CLIENT_CORE) as behind:
        kinds = ("unbound", "dnsdist", "forward")
        contenders = [peer(kind, folder, behind.port) for kind in kinds]
        found = run.group("cold", contenders, folder / "asked.txt", COLD)
    run.row("forwarder, cold / Unbound forwarding", found, "forward", "unbound", 2.0)
    run.row("forwarder, cold / dnsdist", found, "forward", "dnsdist", 3.0)


def waiting(run: Run) -> None:
    folder = work.equal(run.folder / "waiting")
    load = "--sockets 8 --in-flight 256 --edns"
    name = "async, 2,048 wait 100 ms"
    found = run.group("waiting", [peer("waiting", folder, name=name)], folder / "asked.txt", load)[name]
    rate = h.Spread.of(h.column(found, "rate"))
    lost = sum(h.column(found, "lost"))
    good = rate.median >= WAITING and not lost
    cpu = str(h.Spread.of(h.column(found, "server_cpu_us_per_reply")))
    said = f"{'met' if good else 'missed'}, {lost:.0f} lost"
    run.table.append([name, cpu, f"{rate.median:,.0f}", "", "", f">= {WAITING:,}/s", said])
