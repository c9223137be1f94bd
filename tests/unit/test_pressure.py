"""Near the memory limit of a control group: what is read, and who is refused when."""

from types import SimpleNamespace

import pytest

from toolips_udp.servers import pressure as module
from toolips_udp.servers.pressure import PERIOD, Group, Pressure, watch

NEW = {"memory.max": "1000", "memory.current": "500", "memory.stat": "anon 400\ninactive_file 100\n"}
OLD = {
    "memory.limit_in_bytes": "1000",
    "memory.usage_in_bytes": "500",
    "memory.stat": "inactive_file 7\ntotal_inactive_file 100\n",
}


@pytest.fixture
def machine(tmp_path):
    """A root folder with control groups in it."""

    def make(line, groups):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(f"1:cpu:/elsewhere\n{line}\n")
        for folder, files in groups.items():
            where = tmp_path / "sys/fs/cgroup" / folder
            where.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (where / name).write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    "line, groups",
    [
        ("0::/a/b", {"a/b": NEW}),
        ("4:memory:/a/b", {"memory/a/b": OLD}),
        ("4:hugetlb,memory:/a/b", {"memory/a": OLD}),  # the limit of a group around ours
        ("0::/a/b", {"": NEW}),  # in a container the path may be the host's
        ("0::/a/b", {"a": NEW, "a/b": NEW | {"memory.max": "max"}}),
        ("0::/a/b", {"a": NEW | {"memory.max": "9000"}, "a/b": NEW}),  # the nearest to its limit counts
    ],
)
def test_the_share_is_what_cannot_be_dropped_of_the_smallest_limit_around_us(machine, line, groups):
    group = Group(machine(line, groups))
    assert group and group.share() == 0.4


@pytest.mark.parametrize(
    "line, groups",
    [
        ("0::/a", {"a": NEW | {"memory.max": "max"}}),
        ("4:memory:/a", {"memory/a": OLD | {"memory.limit_in_bytes": "9223372036854771712"}}),
        ("0::/a", {}),
    ],
)
def test_without_a_limit_there_is_nothing_to_look_after(machine, line, groups):
    assert not Group(machine(line, groups))


def test_a_group_that_goes_away_is_no_pressure(machine):
    root = machine("0::/a", {"a": NEW})
    group = Group(root)
    (root / "sys/fs/cgroup/a/memory.stat").unlink()
    assert group.share() == 0.0


def test_marks_are_passed_at_80_and_95_percent_and_left_5_below():
    told, said, shares = [], [], [0.79, 0.81, 0.78, 0.76, 0.96, 0.91, 0.89, 0.74, 0.99, 0.1]
    server = SimpleNamespace(
        modes=[SimpleNamespace(press=told.append)],
        journal=SimpleNamespace(event=lambda kind, level, text, word: said.append(text)),
    )
    found = []
    pressure = Pressure(server, SimpleNamespace(share=lambda: shares.pop(0)))
    while shares:
        pressure.look()
        found.append(pressure.level)
    assert found == [0, 1, 1, 1, 2, 2, 1, 0, 2, 0]
    assert told == [1, 2, 1, 0, 2, 0]
    assert "81% of the limit" in said[0] and "everybody is served again" in said[-1]


def test_a_group_that_went_away_does_not_hide_those_around_it(machine):
    root = machine("0::/a/b", {"a": NEW, "a/b": NEW | {"memory.current": "900"}})
    group = Group(root)
    assert group.share() == 0.8
    (root / "sys/fs/cgroup/a/b/memory.stat").unlink()
    assert group.share() == 0.4


def test_of_several_kinds_of_groups_and_names_with_colons_all_are_found(machine):
    both = "4:memory:/a:x\n0::/b:y"
    root = machine(both, {"memory/a:x": OLD, "b:y": NEW | {"memory.current": "800"}})
    assert Group(root).share() == 0.7
    (root / "sys/fs/cgroup/b:y/memory.current").write_text("100")
    assert Group(root).share() == 0.4, "that of the first version"


def test_pages_that_nobody_counts_are_none(machine):
    root = machine("0::/a", {"a": NEW | {"memory.stat": "anon 400\n"}})
    assert Group(root).share() == 0.5


@pytest.mark.parametrize("limit, found", [(1 << 60, False), ((1 << 60) - 1, True)])
def test_a_limit_of_2_to_the_60_is_none(machine, limit, found):
    assert bool(Group(machine("0::/a", {"a": NEW | {"memory.max": str(limit)}}))) is found


class Loop:
    """A loop that remembers what it is asked for later."""

    def __init__(self):
        self.asked = []

    def call_later(self, seconds, function, *given):
        handle = SimpleNamespace(seconds=seconds, run=lambda: function(*given), cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        self.asked.append(handle)
        return handle


def watched(loop, monkeypatch, share):
    """A server that is watched, with a group whose share is in hand."""
    at_stop, told = [], []
    server = SimpleNamespace(
        modes=[SimpleNamespace(press=told.append)], journal=SimpleNamespace(event=lambda *a, **k: None),
        loop=loop, at_stop=at_stop.append,
    )  # fmt: skip
    monkeypatch.setattr(module, "Group", lambda: share)
    return watch(server), at_stop, told


class Share:
    """A group, or (None) no limit."""

    def __init__(self, used):
        self.used = used

    def __bool__(self):
        return self.used is not None

    def share(self):
        return self.used


def test_a_running_server_is_looked_after_four_times_a_second_until_it_stops(monkeypatch):
    loop, share = Loop(), Share(0.5)
    found, at_stop, told = watched(loop, monkeypatch, share)
    assert isinstance(found, Pressure) and [each.seconds for each in loop.asked] == [PERIOD]
    loop.asked[0].run()
    assert told == [] and [each.seconds for each in loop.asked] == [PERIOD] * 2
    share.used = 0.9
    loop.asked[1].run()
    assert told == [1] and len(loop.asked) == 3
    at_stop[0]()
    assert [each.cancelled for each in loop.asked] == [False, False, True]


def test_without_a_limit_or_a_loop_nobody_looks(monkeypatch):
    loop = Loop()
    assert watched(loop, monkeypatch, Share(None)) == (None, [], []) and loop.asked == []
    assert watched(None, monkeypatch, Share(0.5)) == (None, [], [])


def test_a_look_that_never_began_can_end():
    Pressure(None, None).end()


def test_what_is_told_is_a_warning_until_all_is_well(monkeypatch):
    said, share = [], Share(0.97)
    server = SimpleNamespace(
        modes=[], journal=SimpleNamespace(event=lambda *given, **more: said.append((given, more)))
    )
    pressure = Pressure(server, share)
    pressure.look()
    share.used = 0.1
    pressure.look()
    text = "memory is at {} of the limit of its control group: {}"
    assert said == [
        (("memory 2", 30, text.format("97%", "what needs Python is refused")), {"word": "shed"}),
        (("memory 0", 20, text.format("10%", "everybody is served again")), {"word": "shed"}),
    ]
