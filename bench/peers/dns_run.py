"""What the parts of the DNS benchmark share: the contenders, and one run with its table.

Imported by bench/dns.py, dns_answers and dns_held; the harness is found beside bench/dns.py.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import harness as h

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
