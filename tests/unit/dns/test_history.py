"""The history of zones that a process gives to the next one (spec X3): what is taken, and what is not."""

import asyncio
import itertools

import pytest

from toolips_udp import dns as ours
from toolips_udp.dns import history, transfer

KEY = ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ NS a\n", "e.test").key


def zone(serial, name="e.test", extra=""):
    return ours.Zone.from_text(
        f"@ 60 SOA a b {serial} 2 3 4 5\n@ NS a\nwww 60 A 192.0.2.{serial}\n{extra}", name
    )


def served(*steps, names=("e.test",)):
    """A service whose zones may be fetched."""
    transfers = ours.Transfers()
    for name in names:
        transfers.allow(name, [("127.0.0.1", None)])
    return ours.Service(*steps, transfers=transfers)


def known(service, serial, *later):
    """The service has served these versions, one after the other; the last is what its step has."""
    versions = [zone(n) for n in (serial, *later)]
    for before, after in itertools.pairwise(versions):
        service.transfers.changed(after, before)
    return service


def taken(state, service):
    """What the next one has after that: the serials at which its history begins and ends, or None."""

    async def take():
        service.restore(state)
        if service.transfers.joining is not None:
            await service.transfers.joining

    asyncio.run(take())
    journal = service.transfers.journals.get(KEY)
    if journal is None or not journal.deltas:
        return None
    assert journal.size == sum(delta.size for delta in journal.deltas)
    chain = [transfer.serial_of(delta.new[3]) for delta in journal.deltas]
    begins = [transfer.serial_of(delta.old[3]) for delta in journal.deltas]
    assert begins[1:] == chain[:-1]
    return begins[0], chain[-1]


def test_x3_the_next_process_goes_on_with_the_history_of_what_it_serves_too():
    old = known(served(zone(3)), 1, 2, 3)
    new = served(zone(3))
    assert taken(old.export(), new) == (1, 3)
    given = old.transfers.journals[KEY].deltas
    assert new.transfers.journals[KEY].deltas == given


def test_x3_the_step_to_a_file_that_has_changed_is_found():
    assert taken(known(served(zone(2)), 1, 2).export(), served(zone(5))) == (1, 5)
    new = served(zone(2))
    assert taken(served(zone(1)).export(), new) == (1, 2)  # also without a history
    step = new.transfers.journals[KEY].deltas[0]
    assert [data[-1] for *_, data in step.removed] == [1] and [data[-1] for *_, data in step.added] == [2]


@pytest.mark.parametrize(
    "now",
    [zone(2, extra="more 60 A 192.0.2.9\n"), zone(1), zone(2, "other.test")],
    ids=["other records under the same serial", "a serial that went back", "another zone"],
)
def test_x3_a_history_that_does_not_end_at_what_is_served_is_not_taken(now):
    assert taken(known(served(zone(2)), 1, 2).export(), served(now, names=("e.test", "other.test"))) is None


def test_x3_a_history_that_goes_on_before_it_is_taken_is_put_together():
    old = known(served(zone(2)), 1, 2)
    new = served(zone(3))
    new.transfers.changed(zone(3), zone(2))  # of a colleague, between the start and the handing over
    state = old.export()
    state["e.test."]["content"] = None  # a secondary
    assert taken(state, new) == (1, 3)
    gap = served(zone(4))
    gap.transfers.changed(zone(4), zone(3))
    assert taken(state, gap) == (3, 4)


def test_x3_the_records_are_given_only_where_the_next_process_may_have_others(tmp_path):
    store = ours.ZoneStore(tmp_path)
    store.save(zone(1))
    service = served(store)
    store.changed.append(service.transfers.changed)
    assert service.export() == {}
    store.save(zone(2))
    assert service.export()["e.test."]["content"] is None
    (tmp_path / "e.test.zone").write_text(zone(3).to_text())
    assert service.export()["e.test."]["content"]
    into = ours.Transfers()
    into.allow("e.test", [("127.0.0.1", None)])
    copy = into.secondary("e.test", [("127.0.0.1:1", None)])
    for serial in (1, 2):
        copy._serve(zone(serial))
    assert ours.Service(*into.steps(), transfers=into).export()["e.test."]["content"] is None


def test_x3_nothing_is_given_of_zones_that_nobody_may_fetch_or_that_are_not_ready():
    assert known(served(zone(2), names=()), 1, 2).export() == {}
    assert ours.Service(zone(2)).export() is None
    gone = zone(2)
    gone.state = "expired"
    assert known(served(gone), 1, 2).export() == {}
    ours.Service(zone(2)).restore(
        known(served(zone(2)), 1, 2).export()
    )  # it transfers nothing: nothing happens


def test_x3_what_is_given_is_bounded_and_the_newest_changes_go_first(monkeypatch):
    old = known(served(zone(4)), 1, 2, 3, 4)
    step = old.transfers.journals[KEY].deltas[0].size
    monkeypatch.setattr(history, "CARRIED_HISTORY", 2 * step)
    assert taken(old.export(), served(zone(4))) == (2, 4)
    monkeypatch.setattr(history, "CARRIED_CONTENT", len(zone(4)) - 1)
    assert old.export() == {}
    both = served(zone(4, extra="a 60 A 192.0.2.1\n"), zone(4, "small.test"), names=("e.test", "small.test"))
    monkeypatch.setattr(history, "CARRIED_CONTENT", len(zone(4)))
    assert list(both.export()) == ["small.test."]  # one that is too large takes no room from the next


def test_x3_the_journal_keeps_its_bound_when_something_is_put_before_it(monkeypatch):
    old = known(served(zone(4)), 1, 2, 3, 4)
    size = old.transfers.journals[KEY].deltas[0].size
    state = old.export()
    new = served(zone(5))
    monkeypatch.setattr(transfer, "JOURNAL_RECORDS", 2 * size)
    assert taken(state, new) == (3, 5)
