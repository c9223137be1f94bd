"""Threads and processes that serve packets: the schedule, effects in order, dead workers."""

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from toolips_udp import (
    UDP,
    StartError,
    UDPIOConnection,
    assign,
    assign_open,
    distribute,
    get_return,
    handler,
    new_job,
    put,
    start,
    waitfor,
)
from toolips_udp.jobs import distribute_open, everywhere, shared
from toolips_udp.runners.schedule import Schedule, read

WORKSHOP = str(Path(__file__).parent / "programs" / "workshop.py")
KINDS = ("thread", "process")


@handler
def tell_worker(c):
    c.respond(str(c.worker))


def add(n, by=5):
    return n + by


def test_a_tc5_the_schedule_deals_packets_to_the_main_loop_and_the_workers(server, transport, peer):
    client = peer(server(tell_worker, threads=3, router_threads=(-2, 3)).address)
    assert [int(client.ask()) for _ in range(12)] == [1, 1, 1, 1, 2, 3] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_tc13_jobs_run_in_their_worker_while_packets_stay_on_the_main_loop(server, peer, kind):
    running = server(module=WORKSHOP, threads=3, router_threads=(1, 1), kind=kind)
    client = peer(running.address)
    [future] = assign(running, 2, new_job(os.getpid))
    assert future.worker == 2
    assert (future.result(10) == os.getpid()) is (kind == "thread")
    assert {client.ask(b"worker").split()[0] for _ in range(8)} == {b"1"}
    assert running.processes.ids() == [1, 2, 3]


def test_a_tc14_three_spellings_mean_the_same_and_a_wrong_one_is_told(server, peer):
    for spelling in ("-2:3", (-2, 3), range(-2, 4)):
        schedule = read(spelling, 3)
        assert [schedule.pick(None) for _ in range(6)] == [1, 1, 1, 1, 2, 3]
    with pytest.raises(StartError, match="names worker 4, but threads=3"):
        server(tell_worker, threads=3, router_threads=(1, 4))
    for wrong in ("a:b", (3, 1), range(0, 9, 2), 7, (1.0, 2)):
        with pytest.raises(StartError, match="router_threads"):
            read(wrong, 9)
    without = server(tell_worker, router_threads=(2, 9))
    assert peer(without.address).ask() == b"1"
    assert read(None, None) is None
    assert read((1, 1), 8) is None
    default = read(None, 3)
    assert (default.low, default.high) == (-2, 3)


def test_a_tc20_a_bare_object_cannot_be_served_by_process_workers():
    with pytest.raises(StartError, match=r"workers import what they serve.*\.py file"):
        start(UDP, SimpleNamespace(main=tell_worker), "127.0.0.1:0", threads=2, kind="process", control=False)


def test_a_process_worker_that_cannot_load_the_module_is_a_start_error(tmp_path):
    path = tmp_path / "only_here.py"
    path.write_text(
        "import os\nfrom toolips_udp import handler\n"
        f"if os.getpid() != {os.getpid()}:\n    raise RuntimeError('not in a worker')\n"
        "@handler\ndef main(c): pass\n"
    )
    with pytest.raises(StartError, match="not in a worker"):
        start(UDP, str(path), "127.0.0.1:0", threads=2, kind="process", control=False)


@pytest.mark.alone
def test_a_ud12_sleeping_handlers_in_four_workers_leave_the_loop_free(server, transport, peer):
    @handler
    def main(c):
        time.sleep(0.1)
        c.respond(c.packet)

    running = server(main, threads=5, router_threads=(2, 5))
    client = peer(running.address)
    began = time.monotonic()
    for n in range(40):
        client.send(b"%d" % n)
    while running.counters["received"] < 40:
        assert time.monotonic() - began < 0.5, "receiving waits for the workers"
        time.sleep(0.002)
    answers = Counter(client.recv(100) for _ in range(40))
    assert time.monotonic() - began < 1.5
    assert answers == Counter(b"%d" % n for n in range(40))


@pytest.mark.parametrize("kind", KINDS)
def test_a_ud13_effects_in_a_worker_equal_those_on_the_main_loop(server, peer, kind, eventually):
    def effects(running):
        client = peer(running.address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third:
            third.bind(("127.0.0.1", 0))
            third.settimeout(5)
            client.send(b"effects 127.0.0.1:%d" % third.getsockname()[1])
            heard = [client.recv(100), client.recv(100), third.recv(100)]
        eventually(lambda: running.in_flight == 0)
        heard += [client.ask(b"x"), client.ask(b"y")]
        return heard, running.data["seen"]

    on_loop = effects(server(module=WORKSHOP))
    in_worker = effects(server(module=WORKSHOP, threads=2, router_threads=(2, 2), kind=kind))
    assert in_worker == on_loop
    assert on_loop[0] == [b"first", b"second 1 True", b"to a third party", b"Ada was on second", b"y"]


def test_a_ud14_a_killed_worker_costs_its_packet_and_is_replaced(server, peer, eventually):
    running = server(module=WORKSHOP, threads=2, router_threads=(2, 2), kind="process")
    client = peer(running.address, timeout=10)
    first = client.ask(b"worker").split()
    assert first[0] == b"2"
    assert int(first[1]) != os.getpid()
    client.send(b"die")
    eventually(lambda: running.counters["worker_lost"] == 1, 10)
    second = client.ask(b"worker").split()
    assert second[0] == b"2"
    assert second[1] != first[1]
    eventually(lambda: running.counters["handled"] == 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ud15_a_handler_that_raises_in_a_worker_leaves_it_at_work(server, peer, kind, caplog, eventually):
    errors = []
    running = server(
        module=WORKSHOP,
        threads=2,
        router_threads=(2, 2),
        kind=kind,
        on_error=lambda c, error: errors.append((c.address, error)),
    )
    client = peer(running.address, timeout=10)
    client.send(b"boom here")
    assert client.ask(b"echo") == b"echo"
    eventually(lambda: running.counters["handler_failed"] == 1)
    assert [type(error) for _, error in errors] == [ValueError]
    assert "boom in here" in caplog.text
    client.send(b"unknown")
    assert client.ask(b"echo") == b"echo"
    eventually(lambda: running.counters["handler_failed"] == 2)
    assert "no handler is called 'nobody'" in str(errors[1][1])


@pytest.mark.parametrize("settings", [{}, {"threads": 3}, {"threads": 3, "kind": "process"}])
def test_a_ud21_peers_are_told_1_to_5_with_and_without_workers(server, peer, settings):
    running = server(module=WORKSHOP, **settings)
    told = []
    for _ in range(5):
        client = peer(running.address, timeout=10)
        client.send(b"count me")
        assert client.recv(100)
        told.append(int(client.ask(b"count")))
    assert told == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_in_a_worker_that_passes_its_deadline_frees_its_place(server, peer, kind, eventually):
    running = server(module=WORKSHOP, threads=2, router_threads=(2, 2), kind=kind)
    client = peer(running.address, timeout=10)
    assert client.ask(b"hasty") == b"hasty now"
    client.send(b"hang")
    eventually(lambda: running.counters["handler_failed"] == 1, 10)
    assert peer(running.address, timeout=10).ask(b"again") == b"again", "the same worker serves on"
    eventually(lambda: running.in_flight == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ud28_ordered_keeps_the_packets_of_one_client_in_order(server, peer, kind):
    running = server(module=WORKSHOP, threads=5, router_threads=(2, 5), kind=kind, ordered=True)
    client = peer(running.address, timeout=10)
    for n in range(1, 101):
        client.send(b"number %d" % n)
    assert [int(client.recv(100)) for _ in range(100)] == list(range(1, 101))


def test_without_ordered_a_slow_packet_does_not_hold_the_next_one_of_its_client(server, peer):
    client = peer(server(module=WORKSHOP, threads=3, router_threads=(2, 3)).address)
    client.send(b"sleep 0.3")
    client.send(b"quick")
    assert client.recv(100) == b"quick"
    assert client.recv(100) == b"0.3"


def test_a_threaded_handler_gets_a_pool_without_threads_and_an_io_connection(server, transport, peer):
    kinds = []

    @handler(threaded=True)
    def main(c):
        kinds.append((type(c), threading.current_thread() is threading.main_thread()))
        c.respond(str(c.worker))

    running = server(main)
    assert int(peer(running.address).ask()) >= 2
    assert kinds == [(UDPIOConnection, False)]
    assert 2 <= len(running.processes) <= 9


def test_more_packets_than_the_queue_holds_are_counted_queue_full(server, transport, peer, eventually):
    gate = threading.Event()

    @handler(threaded=True)
    def main(c):
        gate.wait(10)

    running = server(main, threads=2, max_jobs=3)
    client = peer(running.address)
    try:
        for _ in range(10):
            client.send(b"x")
        eventually(lambda: running.counters["queue_full"] == 7)
    finally:
        gate.set()
    eventually(lambda: running.counters["handled"] == 3)


def test_what_cannot_leave_a_process_worker_is_an_error_of_the_handler(server, peer, caplog, eventually):
    running = server(module=WORKSHOP, threads=2, router_threads=(2, 2), kind="process")
    client = peer(running.address, timeout=10)
    client.send(b"object")
    assert client.ask(b"echo") == b"echo"
    eventually(lambda: running.counters["handler_failed"] == 1)
    assert "cannot travel to another process" in caplog.text


@pytest.mark.parametrize("form", ["manager", "server", "connection"])
def test_a_pp14_verbs_give_the_same_results_on_a_manager_a_server_and_a_connection(server, peer, form):
    kept = []

    @handler
    def main(c):
        kept.append(c)
        c.respond("kept")

    running = server(main, threads=3, router_threads=(1, 1))
    assert peer(running.address).ask() == b"kept"
    target = {"manager": running.processes, "server": running, "connection": kept[0]}[form]
    kept.clear()
    assert assign(target, 2, new_job(add, 1), sync=True) == [6]
    assert assign_open(target, new_job(add, 2), sync=True) == [7]
    assert [f.result(5) for f in distribute(target, new_job(add, 3), new_job(add, 4))] == [8, 9]
    assert [f.result(5) for f in distribute_open(target, new_job(add, 5))] == [10]
    assign(target, 3, new_job(add, 6))
    assert waitfor(target, 3, timeout=5)[-1] == 11
    assert get_return(target, 3) == [11]
    put(target, name="value")
    assert assign(target, 2, new_job(lambda: shared["name"]), sync=True) == ["value"]
    everywhere(target, "json")
    del target


def test_jobs_of_worker_1_run_on_the_main_loop_and_waitfor_there_names_await(server, peer):
    @handler
    async def main(c):
        try:
            waitfor(c, timeout=1)
        except RuntimeError as error:
            c.respond("await" if "await" in str(error) else str(error))

    async def where():
        return asyncio.get_running_loop()

    running = server(main, threads=2)
    [future] = assign(running, 1, new_job(where))
    assert future.result(5) is running.loop
    assert peer(running.address).ask() == b"await"


def test_a_callback_of_a_servers_job_runs_on_its_loop(server, eventually):
    ran = []
    running = server(tell_worker, threads=2)
    [future] = assign(running, 2, new_job(add, 1))
    future.add_done_callback(lambda done: ran.append((done.result(), threading.get_ident())))
    eventually(lambda: ran == [(6, running.on_loop(threading.get_ident))])


def test_a_schedule_starts_at_its_low_end_and_counts_both_ends():
    schedule = Schedule(2, 4)
    assert [schedule.pick(None) for _ in range(7)] == [2, 3, 4, 2, 3, 4, 2]
