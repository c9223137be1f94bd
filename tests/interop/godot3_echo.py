"""An echo server for Godot 3's high-level peer."""

from toolips_udp.game import Game

game = Game(dialect="godot3", max_message=1 << 20)


@game.on_join
def joined(peer):
    print(f"joined {peer.user_data}", flush=True)


@game.on_message
def echo(peer, m):
    peer.send(m.data, m.channel, m.delivery)


@game.on_leave
def left(peer, leave):
    print(f"left {leave.word}", flush=True)
