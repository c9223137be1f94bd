"""As much of a game as the simulation layer needs, without a network."""

import pytest

from toolips_udp.game.room import Member, Rooms
from toolips_udp.game.tick import Agenda

SECOND = 1_000_000_000


class Peer(Member):
    def __init__(self, id, hall):
        self.id, self.hall, self.open, self.got, self.bad = id, hall, True, [], []

    def send(self, data, channel=0, delivery=None):
        self.got.append(data)
        return True

    def malformed(self, why):
        self.bad.append(why)


class Game:
    def __init__(self):
        self.ns, self.failed = 100 * SECOND, []
        self.agenda = Agenda(lambda: self.ns, self.call)
        self.rooms = Rooms(self)
        self.room = self.rooms.room
        self.Peer = Peer

    @property
    def now(self):
        return self.ns / SECOND

    def call(self, function, *args):
        try:
            return function(*args)
        except Exception as error:
            self.failed.append(error)

    def broadcast(self, data, channel=0, delivery=None, to=(), exclude=()):
        exclude = (exclude,) if isinstance(exclude, Peer) else exclude
        peers = [peer for peer in to if peer not in exclude and peer.open]
        for peer in peers:
            peer.send(data, channel, delivery)
        return len(peers)

    def run(self, seconds):
        end = self.ns + round(seconds * SECOND)
        while (due := self.agenda.deadline()) is not None and due <= end:
            self.ns = max(self.ns, due)
            self.agenda.advance(self.ns)
        self.ns = end
        assert not self.failed, self.failed

    def gone(self, peer):
        peer.open = False
        self.rooms.gone(peer)


@pytest.fixture
def game():
    return Game()


@pytest.fixture
def peers(game):
    return [Peer(n, game.rooms) for n in range(1, 6)]
