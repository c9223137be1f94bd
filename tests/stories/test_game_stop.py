"""A game server that is stopped under load, with a thousand players in it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from toolips_udp.peers.enet import Enet

PLAYERS = 1000
PROGRAM = """
from toolips_udp import UDP, start
from toolips_udp.game import Game
game = Game(channels=2)

@game.on_message
def echo(peer, m):
    peer.send(m.data, m.channel, m.delivery)

if __name__ == "__main__":
    print(start(UDP, __name__, "127.0.0.1:0").address.port, flush=True)
"""


class Crowd:
    """A thousand clients on one socket; each asks again when it has its answer."""

    def __init__(self, port):
        self.server, self.leaves, self.answers = ("127.0.0.1", port), [], 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.buffer = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.sock.setblocking(False)
        self.host = Enet(checksum=False).host(b"a crowd's secret", accept=0, channels=2, queue_bytes=1 << 19)
        self.host.joined = lambda peer: peer.send(b"ask")
        self.host.received = self._received
        self.host.left = lambda peer, word, code, by, seconds: self.leaves.append(code)

    def _received(self, peer, message):
        self.answers += 1
        peer.send(message.data)

    def turn(self):
        """What has come, what is due, what is to go."""
        now = time.monotonic_ns()
        for _ in range(2000):
            try:
                data, source = self.sock.recvfrom(4096)
            except (BlockingIOError, ConnectionRefusedError):
                break
            self.host.receive(now, source, data)
        self.host.advance(now)
        for data, to in self.host.outgoing():
            try:
                self.sock.sendto(data, to)
            except (BlockingIOError, ConnectionRefusedError):
                pass  # lost, as on any wire

    def run(self, until, seconds):
        """Play until the condition holds."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"{len(self.host.peers)} players, {len(self.leaves)} leaves"
            self.turn()
            time.sleep(0.001)


@pytest.mark.alone
@pytest.mark.timeout(90)
def test_b35_a_thousand_players_under_load_are_told_and_the_server_ends_with_0_within_5_s(tmp_path):
    path = tmp_path / "stopped_game.py"
    path.write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True, env=env) as process:
        guard = threading.Timer(80, process.kill)
        guard.start()
        crowd = Crowd(int(process.stdout.readline()))
        for _ in range(PLAYERS):
            crowd.host.connect(crowd.server, 2, 0, now=time.monotonic_ns())
        crowd.run(lambda: len(crowd.host.peers) == PLAYERS, 30)
        asked = crowd.answers
        crowd.run(lambda: crowd.answers > asked + 5 * PLAYERS, 30)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        crowd.run(lambda: process.poll() is not None, 20)
        took = time.monotonic() - began
        for _ in range(20):
            crowd.turn()
        guard.cancel()
        crowd.sock.close()
    assert process.returncode == 0 and took < 5
    # they all leave in one flush: where the kernel grants a small buffer only, the wire loses some
    least = PLAYERS if crowd.buffer >= 2 << 20 else PLAYERS // 4
    assert least <= len(crowd.leaves) <= PLAYERS and set(crowd.leaves) == {0xFFFFFF09}, "stopping, each once"
