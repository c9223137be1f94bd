"""Our ENet server as a contender: echoes, or broadcasts 200 bytes for each message that begins with B.

usage: python enet.py [PEERS [work [guarded]]]. With `work` the handler counts for some 20 us before it echoes; with
`guarded` addresses of loopback that have not proven themselves are limited too, as others always are. Its last
line is the ledger: the words that are not 0, as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import types

import toolips_udp as t
from toolips_udp.game import UNSEQUENCED, Game

NEWS = bytes(200)
guard = {"limit_loopback": True, "rate": 100_000, "byte_rate": 1 << 30} if sys.argv[3:] else {}
game = Game(channels=2, max_peers=int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, **guard)
WORK = range(1000 if sys.argv[2:] else 0)


@game.on_message
def echo(peer, m):  # type: ignore[no-untyped-def]
    for _ in WORK:
        pass
    if m.data[:1] == b"B":
        game.broadcast(NEWS, 1, UNSEQUENCED)
    else:
        peer.send(m.data, m.channel, m.delivery)


if __name__ == "__main__":
    module = types.ModuleType("bench_enet")
    module.game = game  # type: ignore[attr-defined]
    server = t.start(t.UDP, module, "127.0.0.1:0")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(wait=False))
    print(f"ready {server.address.port}", flush=True)
    server.wait()
    print(json.dumps({word: count for word, count in server.counters.items() if count}), flush=True)
