"""The seed farm: it repeats, it finds what is broken, and it says how to see it again."""

import pytest

from toolips_udp.testing import farm, scenarios
from toolips_udp.testing.scenarios import foundation
from toolips_udp.testing.world import Broken


def test_a_seed_run_twice_has_one_trace():
    for seed in range(5):
        outcome = farm.run_seed("foundation", seed, 0.5, twice=True)
        assert not outcome.problem and len(outcome.hash) == 64
    assert farm.run_seed("foundation", 0, 0.5).hash != farm.run_seed("foundation", 1, 0.5).hash


def test_fifty_seeds_hold_and_meet_the_rare_things():
    report = farm.Report()
    for outcome in farm.farm([("foundation", seed) for seed in range(50)], 1.0):
        assert not outcome.problem, f"seed {outcome.seed}: {outcome.problem}\n{outcome.again}"
        report.add(outcome)
    assert report.unmet == []
    assert report.seconds >= 50 * 60


def test_a_server_that_answers_twice_is_found(monkeypatch, capsys, tmp_path):
    real = foundation.module

    def double():
        made = real()
        answer = made.main.fn

        async def main(c):
            await answer(c)
            for _ in range(4):
                c.respond(c.packet)

        from toolips_udp import handler

        made.main = handler(main)
        return made

    monkeypatch.setattr(foundation, "module", double)
    failures = tmp_path / "failures.txt"
    words = ["--scenario", "foundation", "--seeds", "1..8", "--minutes", "1", "--failures", str(failures)]
    assert farm.main(words) == 1
    out = capsys.readouterr().out
    assert "answers to question" in out
    seed = farm.known_failures(failures)[0][1]
    command = f"--scenario foundation --seeds {seed}..{seed} --minutes 1 --show"
    assert f"python -m toolips_udp.testing.farm {command}" in out
    assert len(farm.known_failures(failures)) >= 1
    monkeypatch.setattr(foundation, "module", real)
    assert farm.main(words) == 0
    assert f"{8 + len(farm.known_failures(failures))} seeds" in capsys.readouterr().out


def test_a_ledger_that_does_not_close_is_found():
    class Server:
        counters = {"received": 5, "handled": 3} | dict.fromkeys(foundation.DROPS, 0)
        in_flight = 1

    with pytest.raises(Broken, match="5 received, 4 accounted"):
        foundation._books(Server)


def test_a_set_that_never_met_a_goal_is_a_failed_set():
    report = farm.Report()
    for seed in range(farm.FEW):
        report.add(farm.Outcome("foundation", seed, 1.0, goals={"delivered": 1}))
    assert "foundation: lost" in report.unmet and not report.ok
    assert "foundation: delivered" not in report.unmet


def test_several_processes_give_the_same_as_one():
    work = [("foundation", seed) for seed in range(4)]
    one = {o.seed: o.hash for o in farm.farm(work, 0.3)}
    two = {o.seed: o.hash for o in farm.farm(work, 0.3, jobs=2)}
    assert one == two


@pytest.mark.parametrize("text", ["x", "5..1", "1..y"])
def test_seeds_that_are_none_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        farm.main(["--seeds", text])
    assert "seed" in capsys.readouterr().err


def test_an_unknown_scenario_is_named():
    with pytest.raises(ValueError, match="there are foundation"):
        scenarios.scenario("x")
