"""Is every datagram accounted for, to the unit, when most of them are lost?

A numbered flood at five times the peak of a slowed handler. Afterwards the
server's ledgers are held against the generator's own count:

    generator sent       = server received = handled + drops
    server send_queued   = sent + refused + dropped
    server sent          = answers that the generator took or lost in its own buffers

Exits 1 when one unit is missing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

ARRIVED = ("answered", "late", "repeated", "dropped_here")


def one_round(seconds: float) -> tuple[list[str], dict[str, object]]:
    with h.Served(h.ours("slow")) as served:
        closed = h.load(served, "--sockets 4 --in-flight 8 --size 64 --warmup 0 --seconds 0.3 --timeout 5")
        rate = 5 * float(closed["rate"])  # type: ignore[arg-type]
        flood = h.load(
            served, f"--sockets 4 --size 64 --warmup 0 --seconds {seconds} --timeout 3 --rate {rate:.0f}"
        )
    told = json.loads(served.last_words.splitlines()[-1])
    counters: dict[str, int] = told["counters"]
    asked = sum(int(s["sent"]) for s in (closed, flood))  # type: ignore[call-overload]
    came = sum(int(s[k]) for s in (closed, flood) for k in ARRIVED)  # type: ignore[call-overload]
    drops = {word: counters.get(word, 0) for word in told["drops"] if counters.get(word, 0)}
    taken = counters["handled"] + sum(drops.values())
    gone = sum(counters.get(w, 0) for w in ("sent", "send_refused", "send_refused_late", "send_dropped_full"))
    checks = {
        "generator sent = server received": asked - counters["received"],
        "received = handled + drops": counters["received"] - taken,
        "queued = sent + refused + dropped": counters["send_queued"] - gone,
        "server sent = replies that came": counters["sent"] - came,
    }
    by_word = "  ".join(f"{word} {count:,}" for word, count in drops.items())
    print(f"  sent {asked:,}  handled {counters['handled']:,}  {by_word}", file=sys.stderr)
    return [f"{what}: off by {by}" for what, by in checks.items() if by], {
        "flood": flood,
        "counters": counters,
    }


def main() -> int:
    options = h.arguments(__doc__).parse_args()
    h.build()
    if not h.have_ours():
        raise SystemExit("loss.py measures toolips_udp, and this tree has no toolips_udp/starting.py.")
    wrong, raw = [], []
    for _ in range(options.rounds):
        found, sample = one_round(options.seconds)
        wrong += found
        raw.append(sample)
    asked = sum(int(r["counters"]["received"]) for r in raw)  # type: ignore[index]
    table = [
        ["rounds", "datagrams", "unexplained"],
        [str(options.rounds), f"{asked:,}", "; ".join(wrong) or "0"],
    ]
    if options.dry:
        print(h.markdown(table))
    else:
        h.save(
            "loss",
            "Accounting under a numbered flood at 5 times the peak of a slowed handler",
            table,
            raw,
            {},
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
