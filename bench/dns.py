"""What does one DNS answer cost the server's CPU, next to NSD, Knot, Unbound and dnsdist?

10,000 names, EDNS questions, 8 sockets with 16 in flight, one worker each: from a zone and from a
cache, names of one length and of mixed sizes; a plain Python handler beside dnslib on uvloop; random
names that do not exist; 10,000 zones; a query log and dnstap; a forwarder that knows nothing yet;
handlers that wait. Then what is held: memory for a cached answer, loading a million records, a million rules, 100
reloads under load.
Unbound and dnsdist are asked for what they have in their cache, from the NSD behind them. `--only`
takes parts of this; `--quick` is one short round of all. Peers that are not installed are left out.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h
from peers import dns_answers as answers
from peers import dns_held as held
from peers import dns_work as work
from peers.dns_run import BINARIES, Run, have

PARTS: dict[str, Callable[[Run], None]] = {
    part.__name__: part
    for part in (
        answers.equal,
        answers.mixed,
        answers.absent,
        answers.zones,
        answers.watched,
        answers.cold,
        answers.waiting,
        held.memory,
        held.loading,
        held.rules,
        held.reloads,
    )
}


def main() -> None:
    parser = h.arguments(__doc__)
    parser.set_defaults(rounds=3, seconds=0.8)  # the whole in five minutes
    parser.add_argument("--quick", action="store_true", help="one round of half a second, nothing written")
    parser.add_argument("--only", default="", help=f"parts, by comma: {','.join(PARTS)}")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.dry = 1, 0.5, True
    h.build()
    h.quiet_warning()
    for missing in (kind for kind in BINARIES if not have(kind)):
        print(f"note: {missing} is not installed: apt install {missing}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), options.rounds, options.seconds)
        for name in options.only.split(",") if options.only else PARTS:
            PARTS[name](run)
    settings = {"rounds": options.rounds, "seconds": options.seconds, "names": work.NAMES}
    if options.dry:
        print(h.markdown(run.table))
    else:
        h.save("dns", "One DNS answer over loopback: server CPU", run.table, run.raw, settings)


if __name__ == "__main__":
    main()
