"""What does one DNS answer cost the server's CPU, next to NSD, Knot, Unbound and dnsdist?

10,000 names, EDNS questions, 8 sockets with 16 in flight, one worker each: from a zone and from a
cache, names of one length and of mixed sizes; a plain Python handler beside dnslib on uvloop; random
names that do not exist; 10,000 zones; a forwarder that knows nothing yet; handlers that wait.
Unbound and dnsdist are asked for what they have in their cache, from the NSD behind them. `--only`
takes parts of this; `--quick` is one short round of all. Peers that are not installed are left out.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h
from peers import dns_work as work

LOAD = "--sockets 8 --in-flight 16 --edns"
COLD = "--sockets 1 --in-flight 128 --edns"
"""One socket, since each goes through the list of names by itself: a name is asked once."""
BINARIES = {"nsd": "nsd", "knot": "knotd", "unbound": "unbound", "dnsdist": "dnsdist"}
WAITING = 15_000
Samples = dict[str, list[dict[str, object]]]


def have(kind: str) -> bool:
    return kind not in BINARIES or shutil.which(BINARIES[kind]) is not None


def peer(
    kind: str, folder: Path, backend: int = 0, name: str = "", load: str = "", warm: bool = False
) -> h.Contender:
    words = [str(h.ROOT / "bench/peers/dns_peer.py"), kind, str(folder), str(backend)]
    words += [str(h.BUILD / "load")] if warm else []
    return h.Contender(name or kind, (sys.executable, *words), load)


class Run:
    """One run of the script: its folder, its options, and the table that grows."""

    def __init__(self, folder: Path, rounds: int, seconds: float) -> None:
        self.folder, self.rounds, self.seconds = folder, rounds, seconds
        self.table = [["work", "CPU us per answer", "answers/s", "peer's CPU us", "ratio", "target", ""]]
        self.raw: dict[str, object] = {}

    def group(self, name: str, contenders: Sequence[h.Contender], asked: Path, load: str = LOAD) -> Samples:
        options = f"{load} --names {asked} --seconds {self.seconds}"
        print(f"{name}: {options}", file=sys.stderr)
        present = [c for c in contenders if have(c.name)]
        found = h.interleaved(present, options, self.rounds)
        self.raw[name] = found
        return found

    def row(self, text: str, found: Samples, mine: str, theirs: str, target: float | None) -> None:
        """A line of the table, when both are there."""
        if mine in found and theirs in found:
            self.table.append(h.row(text, found[mine], found[theirs], target))

    def answering(self, name: str, folder: Path, kinds: Sequence[str]) -> Samples:
        """The zone image, the cache and all peers, on one set of questions."""
        with h.Served(peer("nsd" if have("nsd") else "zone", folder), h.CLIENT_CORE) as behind:
            contenders = [
                *(peer(kind, folder) for kind in ("nsd", "knot", *kinds)),
                *(peer(kind, folder, behind.port, warm=True) for kind in ("unbound", "dnsdist", "forward")),
            ]
            return self.group(name, contenders, folder / "asked.txt")

    # -- the parts

    def equal(self) -> None:
        found = self.answering("equal", work.equal(self.folder / "equal"), ("zone", "python", "dnslib"))
        self.row("equal names: zone / NSD", found, "zone", "nsd", 0.75)
        self.row("equal names: zone / Knot", found, "zone", "knot", 0.70)
        self.row("equal names: cache / Unbound, cache hit", found, "forward", "unbound", 0.65)
        self.row("equal names: cache / dnsdist, packet cache", found, "forward", "dnsdist", 0.65)
        self.row("equal names: cache / NSD", found, "forward", "nsd", 0.75)
        self.row("plain Python handler / NSD", found, "python", "nsd", 1.2)
        self.row("plain Python handler / uvloop + dnslib", found, "python", "dnslib", 0.10)

    def mixed(self) -> None:
        found = self.answering("mixed", work.mixed(self.folder / "mixed"), ("zone",))
        self.row("mixed sizes: zone / NSD", found, "zone", "nsd", 0.88)
        self.row("mixed sizes: zone / Knot", found, "zone", "knot", None)
        self.row("mixed sizes: cache / Unbound, cache hit", found, "forward", "unbound", 0.75)
        self.row("mixed sizes: cache / dnsdist, packet cache", found, "forward", "dnsdist", None)

    def absent(self) -> None:
        folder = work.equal(self.folder / "absent")
        names = f"--names {work.one_in_ten_absent(folder)}"
        contenders = [
            peer("zone", folder),
            peer("zone", folder, name="zone, 10 % absent", load=names),
            peer("nsd", folder),
            peer("nsd", folder, name="nsd, 10 % absent", load=names),
        ]
        present = [c for c in contenders if have(c.name.partition(",")[0])]
        found = self.group("absent", present, folder / "asked.txt")
        self.row("10 % random absent names / none", found, "zone, 10 % absent", "zone", 1.3)
        self.row("NSD: 10 % random absent names / none", found, "nsd, 10 % absent", "nsd", None)

    def zones(self) -> None:
        one, many = work.zones(self.folder / "one", 1), work.zones(self.folder / "many", work.NAMES)
        contenders = [peer("many", one, name="1 zone"), peer("many", many, name="10,000 zones")]
        found = self.group("zones", contenders, one / "asked.txt")
        self.row("10,000 zones / 1 zone", found, "10,000 zones", "1 zone", 1.05)

    def cold(self) -> None:
        folder = work.cold(self.folder / "cold")
        with h.Served(peer("nsd" if have("nsd") else "zone", folder), h.CLIENT_CORE) as behind:
            kinds = ("unbound", "dnsdist", "forward")
            contenders = [peer(kind, folder, behind.port) for kind in kinds]
            found = self.group("cold", contenders, folder / "asked.txt", COLD)
        self.row("forwarder, cold / Unbound forwarding", found, "forward", "unbound", 2.0)
        self.row("forwarder, cold / dnsdist", found, "forward", "dnsdist", 3.0)

    def waiting(self) -> None:
        folder = work.equal(self.folder / "waiting")
        load = "--sockets 8 --in-flight 256 --edns"
        name = "async, 2,048 wait 100 ms"
        found = self.group("waiting", [peer("waiting", folder, name=name)], folder / "asked.txt", load)[name]
        rate = h.Spread.of(h.column(found, "rate"))
        lost = sum(h.column(found, "lost"))
        good = rate.median >= WAITING and not lost
        cpu = str(h.Spread.of(h.column(found, "server_cpu_us_per_reply")))
        said = f"{'met' if good else 'missed'}, {lost:.0f} lost"
        self.table.append([name, cpu, f"{rate.median:,.0f}", "", "", f">= {WAITING:,}/s", said])


PARTS: dict[str, Callable[[Run], None]] = {
    part.__name__: part for part in (Run.equal, Run.mixed, Run.absent, Run.zones, Run.cold, Run.waiting)
}


def main() -> None:
    parser = h.arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of half a second, nothing written")
    parser.add_argument("--only", default="", help=f"parts, by comma: {','.join(PARTS)}")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.dry = 1, 0.5, True
    h.build()
    h.quiet_warning()
    for missing in (kind for kind in BINARIES if not have(kind)):
        print(f"note: {missing} is not installed: apt install {missing}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), options.rounds, options.seconds)
        for name in options.only.split(",") if options.only else PARTS:
            PARTS[name](run)
    settings = {"rounds": options.rounds, "seconds": options.seconds, "names": work.NAMES}
    if options.dry:
        print(h.markdown(run.table))
    else:
        h.save("dns", "One DNS answer over loopback: server CPU", run.table, run.raw, settings)


if __name__ == "__main__":
    main()
