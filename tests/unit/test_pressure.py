"""Near the memory limit of a control group: what is read, and who is refused when."""

from types import SimpleNamespace

import pytest

from toolips_udp.servers.pressure import Group, Pressure

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
