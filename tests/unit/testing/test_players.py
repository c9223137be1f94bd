"""Games in a world: real peers over the shipped C, whatever the network does."""

import types

import pytest
from msgspec import Struct

from toolips_udp.game import RELIABLE, SEQUENCED, Game, simulate
from toolips_udp.testing import farm


def chat(**settings):
    """The chat of the book of programs, as a module."""
    game = Game(channels=1, **settings)

    @game.message(1)
    class Say(Struct):
        text: str

    @game.on_join
    def welcome(peer):
        peer.enter(game.room("lobby"))

    @game.on(Say)
    def say(peer, line):
        peer.room.broadcast(Say(f"{peer.id}: {line.text}"), exclude=peer)

    made = types.ModuleType("chat")
    made.game, made.Say = game, Say
    return made


def test_every_line_arrives_once_and_in_order_at_ten_percent_loss():
    made = chat()
    with simulate.World(seed=7, loss=0.10, latency=0.050, jitter=0.010) as world:
        world.serve(made)
        ann, bob = world.client(), world.client()
        for n in range(100):
            ann.send(made.Say(str(n)))
        world.run(20.0)
        assert [m.text.split(": ")[1] for m in bob.received(made.Say)] == [str(n) for n in range(100)]
        assert ann.received() == [] and world.trace.counts["lost"] > 10


def run_chat(seed):
    made = chat()
    with simulate.World(seed=seed, loss=0.2, latency=0.05, jitter=0.05, duplicate=0.1, reorder=0.1) as world:
        world.serve(made)
        players = [world.client(compress=n == 2, checksum=n == 1) for n in range(3)]
        for n in range(60):
            players[n % 3].send(made.Say("x" * n))
            world.run(0.2)
        return world.trace.hash()


def test_one_seed_gives_one_trace_with_peers_and_the_shipped_c():
    assert run_chat(11) == run_chat(11) != run_chat(12)


def test_a_large_unreliable_message_and_a_reliable_one_share_a_datagram_in_peace():
    """The payload of an unreliable message was freed while it was still the tail of a datagram being built."""
    game, got = Game(channels=1), []
    game.on_message(lambda peer, m: got.append(m.data))
    made = types.ModuleType("made")
    made.game = game
    with simulate.World(seed=1) as world:
        world.serve(made)
        ann = world.client(channels=1)
        for n in range(300):
            ann.send(bytes([n % 256]) * 600, 0, SEQUENCED)
            ann.send(bytes([n % 256]) * 700, 0, RELIABLE)
            ann.send(bytes([n % 256]) * 1000, 0, SEQUENCED)
            world.run(0.01)
        world.run(5.0)
        assert all(len(set(data)) == 1 and len(data) in (600, 700, 1000) for data in got)
        assert [data[0] for data in got if len(data) == 700] == [n % 256 for n in range(300)]


def test_the_token_of_a_peer_that_left_opens_nothing():
    made, back = chat(resume=15.0), []
    made.game.on_resume(back.append)
    with simulate.World(seed=1) as world:
        world.serve(made)
        ann = world.client(channels=1)
        world.run(1.0)
        token = ann.token
        ann.close()
        world.run(1.0)
        bob = world.client(channels=1, token=token)
        world.run(1.0)
        assert back == [] and bob.open and len(made.game.peers) == 1
        carol = world.client(channels=1)
        world.run(1.0)
        world.crash("client3")
        dave = world.client(channels=1, token=carol.token)
        world.run(2.0)
        assert len(back) == 1 and dave.open


def test_a_player_that_is_refused_says_why():
    made = chat(max_peers=1)
    with simulate.World(seed=1) as world:
        world.serve(made)
        world.client()
        with pytest.raises(ConnectionRefusedError, match="full"):
            world.client()


def test_a_client_notices_a_crashed_server_and_joins_the_next_one():
    with simulate.World(seed=1) as world:
        world.serve(chat)
        ann = world.client(channels=1)
        world.crash("server1")
        world.run_until(lambda: ann.leave is not None, 60.0)
        assert ann.leave.word == "timeout"
        world.restart("server1")
        assert world.client(channels=1).open


def test_twenty_seeds_of_peers_hold():
    for seed in range(20):
        outcome = farm.run_seed("peers", seed, 1.0, twice=seed < 2)
        assert not outcome.problem, f"seed {seed}: {outcome.problem}\n{outcome.again}"


@pytest.mark.parametrize("minutes", [1.0, pytest.param(60.0, marks=pytest.mark.long)])
def test_reliable_channels_hold_at_thirty_percent_loss_duplicates_reordering_and_jitter(minutes):
    """Four clients, 20 messages a second each, echoed: exactly once and in order, both ways."""
    game, came, back = Game(channels=1), [0] * 4, [0] * 4

    @game.on_message
    def echo(peer, m):
        assert int.from_bytes(m.data, "big") == came[peer.user_data]
        came[peer.user_data] += 1
        peer.send(m.data)

    def counting(number):
        def took(m):
            assert int.from_bytes(m.data, "big") == back[number]
            back[number] += 1

        return took

    made = types.ModuleType("made")
    made.game = game
    weather = {
        "loss": 0.3,
        "duplicate": 0.1,
        "reorder": 0.1,
        "reorder_gap": 0.1,
        "latency": 0.1,
        "jitter": 0.2,
    }
    with simulate.World(seed=1, keep=1000, **weather) as world:
        server = world.serve(made)
        players = [world.client(channels=1, data=number) for number in range(4)]
        for number, player in enumerate(players):
            player.on_message = counting(number)
        sent, end = 0, world.now + minutes * 60

        def send():
            nonlocal sent
            for player in players:
                player.send(sent.to_bytes(4, "big"))
            sent += 1
            if world.now < end:
                world.at(world.now + 0.05, send)

        world.at(world.now, send)
        world.run(minutes * 60)
        world.network.set(loss=0.0, duplicate=0.0, reorder=0.0, jitter=0.0)
        world.run_until(lambda: back == [sent] * 4, 90.0)
        assert came == [sent] * 4 and sent >= minutes * 60 * 20 - 1
        assert server.counters["handler_failed"] == 0 and all(player.open for player in players)
