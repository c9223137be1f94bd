"""How many DNS answers are still given when two and five times too many questions come, and to whom?

First as bench/overload.py: the peak (highest rate of questions with loss under 0.1 %), then 1, 2 and 5 times
that. Then a flood of five times the peak from sources that may be forged, 200 addresses without a cookie, with
the rate limit on (no address is exempt), and beside it clients that showed a cookie: how many of their questions
are answered, each asked up to three times with half a second of patience, as stub resolvers do. On loopback the
sender's core does the work of receiving and cannot offer five times the peak: what was offered is printed.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h
import overload
from peers import dns_work as work
from peers.dns_run import have, peer

TARGETS = {2: 0.90, 5: 0.80}
"""Goodput over peak, by overload factor."""
HONEST, RATE, TRIES, PATIENCE = 0.99, 200, 3, 0.5
"""Of the clients with a cookie: how many answers, questions a second, tries and seconds for each."""


def question(number: int, cookie: bytes) -> bytes:
    name = b"\6h%05d\5bench\4test\0\0\1\0\1" % (number % work.NAMES)
    option = struct.pack("!HH", 10, len(cookie)) + cookie
    opt = b"\0\0\x29\4\xd0\0\0\0\0" + struct.pack("!H", len(option)) + option
    return struct.pack("!HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 1) + name + opt


def is_answer(data: bytes, number: int) -> bool:
    return data[:2] == struct.pack("!H", number & 0xFFFF) and data[3] & 15 == 0 and data[7] == 1


def honest(port: int, seconds: float) -> tuple[int, int]:
    """Asks with a cookie for so long; how many questions, and how many were answered."""
    os.sched_setaffinity(0, {h.CLIENT_CORE} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
    asked = answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        cookie, until = b"benchjar", time.monotonic() + seconds
        while time.monotonic() < until:
            asked += 1
            for _ in range(TRIES):
                sock.send(question(asked, cookie))
                deadline, got = time.monotonic() + PATIENCE, False
                while not got and (left := deadline - time.monotonic()) > 0:
                    sock.settimeout(left)
                    try:
                        data = sock.recv(4096)
                    except TimeoutError:
                        break
                    at = data.find(b"\0\x0a\0\x18benchjar")
                    cookie = data[at + 4 : at + 28] if at > 0 else cookie
                    if data[3] & 15 == 7 and at > 0:  # BADCOOKIE, with the one to ask with
                        break
                    got = is_answer(data, asked)
                if got:
                    answered += 1
                    break
            time.sleep(1 / RATE)
    return asked, answered


def flooded(contender: h.Contender, top: float, names: Path, seconds: float) -> dict[str, object]:
    """The flood, with clients that have cookies beside it."""
    with h.Served(contender) as served:
        words = f"--edns --names {names} --sockets 4 --addresses 50 --rate {5 * top:.0f} --timeout 0.5"
        command = [
            str(h.BUILD / "load"),
            f"127.0.0.1:{served.port}",
            *words.split(),
            "--seconds",
            str(seconds),
        ]
        flood = subprocess.Popen(h.pinned(h.CLIENT_CORE, command), stdout=subprocess.PIPE, text=True)
        time.sleep(0.4)
        asked, answered = honest(served.port, seconds - 0.2)
        out = flood.communicate()[0]
    sample: dict[str, object] = json.loads(out)
    return {"asked": asked, "answered": answered, "offered": sample["offered"], "flood": sample}


def main() -> None:
    parser = h.arguments(__doc__)
    parser.set_defaults(rounds=3, seconds=1.0)  # the whole in three minutes
    options = parser.parse_args()
    h.build()
    h.quiet_warning()
    table = [["server", "peak/s", "offered", "goodput / peak", "p99 ms", "target", ""]]
    raw: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = work.equal(Path(temporary, "equal"))
        asked = folder / "asked.txt"
        overload.SHAPE = f"--edns --names {asked} --sockets 4 --timeout 0.5"
        for contender in [
            peer("zone", folder, name="toolips_udp"),
            *([peer("nsd", folder)] if have("nsd") else []),
        ]:
            rounds = [overload.one_round(contender, options.seconds) for _ in range(options.rounds)]
            raw[contender.name] = rounds
            table += overload.rows(contender.name, rounds, TARGETS)
        top = overload.peak_of(raw["toolips_udp"])  # type: ignore[arg-type]
        limited = [
            flooded(peer("limited", folder), top, asked, options.seconds + 1) for _ in range(options.rounds)
        ]
    raw["flooded"] = limited
    share = h.Spread.of(int(str(one["answered"])) / int(str(one["asked"])) for one in limited)
    offered = h.Spread.of(float(str(one["offered"])) / top for one in limited)
    judged = "met" if share.low >= HONEST else "missed"
    table.append(
        [
            "clients with a cookie, in a forged flood",
            "",
            f"{offered.median:.1f}x",
            str(share),
            "",
            f">= {HONEST}",
            judged,
        ]
    )
    settings = {"rounds": options.rounds, "seconds": options.seconds, "names": work.NAMES}
    if options.dry:
        print(h.markdown(table))
    else:
        h.save(
            "dns_overload",
            "DNS overload: goodput, and clients with a cookie in a flood",
            table,
            raw,
            settings,
        )


if __name__ == "__main__":
    main()
