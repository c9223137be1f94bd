"""What does one DNS answer over kept connections cost, TCP and TLS, next to Unbound and Knot?

dnsperf asks for 10,000 names over 20 connections that stay open, 200 questions on their way in all, EDNS.
Unbound has every answer in its cache; Knot serves the zone over TCP (its Debian build has no DoT). Certificates
are ECDSA P-256, made for the run. CPU is that of the server's processes, user and system; answers/s is what dnsperf
got, which may be as much as it can take.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h
from peers import dns_work as work
from peers.dns_run import have, peer

SHAPE = "-c 20 -T 1 -q 200 -e"
MODES = {"tcp": "DNS over TCP", "dot": "DNS over TLS"}
TARGETS = {("dot", "unbound-dot"): 2.00}
"""Our CPU over theirs: half of Unbound's answers from one core, at least."""


def certificate(folder: Path) -> None:
    """`key.pem` and `cert.pem`, which nobody has to believe."""
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*words.split(), *files], check=True, capture_output=True)


def cpu_of(pids: list[int]) -> float:
    """Seconds that these processes have taken so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def one(contender: h.Contender, mode: str, asked: Path, seconds: float) -> dict[str, object]:
    """One run of dnsperf against a fresh server."""
    with h.Served(contender) as served:
        words = f"dnsperf -m {mode} -s 127.0.0.1 -p {served.port} {SHAPE} -l {seconds} -d {asked}".split()
        subprocess.run(h.pinned(h.CLIENT_CORE, [*words[:-4], "-l", "1", *words[-2:]]), capture_output=True)
        before = cpu_of(served.pids)
        done = subprocess.run(h.pinned(h.CLIENT_CORE, words), capture_output=True, text=True, check=True)
        spent = cpu_of(served.pids) - before
    completed = int(re.search(r"Queries completed: +(\d+)", done.stdout)[1])  # type: ignore[index]
    rate = float(re.search(r"Queries per second: +([\d.]+)", done.stdout)[1])  # type: ignore[index]
    lost = int(re.search(r"Queries lost: +(\d+)", done.stdout)[1])  # type: ignore[index]
    found = {"rate": rate, "lost": lost, "server_cpu_us_per_reply": 1e6 * spent / completed}
    print(f"  {mode} {contender.name:20} {rate:>10,.0f}/s {1e6 * spent / completed:>7.2f} us CPU  lost {lost}",
          file=sys.stderr)  # fmt: skip
    return found


def main() -> None:
    parser = h.arguments(__doc__)
    parser.set_defaults(rounds=3, seconds=2.0)  # the whole in a minute and a half
    options = parser.parse_args()
    h.build()
    h.quiet_warning()
    if not shutil.which("dnsperf") or not have("nsd"):
        raise SystemExit("this needs dnsperf, and nsd behind Unbound: apt install dnsperf nsd unbound knot")
    table = [["work", "CPU us per answer", "answers/s", "peer's CPU us", "ratio", "target", ""]]
    raw: dict[str, dict[str, list[dict[str, object]]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = work.equal(Path(temporary, "equal"))
        certificate(folder)
        asked = folder / "asked.txt"
        with h.Served(peer("nsd", folder), core=h.CLIENT_CORE) as behind:
            contenders = {
                "tcp": [
                    peer("tcp", folder, name="ours"),
                    peer("unbound", folder, behind.port, warm=True),
                    peer("knot", folder),
                ],
                "dot": [
                    peer("dot", folder, name="ours"),
                    peer("unbound-dot", folder, behind.port, warm=True),
                ],
            }
            for mode, all_of in contenders.items():
                found = raw[mode] = {c.name: [] for c in all_of if have(c.name.partition("-")[0])}
                for number in range(options.rounds):
                    order = [c for c in all_of if c.name in found]
                    for contender in order if number % 2 == 0 else reversed(order):
                        found[contender.name].append(one(contender, mode, asked, options.seconds))
    for mode, found in raw.items():
        for name, theirs in found.items():
            if name != "ours":
                work_text = f"{MODES[mode]}, kept connections / {name.partition('-')[0]}"
                table.append(h.row(work_text, found["ours"], theirs, TARGETS.get((mode, name))))
    settings = {"rounds": options.rounds, "seconds": options.seconds, "names": work.NAMES, "load": SHAPE}
    if options.dry:
        print(h.markdown(table))
    else:
        h.save("dns_streams", "One DNS answer over a kept connection", table, raw, settings)


if __name__ == "__main__":
    main()
