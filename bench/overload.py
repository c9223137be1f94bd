"""How much fresh work is still served when two and five times too much comes?

Finds the peak (highest offered rate with loss under 0.1 %), then offers 1, 2
and 5 times that and compares goodput (answers within 100 ms) with the peak.
The offered rate is the generator's own count. Loopback does the receive work
on the sender's core, so nothing here carries over to a network card.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

SHAPE = "--sockets 4 --size 64 --timeout 0.5"
TARGETS = {2: 0.80, 5: 0.70}
"""Goodput over peak for a Python handler, by overload factor."""


def number(sample: dict[str, object], key: str) -> float:
    return float(sample[key])  # type: ignore[arg-type]


def loses(served: h.Served, rate: float, seconds: float) -> bool:
    sample = h.load(served, f"{SHAPE} --rate {rate:.0f} --warmup 0.1 --seconds {seconds}")
    return number(sample, "lost") > 0.001 * number(sample, "sent")


def peak(served: h.Served, seconds: float) -> float:
    """By halving, to 2 %, between nothing and twice what a closed loop gets."""
    shape = SHAPE.replace("--sockets 4", "--sockets 8 --in-flight 32")
    closed = h.load(served, f"{shape} --warmup 0.2 --seconds {seconds}")
    low, high = 0.0, 2 * number(closed, "rate")
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        if loses(served, middle, seconds):
            high = middle
        else:
            low = middle
    return low


def one_round(contender: h.Contender, seconds: float) -> dict[str, dict[str, object]]:
    with h.Served(contender) as served:
        top = peak(served, min(seconds, 0.5))
        found: dict[str, dict[str, object]] = {"peak": {"rate": top}}
        for factor in (1, 2, 5):
            offer = top * factor * (0.95 if factor == 1 else 1)
            sample = h.load(served, f"{SHAPE} --rate {offer:.0f} --seconds {seconds}")
            found[str(factor)] = sample
            offered, goodput = number(sample, "offered"), number(sample, "goodput") / top
            print(
                f"  {contender.name:20} peak {top:>9,.0f}/s  x{factor}: offered {offered:>11,.0f}/s"
                f"  goodput {goodput:6.1%}  p99 {h.latency(sample, 'p99') / 1e3:.1f} ms",
                file=sys.stderr,
            )
    return found


Rounds = list[dict[str, dict[str, object]]]


def peak_of(rounds: Rounds) -> float:
    return h.Spread.of(number(r["peak"], "rate") for r in rounds).median


def rows(name: str, rounds: Rounds, targets: dict[int, float]) -> list[list[str]]:
    """Two lines of a table: what is left at two and at five times the peak. Only ours have a target."""
    made = []
    for factor in (2, 5):
        goodput, offered = (
            h.Spread.of(number(r[str(factor)], key) / number(r["peak"], "rate") for r in rounds)
            for key in ("goodput", "offered")
        )
        p99 = h.Spread.of(h.latency(r[str(factor)], "p99") / 1e3 for r in rounds)
        target = targets[factor] if name.startswith("toolips_udp") else None
        words = [name, f"{peak_of(rounds):,.0f}", f"{offered.median:.1f}x", str(goodput), f"{p99.median:.1f}"]
        judged = "" if target is None else ("met" if goodput.median >= target else "missed")
        made.append([*words, "" if target is None else f">= {target:.2f}", judged])
    return made


def main() -> None:
    parser = h.arguments(__doc__)
    parser.set_defaults(rounds=3, seconds=1.0)  # with the search for the peak, some two minutes
    options = parser.parse_args()
    h.build()
    h.quiet_warning()
    contenders = [h.peer_c(), h.peer_python("uvloop"), *([h.ours("sync")] if h.have_ours() else [])]
    table = [["server", "peak/s", "offered", "goodput / peak", "p99 ms", "target", ""]]
    raw = {c.name: [one_round(c, options.seconds) for _ in range(options.rounds)] for c in contenders}
    for name, rounds in raw.items():
        table += rows(name, rounds, TARGETS)
    settings = {"rounds": options.rounds, "seconds": options.seconds, "payload": 64}
    if options.dry:
        print(h.markdown(table))
    else:
        h.save("overload", "Overload: goodput at 2 and 5 times the peak", table, raw, settings)


if __name__ == "__main__":
    main()
