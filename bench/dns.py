"""What does one DNS answer cost the server's CPU, next to NSD, Knot and dnslib on uvloop?

10,000 names, EDNS questions, 8 sockets with 16 in flight. Names of one length first, then names and
answers of mixed sizes; then a plain Python `def` handler. Peers that are not installed are left out:
apt install nsd knot.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

NAMES = 10_000
HEAD = "$ORIGIN bench.test.\n$TTL 1h\n@ SOA ns1 hostmaster 1 2h 15m 2w 5m\n  NS ns1\nns1 A 127.0.0.1\n"
LOAD = "--sockets 8 --in-flight 16 --edns"


def equal() -> tuple[str, str]:
    """Zone and questions: names of one length, one A record each."""
    zone = "".join(f"h{n:05} A 10.0.{n >> 8}.{n & 255}\n" for n in range(NAMES))
    return HEAD + zone, "".join(f"h{n:05}.bench.test A\n" for n in range(NAMES))


def mixed() -> tuple[str, str]:
    """Names of 1 to 60 bytes, 1 to 4 addresses, some TXT, and one name in ten that does not exist."""
    dice = random.Random(7)
    zone, asked = [HEAD], []
    for n in range(NAMES):
        name = f"n{n}" + "-x" * dice.randrange(25)
        if n % 10 == 9:
            asked.append(f"absent-{name}.bench.test A\n")
        elif n % 10 == 8:
            zone.append(f'{name} TXT "{"t" * dice.randrange(10, 200)}"\n')
            asked.append(f"{name}.bench.test TXT\n")
        else:
            zone += [f"{name} A 10.{k}.{n >> 8}.{n & 255}\n" for k in range(dice.randrange(1, 5))]
            asked.append(f"{name}.bench.test A\n")
    dice.shuffle(asked)
    return "".join(zone), "".join(asked)


def peer(kind: str, zone: Path) -> h.Contender:
    return h.Contender(kind, (sys.executable, str(h.ROOT / "bench/peers/dns_peer.py"), kind, str(zone)))


def installed() -> list[str]:
    return [kind for kind, binary in (("nsd", "nsd"), ("knot", "knotd")) if shutil.which(binary)]


def main() -> None:
    options = h.arguments(__doc__).parse_args()
    h.build()
    h.quiet_warning()
    table = [["work", "CPU us per answer", "answers/s", "peer's CPU us", "ratio", "target", ""]]
    raw: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (zone, asked), target in (("equal", equal(), 0.75), ("mixed", mixed(), 0.88)):
            files = Path(folder, f"{name}.zone"), Path(folder, f"{name}.txt")
            files[0].write_text(zone)
            files[1].write_text(asked)
            kinds = [*installed(), "ours", *(["ours-python", "dnslib"] if name == "equal" else [])]
            load = f"{LOAD} --names {files[1]} --seconds {options.seconds}"
            print(f"{name}: {load}", file=sys.stderr)
            found = raw[name] = h.interleaved([peer(kind, files[0]) for kind in kinds], load, options.rounds)
            for each in installed():
                work = f"{name} names: zone image / {each}"
                table.append(h.row(work, found["ours"], found[each], target if each == "nsd" else None))
            if name == "equal":
                mine = found["ours-python"]
                for each, most in (("nsd", 1.2), ("dnslib", 0.1)):
                    if each in found:
                        table.append(h.row(f"Python `def` handler / {each}", mine, found[each], most))
    settings = {"rounds": options.rounds, "seconds": options.seconds, "names": NAMES}
    if options.dry:
        print(h.markdown(table))
    else:
        h.save("dns", "One DNS answer over loopback: server CPU", table, raw, settings)


if __name__ == "__main__":
    main()
