"""Is everything answered that was accepted before SIGTERM, and how long does the end take?

Two workers at 80 % of the peak; SIGTERM in the middle; the client stops at that
moment. Counts requests that left before the signal and have no reply. Knob: rounds.

    python bench/stop.py [rounds]
"""

from __future__ import annotations

import signal
import sys
import time

import harness as h
import numbered


def one_round() -> dict[str, float]:
    server = numbered.Supervised(2)
    rate = 0.8 * numbered.peak(server.port)
    client = numbered.Client(server.port, rate)
    client.start()
    time.sleep(1.0)
    client.over.set()
    client.join()  # nothing leaves after the signal
    server.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    client.stop(5.0)
    code = server.process.wait(30)
    took = time.monotonic() - began
    server.close()
    client.close()
    return {"lost": len(client.lost()), "sent": len(client.sent), "code": code, "seconds": took}


def main() -> None:
    rounds = [one_round() for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5)]
    lost, sent = (int(sum(r[key] for r in rounds)) for key in ("lost", "sent"))
    seconds = h.Spread.of(r["seconds"] for r in rounds)
    codes = {int(r["code"]) for r in rounds}
    table = [
        ["what", "found", "target", ""],
        [f"unanswered of {sent:,}", str(lost), "0", "met" if lost == 0 else "missed"],
        ["seconds to the exit", str(seconds), "<= 5", "met" if seconds.high <= 5 else "missed"],
        ["exit codes", str(sorted(codes)), "[0]", "met" if codes == {0} else "missed"],
    ]
    h.save("stop", "SIGTERM at 80 % load", table, rounds, {})


if __name__ == "__main__":
    numbered.pin_here()
    main()
