"""The bad network: every knob does what it says, and the dice depend on the seed alone."""

import itertools

import pytest

from toolips_udp.testing.knobs import PROFILES, Knobs
from toolips_udp.testing.network import BadNetwork
from toolips_udp.testing.trace import ARRIVED, FATES

MS = 1_000_000


def send(count=1000, size=100, gap=MS, seed=1, link="a", direction="up", **knobs):
    """(send time, deliveries) of `count` numbered datagrams, and the network."""
    network = BadNetwork(seed, **knobs)
    way = getattr(network.link(link), direction)
    out = []
    for n in range(count):
        out.append((n * gap, way.push(n * gap, n.to_bytes(4, "big") + bytes(size - 4))))
    return out, network


def arrivals(sent):
    """Numbers in order of arrival."""
    order = sorted((at, data) for _, got in sent for at, data in got)
    return [int.from_bytes(data[:4], "big") for _, data in order]


def test_a_calm_network_delivers_everything_at_once_and_unchanged():
    sent, network = send()
    assert all(got == [(at, n.to_bytes(4, "big") + bytes(96))] for n, (at, got) in enumerate(sent))
    assert network.trace.counts == {fate: 1000 if fate == "delivered" else 0 for fate in FATES}


def test_loss_takes_its_share_and_no_more():
    sent, network = send(count=20_000, loss=0.1)
    assert 1800 < network.trace.counts["lost"] < 2200
    assert len(arrivals(sent)) == 20_000 - network.trace.counts["lost"]


def test_a_burst_loses_neighbours():
    sent, network = send(count=20_000, burst=(0.01, 0.25, 0.9))
    lost = [not got for _, got in sent]
    share = sum(lost) / len(lost)
    after_a_loss = sum(b for a, b in itertools.pairwise(lost) if a) / sum(lost)
    assert 0.02 < share < 0.06
    assert after_a_loss > 0.5 > share * 5
    assert network.trace.counts["burst"] == sum(lost)


def test_a_datagram_above_the_mtu_vanishes():
    sent, network = send(size=1200, count=5, mtu=1200)
    assert network.trace.counts["delivered"] == 5
    sent, network = send(size=1201, count=5, mtu=1200)
    assert arrivals(sent) == [] and network.trace.counts["mtu"] == 5


def test_corruption_flips_one_to_four_bits():
    network = BadNetwork(3, corrupt=1.0)
    flips = set()
    for n in range(500):
        data = n.to_bytes(40, "big")
        ((_, got),) = network.link("a").up.push(0, data)
        flips.add((int.from_bytes(data, "big") ^ int.from_bytes(got, "big")).bit_count())
        assert len(got) == 40
    assert flips == {1, 2, 3, 4}
    assert network.link("a").up.push(0, b"")[0][1] == b""


def test_a_duplicate_comes_after_the_first_copy_and_within_the_gap():
    sent, network = send(duplicate=0.5, duplicate_gap=0.02, latency=0.05)
    doubled = [(at, got) for at, got in sent if len(got) == 2]
    assert 400 < len(doubled) == network.trace.counts["duplicated"] < 600
    for _, ((first, one), (second, two)) in doubled:
        assert one == two and 0 <= second - first <= 20 * MS


def test_latency_is_constant():
    sent, _ = send(latency=0.07)
    assert {got[0][0] - at for at, got in sent} == {70 * MS}


@pytest.mark.parametrize("shape", ["uniform", "normal", "long"])
def test_jitter_adds_up_to_its_value_and_keeps_order(shape):
    sent, _ = send(latency=0.01, jitter=0.02, jitter_shape=shape, gap=100 * MS)
    added = sorted(got[0][0] - at - 10 * MS for at, got in sent)
    assert 0 <= added[0] < 5 * MS and 10 * MS < added[-1] <= 20 * MS
    middle = added[500] / MS
    assert 8 < middle < 12 if shape != "long" else middle < 3
    sent, _ = send(latency=0.01, jitter=0.02, jitter_shape=shape)
    assert arrivals(sent) == list(range(1000))


def test_jitter_changes_the_order_when_it_may_overtake():
    sent, _ = send(jitter=0.02, overtake=True)
    assert arrivals(sent) != list(range(1000))
    assert sorted(arrivals(sent)) == list(range(1000))


def test_reordering_holds_one_back_and_lets_later_ones_pass():
    sent, network = send(reorder=0.05, reorder_gap=0.0035)
    held = [n for n, (at, got) in enumerate(sent) if got[0][0] - at == 3.5 * MS]
    assert 20 < len(held) == network.trace.counts["held"] < 80
    order = arrivals(sent)
    alone = [n for n in held if not {n - 1, n - 2, n - 3, n + 1, n + 2, n + 3} & set(held) and n + 3 < 1000]
    assert alone
    for n in alone:
        assert order.index(n) > order.index(n + 3) > order.index(n - 1)


def test_a_rate_adds_delay_and_then_loss():
    # 100 bytes each ms are 100,000 bytes a second into a link that carries half of them.
    sent, network = send(rate=50_000, queue=5_000)
    delays = [got[0][0] - at for at, got in sent if got]
    assert delays[0] == 0
    assert max(delays) == pytest.approx(100 * MS, abs=2 * MS)
    assert 400 < network.trace.counts["queue"] < 500
    last = max(at for _, got in sent for at, _ in got)
    carried = sum(len(got) for _, got in sent) * 100
    assert carried / (last / 1e9) == pytest.approx(50_000, rel=0.05)


def test_a_cut_link_carries_nothing_until_it_heals():
    network = BadNetwork(1)
    link = network.link("a")
    link.cut()
    assert link.up.push(0, b"x") == [] == link.down.push(0, b"x")
    link.heal()
    assert link.up.push(5, b"x") == [(5, b"x")]
    assert network.trace.counts["cut"] == 2


def test_the_fates_add_up_to_what_was_sent():
    sent, network = send(
        count=5000, size=600, mtu=1000, loss=0.1, burst=(0.01, 0.25, 0.9), corrupt=0.05, duplicate=0.1,
        rate=500_000, queue=20_000, latency=0.02, jitter=0.01, reorder=0.05,
    )  # fmt: skip
    counts = network.trace.counts
    assert sum(counts.values()) == 5000 == network.trace.length
    assert sum(bool(got) for _, got in sent) == sum(counts[fate] for fate in ARRIVED)
    assert all(counts[fate] for fate in FATES if fate not in ("mtu", "cut"))


def test_one_seed_gives_one_trace_and_another_seed_another():
    knobs = {"loss": 0.1, "jitter": 0.03, "duplicate": 0.1, "reorder": 0.1, "corrupt": 0.1}
    one, first = send(seed=42, **knobs)
    two, second = send(seed=42, **knobs)
    other, third = send(seed=43, **knobs)
    assert one == two and first.trace.hash() == second.trace.hash()
    assert one != other and first.trace.hash() != third.trace.hash()


@pytest.mark.parametrize(
    "turned",
    [
        {"burst": (0.1, 0.2, 1.0)}, {"corrupt": 1.0}, {"duplicate": 0.5}, {"jitter": 0.1}, {"reorder": 0.5},
        {"latency": 1.0}, {"mtu": 50}, {"rate": 1e6},
    ],
)  # fmt: skip
def test_turning_one_knob_leaves_the_dice_of_loss_alone(turned):
    _, calm = send(loss=0.2)
    _, turned_network = send(loss=0.2, **turned)
    lost = {entry.number for entry in calm.trace if entry.fate == "lost"}
    now_lost = {entry.number for entry in turned_network.trace if entry.fate == "lost"}
    if "mtu" in turned:
        assert not now_lost
    else:
        assert lost == now_lost


def test_links_and_directions_have_dice_of_their_own():
    fates = set()
    for link in ("a", "b"):
        for direction in ("up", "down"):
            sent, _ = send(loss=0.5, link=link, direction=direction)
            fates.add(tuple(bool(got) for _, got in sent))
    assert len(fates) == 4


def test_knobs_turn_while_datagrams_are_under_way():
    network = BadNetwork(1, latency=1.0)
    link = network.link("a")
    assert link.up.push(0, b"slow")[0][0] == 1000 * MS
    link.up.set(latency=0.0, overtake=True)
    assert link.up.push(1, b"fast")[0][0] == 1
    assert link.down.push(1, b"slow")[0][0] == 1000 * MS + 1
    network.set(loss=1.0)
    assert link.up.push(2, b"gone") == [] == network.link("later").down.push(2, b"gone")


def test_each_direction_can_have_its_own_weather():
    network = BadNetwork(1, latency=0.01, up="loss=1", down=Knobs(latency=0.5))
    assert network.link("a").up.push(0, b"x") == []
    assert network.link("a").down.push(0, b"x") == [(500 * MS, b"x")]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_can_be_named(name):
    sent, network = send(count=2000, gap=10 * MS, profile=name)
    k = PROFILES[name]
    assert network.up == k
    lost = 2000 - sum(bool(got) for _, got in sent)
    mean = k.loss if not k.burst else k.burst[0] / (k.burst[0] + k.burst[1]) * k.burst[2]
    assert mean * 2000 * 0.4 <= lost <= mean * 2000 * 1.8 + 5


def test_the_text_of_the_command_line_is_read():
    assert Knobs.parse("loss=0.1,latency=0.05") == Knobs(loss=0.1, latency=0.05)
    assert Knobs.parse("wifi, loss=0.2") == PROFILES["wifi"].changed(loss=0.2)
    assert Knobs.parse("burst=0.01:0.25:0.9,overtake,mtu=900") == Knobs(
        burst=(0.01, 0.25, 0.9), overtake=True, mtu=900
    )
    assert Knobs.parse("") == Knobs()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("los=0.1", "Did you mean 'loss'"), ("loss=2", "0 to 1"), ("loss=x", "not a value"),
        ("latency=-1", "0 to"),
        ("jitter_shape=round", "uniform"), ("burst=0.1:0.2", "enter, leave, loss"), ("mtu=0", "mtu is 0"),
    ],
)  # fmt: skip
def test_a_knob_that_makes_no_sense_is_refused_with_what_was_expected(text, says):
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        Knobs.parse(text)


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'wifi'"):
        BadNetwork(1, profile="wify")


def test_the_trace_keeps_its_hash_when_it_forgets_old_entries():
    _, short = send(count=70_000, size=4, gap=1, loss=0.1, keep=100)
    _, long = send(count=70_000, size=4, gap=1, loss=0.1, keep=1_000_000)
    assert len(short.trace) < 70_000 == len(long.trace)
    assert short.trace.hash() == long.trace.hash()
    assert short.trace.counts == long.trace.counts


def test_swizzle_orders_depend_on_the_seed_alone():
    def orders(seed):
        network = BadNetwork(seed)
        for name in "dbca":
            network.link(name)
        return [[link.name for link in order] for order in network.swizzle("x")]

    assert orders(1) == orders(1)
    assert all(sorted(order) == list("abcd") for order in orders(1))
    assert len({str(orders(seed)) for seed in range(20)}) > 5


def test_a_link_without_a_carrier_has_no_port_to_change():
    with pytest.raises(RuntimeError, match="carried by no"):
        BadNetwork(1).link("a").rebind()
