"""How many hellos a second, next to a bare Starlette on uvicorn with the same settings?"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h
from tcp import contender


def main() -> None:
    options = h.arguments(__doc__).parse_args()
    h.build()
    h.quiet_warning()
    mine, theirs = contender("toolips_udp HTTP", "ours-http"), contender("Starlette on uvicorn", "starlette")
    asked = f"--get / --connections 32 --in-flight 1 --seconds {options.seconds}"
    rounds = h.interleaved([mine, theirs], asked, options.rounds, program="tcp_load")
    rate = h.ratio(rounds[mine.name], rounds[theirs.name], "rate")
    cpu = h.ratio(rounds[mine.name], rounds[theirs.name])
    done = "met" if rate.low >= 0.9 else "missed" if rate.high < 0.9 else "inside the noise"
    table = [
        ["HTTP hello", "ours", "Starlette on uvicorn", "ratio", "target", ""],
        [
            "answers / s",
            *(f"{h.Spread.of(h.column(rounds[p.name], 'rate')).median:,.0f}" for p in (mine, theirs)),
            str(rate),
            ">= 0.9",
            done,
        ],
        [
            "us CPU per answer",
            *(
                f"{h.Spread.of(h.column(rounds[p.name], 'server_cpu_us_per_reply')).median:.1f}"
                for p in (mine, theirs)
            ),
            str(cpu),
            "",
            "",
        ],
    ]
    if options.dry:
        print(h.markdown(table))
    else:
        h.save("http_hello", "HTTP hello", table, rounds, {"asked": asked})


if __name__ == "__main__":
    main()
