"""What a DNS server holds and how it changes that: parts of bench/dns.py.

Memory for a cached answer, loading a million records, a million rules, reloads under load. The
servers run on one core and the generator on the other, as for the answers; figures that are no
CPU time stand in the column of the ratio.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import harness as h

from . import dns_work as work
from .dns_run import COLD, LOAD, Run, have, peer

ANSWERS = 200_000
RECORDS = 1_000_000
RULES = 1_000_000
RELOADS = 100
RELOAD_SECONDS = 10.0
SWAPPED = b"\7swapped\5bench\4test"


class Told(h.Served):
    """A server of ours that takes commands."""

    stdin = subprocess.PIPE

    def tell(self, word: str) -> dict[str, object]:
        """One command, and what it answers."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        found: dict[str, object] = json.loads(self.process.stdout.readline())
        return found


def resident(pids: list[int]) -> int:
    """Octets of memory of some processes."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * 4096


def figure(
    run: Run, what: str, value: str, target: str, good: bool | None, theirs: str = "", rate: str = ""
) -> None:
    """A line of the table for what is no CPU time."""
    said = "" if good is None else "met" if good else "missed"
    run.table.append([what, "", rate, theirs, value, target, said])


# -- memory


def memory(run: Run) -> None:
    """RSS before and after 200,000 names and more were asked once."""
    folder = work.cold(run.folder / "memory")
    found = {}
    with h.Served(peer("nsd" if have("nsd") else "zone", folder), h.CLIENT_CORE) as behind:
        for kind in ("forward", "unbound", "dnsdist"):
            if have(kind):
                found[kind] = _memory_of(kind, folder, behind.port)
    run.raw["memory"] = found
    for kind, (octets, answers) in found.items():
        name = "memory for a cached answer" + ("" if kind == "forward" else f" of {kind}")
        target, good = ("<= 400 B", octets <= 400 and answers >= ANSWERS) if kind == "forward" else ("", None)
        figure(run, f"{name} ({answers:,} of them)", f"{octets:.0f} B", target, good)


def _memory_of(kind: str, folder: Path, backend: int) -> tuple[float, int]:
    """Octets for an answer, and how many answers."""
    options = f"{COLD} --warmup 0 --timeout 3 --names {folder / 'asked.txt'} --seconds "
    with Told(peer(kind, folder, backend)) as served:
        h.load(served, f"--sockets 1 --in-flight 4 --warmup 0 --seconds 0.3 --names {_few(folder)}")
        before, answers = resident(served.pids), 0
        for _ in range(12):  # each run begins the list anew, and comes further as what it had is cached
            sample = h.load(served, options + "5")
            answers = max(answers, int(str(sample["answered"])))
            if answers >= ANSWERS:
                break
        held = int(str(served.tell("held")["held"])) if kind == "forward" else answers
        return (resident(served.pids) - before) / held, held


def _few(folder: Path) -> Path:
    """A hundred names that are not among the others."""
    path = folder / "few.txt"
    path.write_text("".join(f"few{n}.bench.test A\n" for n in range(100)))
    return path


# -- loading


def loading(run: Run) -> None:
    """From the start of the program to its first answer from a zone of a million records."""
    folder = work.large(run.folder / "large", RECORDS)
    kinds = [kind for kind in ("nsd", "knot", "zone") if have(kind)]
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(min(run.rounds, 2)):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            began = time.monotonic()
            with h.Served(peer(kind, folder)):
                found[kind].append(time.monotonic() - began)
    run.raw["loading"] = found
    if shutil.which("nsd-checkzone"):
        began = time.monotonic()
        words = ["nsd-checkzone", "bench.test", str(folder / "bench.zone")]
        subprocess.run(h.pinned(h.SERVER_CORE, words), check=True, stdout=subprocess.DEVNULL)
        found["nsd-checkzone"] = [time.monotonic() - began]
    peers = ", ".join(f"{kind} {h.Spread.of(found[kind]).median:.1f} s" for kind in found if kind != "zone")
    spread = h.Spread.of(found["zone"])
    text = f"start to first answer, {RECORDS:,} records"
    figure(run, text, f"{spread} s", "<= 10 s", spread.median <= 10, peers)


# -- lists


def rules(run: Run) -> None:
    """A list of a million names before the zone, next to none; then the list is changed under load."""
    folder = work.equal(run.folder / "rules")
    listed = work.blocked(folder, RULES)
    options = f"{LOAD} --names {folder / 'asked.txt'} --seconds {run.seconds}"
    with Told(peer("blocking", folder)) as blocking, h.Served(peer("zone", folder)) as plain:
        servers = {"rules": blocking, "none": plain}
        found: dict[str, list[dict[str, object]]] = {name: [] for name in servers}
        for number in range(run.rounds):
            for name in list(servers) if number % 2 == 0 else reversed(servers):
                found[name].append(h.load(servers[name], options))
        swaps = [_swap(blocking, listed, options, number) for number in range(min(run.rounds, 3))]
    run.raw["rules"] = {**found, "swaps": swaps}
    run.row(f"{RULES:,} blocklist rules / none", found, "rules", "none", 1.05)
    spread = h.Spread.of(seconds for seconds, _ in swaps)
    lost = sum(lost for _, lost in swaps)
    good = spread.high <= 1 and not lost
    figure(run, f"hot swap of them under load, {lost} lost", f"{spread} s", "<= 1 s", good)


def _swap(served: Told, listed: Path, options: str, number: int) -> tuple[float, int]:
    """Seconds from the command to the first answer by the new list, and questions lost meanwhile."""
    lines = [line for line in listed.read_text().splitlines() if "swapped" not in line]
    if number % 2 == 0:
        lines.append("0.0.0.0 swapped.bench.test")
    listed.write_text("\n".join(lines) + "\n")
    wanted = {True: 15, False: 3}[number % 2 == 0]
    with _loaded(served, f"{options} --seconds 4 --timeout 3") as generator:
        time.sleep(1.0)
        began = time.monotonic()
        assert served.process.stdin
        served.process.stdin.write("reload\n")
        served.process.stdin.flush()
        took = _until(served.port, wanted, began)
        assert served.process.stdout
        told = json.loads(served.process.stdout.readline())
        assert not told["problems"], told
        sample = json.loads(generator.communicate()[0])
    return took, int(sample["lost"])


def _until(port: int, wanted: int, began: float) -> float:
    """Asks for the name that the new list has (EDE 15), or has no more, until the answer says so."""
    question = b"\x55\xaa\1\0\0\1\0\0\0\0\0\1" + SWAPPED + b"\0\0\1\0\1\0\0\x29\4\xd0\0\0\0\0\0\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect(("127.0.0.1", port))
        while time.monotonic() - began < 60:
            sock.send(question)
            try:
                reply = sock.recv(1500)
            except TimeoutError:
                continue
            if (b"\0\x0f\0\2\0\x0f" in reply) is (wanted == 15):
                return time.monotonic() - began
            time.sleep(0.005)
    raise SystemExit("the new list does not answer")


def _loaded(served: h.Served, options: str) -> subprocess.Popen[str]:
    """The generator at work."""
    words = [str(h.BUILD / "load"), f"127.0.0.1:{served.port}", *options.split()]
    return subprocess.Popen(h.pinned(h.CLIENT_CORE, words), stdout=subprocess.PIPE, text=True)


# -- reloads


def reloads(run: Run) -> None:
    """The zone's file changes 100 times in 10 seconds, at half the rate that the server can."""
    folder = work.equal(run.folder / "reloads")
    zone = folder / "bench.zone"
    text = zone.read_text()
    asked = f"--names {folder / 'asked.txt'} --edns"
    with Told(peer("stored", folder)) as served:
        peak = float(str(h.load(served, f"{LOAD} {asked} --seconds 1")["rate"]))
        options = f"{asked} --sockets 8 --rate {peak / 2:.0f} --timeout 3 --seconds"
        calm = h.load(served, f"{options} {RELOAD_SECONDS / 2}")
        with _loaded(served, f"{options} {RELOAD_SECONDS}") as generator:
            began, times = time.monotonic(), []
            for number in range(RELOADS):
                zone.write_text(text.replace("hostmaster 1 ", f"hostmaster {number + 2} "))
                told = served.tell("reload")
                assert not told["problems"], told
                times.append(float(str(told["seconds"])))
                time.sleep(max(0.0, began + (number + 1) * RELOAD_SECONDS / RELOADS - time.monotonic()))
            took = time.monotonic() - began
            busy = json.loads(generator.communicate()[0])
    run.raw["reloads"] = {"calm": calm, "reloading": busy, "seconds": times}
    rate, before = float(busy["rate"]), float(str(calm["rate"]))
    lost = int(busy["lost"]) + int(busy["late"])
    good = not lost and rate >= 0.99 * before and took < 1.2 * RELOAD_SECONDS
    what = f"{RELOADS} reloads under load in {took:.0f} s, {h.Spread.of(times).median * 1000:.0f} ms each"
    figure(run, f"{what}: lost", str(lost), "0", good, rate=f"{rate:,.0f} (without: {before:,.0f})")
