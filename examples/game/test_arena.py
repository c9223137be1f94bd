"""Arena in a simulated world: the server that ships, bots as players, bad weather from a seed."""

import importlib.util
from pathlib import Path

import pytest

from examples.game import recorded, rules
from examples.game.bots import Bot
from toolips_udp.game import SEQUENCED, Interpolation, Prediction, simulate
from toolips_udp.game.record import read, replay

HERE = Path(__file__).parent


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A fresh Arena, recording."""
    monkeypatch.setenv("ARENA_RECORDS", str(tmp_path))
    monkeypatch.setenv("ARENA_KEY", "open sesame")
    spec = importlib.util.spec_from_file_location("arena_server", HERE / "server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for room in module.arenas.rooms:
        room.state.file.close()


class Match:
    """A world with an Arena and players that are bots."""

    def __init__(self, world, server, players, room="arena:1"):
        self.world, self.server = world, server
        self.node = world.serve(server, name="arena")
        self.players = [self.join(n, room) for n in range(players)]

    def join(self, number, room="arena:1"):
        player = self.world.client()
        host = self.world.host(player)
        bot = player.bot = Bot(number, lambda: host.local(self.world.ns) / 1e9, room)
        player.replica = bot.replica
        player.on_message = lambda message: self.take(bot, message)
        bot.other = []
        bot.hello(player.send)
        return player

    def take(self, bot, message):
        bot.take(message.data)
        if message.data[:1] == b"\x0a":
            bot.other.append(self.server.game.types.decode(message.data))

    def play(self, seconds, each=lambda player: None):
        end = self.world.now + seconds

        def frame():
            for player in self.players:
                if player.open:
                    player.bot.play(player)
                    each(player)
            if self.world.now < end:
                self.world.at(self.world.now + 1 / 60, frame)

        self.world.at(self.world.now, frame)
        self.world.run(seconds + 0.001)

    @property
    def arena(self):
        return self.server.game.room("arena:1").state


def test_a_match_at_200_ms_and_five_percent_loss(server):
    with simulate.World(seed=1, latency=0.1, jitter=0.01, loss=0.05) as world:
        match = Match(world, server, 6)
        match.play(20.0)
        for player in match.players:
            bot = player.bot
            assert bot.snapshots > 300 and bot.replica.refused == 0
            assert bot.replica.latest.own and 0 <= bot.replica.latest.lead <= 8
        ships = match.arena.match.state["ships"]
        assert len(ships) == 6 and sum(ship["score"] for ship in ships.values()) > 3
        room = server.game.room("arena:1")
        assert room.schedules[0].ticks == room.schedules[0].number > 1190 and room.schedules[0].skipped == 0
        assert match.node.counters["handler_failed"] == 0


def test_what_a_player_sees_is_what_the_server_has(server):
    with simulate.World(seed=2, latency=0.05, loss=0.1) as world:
        match = Match(world, server, 3)
        match.play(3.0)
        match.players[0].bot.held = {}
        for player in match.players:
            player.bot.play = lambda client: None
        match.play(4.0)  # nobody steers: in the end everything rests
        own = {
            p.bot.replica.latest.own: p.bot.replica.latest.entities[p.bot.replica.latest.own]
            for p in match.players
        }
        truth = {e.id: match.arena.match.state["ships"][p] for p, e in match.arena.entities.items()}
        for id, ship in own.items():
            assert abs(ship["x"] - truth[id]["body"][0]) < 128 and ship["score"] == truth[id]["score"]


def test_prediction_with_the_rules_of_the_server_needs_few_corrections(server):
    with simulate.World(seed=3, latency=0.08, loss=0.05) as world:
        match = Match(world, server, 2)
        match.play(2.0)
        player = match.players[0]
        bot = player.bot
        fields = ("x", "y", "turn", "vx", "vy")
        own = bot.replica.latest.entities[bot.replica.latest.own]
        me = Prediction(rules.steer, lambda s: (s[0] / 128, s[1] / 128), tuple(own[f] for f in fields))
        take, send = bot.take, server.keys.send
        seen = []

        def taken(data):
            before = bot.snapshots
            take(data)
            if bot.snapshots > before:
                latest = bot.replica.latest
                seen.append(
                    me.reconcile(
                        latest.tick, tuple(latest.entities[latest.own][f] for f in fields), world.now
                    )
                )

        bot.take = taken
        import examples.game.bots as bots

        class Keys:
            buttons = server.keys.buttons

            @staticmethod
            def send(client, tick, **values):
                data = send(client, tick, **values)
                if client is player:
                    me.apply(tick, server.keys.unpack(data))

        bots.keys, kept = Keys, bots.keys
        try:
            match.play(10.0)
        finally:
            bots.keys = kept
        assert len(seen) > 150
        # The only surprises are late inputs; a destroyed ship comes back elsewhere.
        assert me.corrections <= 12


def test_others_are_drawn_without_jumps(server):
    with simulate.World(seed=4, latency=0.1, jitter=0.03, loss=0.02) as world:
        match = Match(world, server, 2)
        match.play(2.0)
        bot = match.players[0].bot
        between = Interpolation(server.ships.fields, server.ships.hz)
        last, jumps, frames = {}, 0, 0

        def draw(player):
            nonlocal jumps, frames
            if player.bot is not bot:
                return
            between.push(bot.replica.latest)
            for id, e in between.at(bot.replica.sync.server(bot.clock())).items():
                if id in last and not e["kind"] and id != bot.replica.latest.own:
                    frames += 1
                    jumps += abs(e["x"] - last[id]["x"]) > 2 * rules.FASTEST / 16
                last[id] = e

        match.play(10.0, draw)
        assert jumps <= frames * 0.02


def test_a_shot_hits_what_the_shooter_saw(server):
    """Two ships, one at rest in front of the other's gun, seen over 200 ms of network."""
    with simulate.World(seed=5, latency=0.1) as world:
        match = Match(world, server, 2)
        match.play(2.0)
        shooter = match.players[0]
        state = match.arena.match.state
        a, b = sorted(state["ships"])
        state["ships"][a].update(body=(0, 0, 0, 0, 0), hp=100, away=0)
        state["ships"][b].update(body=(2000, 0, 0, 0, 300), hp=100, away=0)
        for player in match.players:
            player.bot.play = lambda client: None
        hits = []
        real = match.arena.past

        def spy(tick, peer):
            look = real(tick, peer)

            def both(player):
                view = match.arena.history.view(
                    tick.number, peer.feedback.rtt, 0.1, max(peer.feedback.lead, 0)
                )
                hits.append((look(player), tick.number - view))
                return hits[-1][0]

            return both

        match.arena.past = spy
        world.run(0.3)
        y = match.arena.match.state["ships"][b]["body"][1]
        assert y > 100  # it has moved on since: a gun that points at the past would miss the present
        tick = shooter.bot.replica.latest.tick + 20
        server.keys.send(shooter, tick, fire=1)
        world.run(1.0)
        assert hits and 12 <= hits[0][1] <= 30  # ticks back: half the round trip and the interpolation


def test_the_lobby_knows_who_is_there_and_rooms_can_be_changed(server):
    with simulate.World(seed=6, latency=0.02) as world:
        match = Match(world, server, 2, room="lobby")
        match.play(2.5)
        status = match.players[0].bot.other[-1]
        assert status.room == "lobby" and set(status.present.values()) == {"bot 0", "bot 1"}
        match.players[1].send(server.Go("arena:2"))
        match.players[0].send(server.Go("nowhere"))
        match.play(2.5)
        assert match.players[0].bot.other[-1].present == {"1": "bot 0"}
        assert match.players[1].bot.other[-1].room == "arena:2" and match.players[1].bot.snapshots > 20


def test_each_player_can_have_its_own_weather(server):
    with simulate.World(seed=7, latency=0.01) as world:
        match = Match(world, server, 2)
        match.play(2.0)
        match.players[0].send(server.Weather(latency=0.15, loss=0.2))
        match.play(8.0)
        slow, fast = (player.bot.replica for player in match.players)
        assert slow.sync.rtt > 0.25 > 0.1 > fast.sync.rtt
        assert match.players[0].bot.snapshots < match.players[1].bot.snapshots * 0.92
        match.players[0].send(server.Weather(latency=-5.0, loss=7.0))
        match.play(1.0)
        assert match.players[0].open


def test_the_key_kicks_and_nothing_else_does(server):
    with simulate.World(seed=8) as world:
        match = Match(world, server, 2)
        match.play(1.0)
        match.players[1].send(server.Kick(1, "wrong"))
        match.play(1.0)
        assert match.players[0].open
        match.players[1].send(server.Kick(1, "open sesame"))
        match.play(1.0)
        assert match.players[0].leave.word == "kicked" or match.players[0].leave.code == 1
        assert len(match.arena.match.state["ships"]) == 1


def test_rules_change_in_mid_match_and_broken_ones_do_not(server, tmp_path, caplog):
    with simulate.World(seed=9) as world:
        match = Match(world, server, 3)
        match.play(2.0)
        fresh = tmp_path / "rules.py"
        fresh.write_text(
            (HERE / "rules.py")
            .read_text()
            .replace('VERSION = "1"', 'VERSION = "2"')
            .replace("GEMS = 14", "GEMS = 30")
        )
        broken = tmp_path / "broken.py"
        broken.write_text("def steer(ship, i): return ship\nclass Match: pass\n")
        before = match.arena.match.state["tick"]
        assert server.reload_rules(fresh) and not server.reload_rules(broken)
        match.play(2.0)
        assert server.rules.VERSION == "2" and len(match.arena.match.state["gems"]) == 30
        assert match.arena.match.state["tick"] >= before + 119
        assert all(player.open for player in match.players)
        assert sum("do not work" in record.message for record in caplog.records) == 1


def test_a_recorded_match_replays_to_the_same_state(server, tmp_path):
    with simulate.World(seed=10, latency=0.05, loss=0.05) as world:
        match = Match(world, server, 4)
        match.play(10.0)
        match.players[0].close()
        match.play(3.0)
        arena = match.arena
        arena.file.flush()
        path = tmp_path / f"arena-{arena.seed}.rec"
        last = arena.match.state["tick"] - 1
        digest = arena.match.hash()
    again = recorded.Recorded(read(path)[1])
    replay(path, again, last)
    assert again.hash() == digest


def test_a_speed_cheat_scores_as_an_honest_bot(server):
    """B27: five inputs for each tick move a ship no further."""
    with simulate.World(seed=11) as world:
        match = Match(world, server, 2)
        match.play(2.0)
        cheat = match.players[0]
        before = match.arena.match.state["tick"]
        held = server.keys.pack(thrust=1)

        def flood(player):
            if player is cheat:
                for extra in range(5):
                    tick = cheat.bot.last + extra
                    cheat.send(server.keys.packet(tick & 0xFFFF, [held] * 10), 0, SEQUENCED)

        match.play(3.0, flood)
        ticks = match.arena.match.state["tick"] - before
        assert ticks <= 182
        body = match.arena.match.state["ships"][min(match.arena.match.state["ships"])]["body"]
        assert abs(body[3]) <= rules.FASTEST and abs(body[4]) <= rules.FASTEST


def test_a_player_who_vanished_is_back_in_its_ship_and_sees_at_once(server):
    """Its program is a new one: it holds nothing of what the server sent, and needs a full snapshot."""
    with simulate.World(seed=9, latency=0.05, loss=0.02) as world:
        match = Match(world, server, 2)
        match.play(3.0)
        old = match.players[0]
        own, token = old.bot.replica.latest.own, old.token
        score = match.arena.match.state["ships"][1]["score"]
        world.link(old).set(cut=True)
        match.players = match.players[1:]
        match.play(0.1)
        again = world.client(token=token)
        bot = again.bot = Bot(0, lambda: world.host(again).local(world.ns) / 1e9)
        again.replica = bot.replica
        again.on_message = lambda message: bot.take(message.data)
        match.players.append(again)
        match.play(1.0)
        assert bot.snapshots > 10 and bot.replica.refused == 0
        assert bot.replica.latest.own == own
        assert match.arena.match.state["ships"][1]["score"] >= score
