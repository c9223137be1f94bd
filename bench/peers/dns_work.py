"""What the DNS benchmarks serve and ask: zones, questions and lists, written to a folder.

Standard library only. Every writer is deterministic.
"""

from __future__ import annotations

import random
from pathlib import Path

NAMES = 10_000
HEAD = "$ORIGIN bench.test.\n$TTL 1h\n@ SOA ns1 hostmaster 1 2h 15m 2w 5m\n  NS ns1\nns1 A 127.0.0.1\n"
LINES = 200_000
"""Questions in a file that names random ones: more than are asked twice."""
COLD = 1_000_000


def write(folder: Path, zone: str, asked: str) -> Path:
    """A folder with `bench.zone` and `asked.txt`."""
    folder.mkdir()
    (folder / "bench.zone").write_text(zone)
    (folder / "asked.txt").write_text(asked)
    return folder


def equal(folder: Path) -> Path:
    """Names of one length, one A record each."""
    zone = "".join(f"h{n:05} A 10.0.{n >> 8}.{n & 255}\n" for n in range(NAMES))
    return write(folder, HEAD + zone, "".join(f"h{n:05}.bench.test A\n" for n in range(NAMES)))


def mixed(folder: Path) -> Path:
    """Names of 1 to 60 bytes, 1 to 4 addresses, one TXT in ten and one name in ten that does not exist."""
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
    return write(folder, "".join(zone), "".join(asked))


def one_in_ten_absent(folder: Path) -> Path:
    """Questions for the zone of `equal`, of which one in ten has a random name that does not exist."""
    dice = random.Random(11)
    lines = [
        f"{dice.getrandbits(64):016x}.bench.test A\n" if n % 10 == 9 else f"h{n % NAMES:05}.bench.test A\n"
        for n in range(LINES)
    ]
    dice.shuffle(lines)
    (folder / "absent.txt").write_text("".join(lines))
    return folder / "absent.txt"


def zones(folder: Path, count: int) -> Path:
    """10,000 names `www.zNNNNN.test` in `count` zones: one for each, or one for all."""
    folder.mkdir()
    (folder / "zones").mkdir()
    soa = "$TTL 1h\n@ SOA ns1 hostmaster 1 2h 15m 2w 5m\n  NS ns1\nns1 A 127.0.0.1\n"
    if count == 1:
        text = "".join(f"www.z{n:05} A 10.0.{n >> 8}.{n & 255}\n" for n in range(NAMES))
        (folder / "zones/all.zone").write_text("$ORIGIN test.\n" + soa + text)
    for n in range(count if count > 1 else 0):
        text = f"$ORIGIN z{n:05}.test.\n{soa}www A 10.0.{n >> 8}.{n & 255}\n"
        (folder / f"zones/z{n:05}.zone").write_text(text)
    (folder / "asked.txt").write_text("".join(f"www.z{n:05}.test A\n" for n in range(NAMES)))
    return folder


def cold(folder: Path) -> Path:
    """A wildcard zone, and more names than are asked in a run: each is asked once."""
    asked = "".join(f"c{n:07}.bench.test A\n" for n in range(COLD))
    return write(folder, HEAD + "* A 10.0.0.1\n", asked)


def large(folder: Path, records: int) -> Path:
    """A zone of `records` records, half A and half AAAA, for what loading costs."""
    with_zone = "".join(
        f"h{n:07} A 10.{n >> 16}.{n >> 8 & 255}.{n & 255}\nh{n:07} AAAA 2001:db8::{n >> 16:x}:{n & 65535:x}\n"
        for n in range(records // 2)
    )
    return write(folder, HEAD + with_zone, "h0000001.bench.test A\n")


def blocked(folder: Path, rules: int) -> Path:
    """`rules` names to block, in hosts form, beside the zone in `folder`."""
    path = folder / "blocked.txt"
    path.write_text("".join(f"0.0.0.0 ads{n:07}.tracker-{n % 977}.example\n" for n in range(rules)))
    return path
