"""An ENet echo server for stock clients: 255 channels, messages of up to 2 MiB.

python -m toolips_udp run examples/game/echo.py --udp 127.0.0.1:7777
"""

from toolips_udp import UDP, start
from toolips_udp.game import Game

game = Game(channels=255, max_message=2 * 1024 * 1024)


@game.on_join
def connect(peer):
    print(f"connect {peer.address} data={peer.user_data}", flush=True)


@game.on_message
def echo(peer, m):
    peer.send(m.data, m.channel, m.delivery, fragment=True)


@game.on_leave
def disconnect(peer, leave):
    print(f"disconnect {peer.address} data={leave.code}", flush=True)


if __name__ == "__main__":
    start(UDP, __name__, "127.0.0.1:2000")
