"""Many workers on one port: what the supervisor promises, on real processes."""

import logging
import logging.handlers
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolips_udp import UDP, BindError, StartError, handler, start
from toolips_udp.supervisor import hardening, lookout

pytestmark = pytest.mark.xdist_group("supervisor")  # they start many processes: one after the other
ROOT = Path(__file__).parents[2]
MODULE = """
import asyncio, ctypes, os, random, time
from toolips_udp import Extension, handler

VERSION = 1

class Keep(Extension):
    def on_start(self, server):
        self.seen = 0
    def export(self):
        return {"seen": self.seen}
    def restore(self, state):
        self.seen = state["seen"]

keep = Keep()

@handler
async def main(c):
    verb, _, rest = c.text.partition(" ")
    keep.seen += 1
    if verb == "who":
        c.respond(str(os.getpid()))
    elif verb == "version":
        c.respond(str(VERSION))
    elif verb == "remember":
        c.session["name"] = rest
        c.session["place"] = (1, 2)
        c.session["odd"] = print
        c.set_handler("second")
        c.respond("ok")
    elif verb == "seen":
        c.respond(str(keep.seen))
    elif verb == "die":
        os._exit(7)
    elif verb == "crash":
        ctypes.string_at(0)
    elif verb == "hang":
        time.sleep(100)
    elif verb == "slow":
        await asyncio.sleep(float(rest))
        c.respond(rest)
    elif verb == "wait":
        kept = c.session
        kept["name"] = "early"
        while not os.path.exists(rest):
            await asyncio.sleep(0.005)
        kept["name"] = "late"
        c.set_handler("second")
        c.respond("done")
    elif verb == "name":
        c.respond(str(c.session.get("name")))
    elif verb == "cores":
        c.respond(repr(sorted(os.sched_getaffinity(0))))
    elif verb == "random":
        c.respond(repr([random.random() for _ in range(3)]))
    elif verb == "status":
        c.respond(open("/proc/self/status").read())
    elif verb == "ptrace":
        libc = ctypes.CDLL(None, use_errno=True)
        c.respond(f"{libc.ptrace(0, 0, 0, 0)} {ctypes.get_errno()}")
    elif verb == "open":
        try:
            c.respond(open(rest, "rb").read(5))
        except OSError as error:
            c.respond(type(error).__name__)
    elif verb == "create":
        try:
            open(rest, "wb").close()
            c.respond("made")
        except OSError as error:
            c.respond(type(error).__name__)
    elif verb == "exec":
        try:
            os.execv("/bin/true", ["true"])
        except OSError as error:
            c.respond(str(error.errno))
    else:
        c.respond(c.packet)

@handler("second")
def second(c):
    c.respond(f"{c.session.get('name')} {c.session.get('place')} {c.session.get('odd')}")
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "served.py"
    path.write_text(MODULE)
    return path


def spread(peer, address, pids, wanted=b"who"):
    """One client for each worker."""
    found = {}
    for _ in range(200):
        client = peer(address, timeout=10)
        found.setdefault(int(client.ask(wanted)), client)
        if set(found) == set(pids):
            return [found[pid] for pid in pids]
    raise AssertionError(f"200 clients reached only {set(found)} of {pids}")


def test_two_workers_share_one_port_and_count_in_one_place(server, peer, module):
    running = server(module=str(module), workers=2)
    first, second = spread(peer, running.address, running.pids)
    for _ in range(20):
        assert int(first.ask(b"who")) == running.pids[0]
        assert int(second.ask(b"who")) == running.pids[1]
    assert running.counters["handled"] == running.counters["received"] >= 42
    assert os.getpid() not in running.pids


def test_workers_do_not_share_their_random_state(server, peer, module):
    running = server(module=str(module), workers=2)
    clients = spread(peer, running.address, running.pids)
    assert len({client.ask(b"random") for client in clients}) == 2


def test_a_killed_worker_is_replaced_by_the_spare_and_the_other_loses_nothing(
    server, peer, module, eventually
):
    running = server(module=str(module), workers=2)
    first, second = spread(peer, running.address, running.pids)
    eventually(lambda: running.group.spare is not None, 20)
    spare, old = running.group.spare.pid, list(running.pids)
    os.kill(old[0], signal.SIGKILL)
    began = time.monotonic()
    assert int(second.ask(b"who")) == old[1]
    assert int(first.ask(b"who")) == spare  # what was queued in the socket outlived its worker
    assert time.monotonic() - began < 10  # bench/kill.py measures it
    assert running.pids == [spare, old[1]]
    eventually(lambda: running.group.spare is not None, 20)


def test_packets_in_a_worker_that_dies_are_counted_worker_lost(server, peer, module, eventually):
    running = server(module=str(module), workers=2)
    client = peer(running.address, timeout=10)
    pid = int(client.ask(b"who"))
    for _ in range(3):
        client.send(b"slow 30")
    eventually(lambda: running.in_flight == 3, 10)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: running.counters["worker_lost"] == 3, 10)
    assert int(client.ask(b"who")) != pid


def test_a_reload_serves_new_code_and_carries_sessions_positions_and_extensions(server, peer, module, caplog):
    running = server(module=str(module), workers=2)
    clients = spread(peer, running.address, running.pids)
    before = list(running.pids)
    assert {client.ask(b"version") for client in clients} == {b"1"}
    for n, client in enumerate(clients):
        assert client.ask(b"remember client%d" % n) == b"ok"
    module.write_text(MODULE.replace("VERSION = 1", "VERSION = 2"))
    lost = running.reload()
    assert not set(before) & set(running.pids)
    for n, client in enumerate(clients):
        assert client.ask(b"") == b"client%d (1, 2) None" % n
        client.send(b"")
        client.recv(100)
    fresh = spread(peer, running.address, running.pids)
    assert {client.ask(b"version") for client in fresh} == {b"2"}
    assert all(int(client.ask(b"seen")) >= 4 for client in fresh)
    assert any("odd (builtin_function_or_method)" in each for each in lost)
    assert "not carried over" in caplog.text


def test_what_a_handler_changes_after_its_state_was_handed_over_is_refused_and_counted(
    server, peer, module, tmp_path, eventually, caplog
):
    running = server(module=str(module), workers=2)
    client, other = peer(running.address, timeout=10), peer(running.address, timeout=10)
    client.send(b"wait %s" % str(tmp_path / "go").encode())
    eventually(lambda: running.in_flight == 1, 10)
    assert other.ask(b"name") == b"None"
    running.reload()
    (tmp_path / "go").touch()
    assert client.recv(100) == b"done"  # its answer still comes
    eventually(lambda: running.counters["stale_effects"] == 1, 10)
    assert client.ask(b"name") == b"early"  # by the main handler, with the session as it was given
    assert running.counters["received"] == running.counters["handled"] == 3


HOUSE = """
import asyncio, os
from toolips_udp import Extension, handler

class House(Extension):
    tasks, ended = set(), 0
    async def work(self, path):
        while not os.path.exists(path):
            await asyncio.sleep(0.005)
        self.ended += 1
    async def settle(self, seconds):
        await asyncio.wait(self.tasks, timeout=seconds)
    def export(self):
        return self.ended
    def restore(self, state):
        self.ended = state

house = House()

@handler
def main(c):
    if c.text == "ended":
        c.respond(str(house.ended))
    else:
        house.tasks.add(asyncio.ensure_future(house.work(c.text)))
        c.respond("works")
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_house_ends_its_handlers_before_it_gives_its_state_away(server, peer, tmp_path, workers):
    import threading

    path = tmp_path / "house.py"
    path.write_text(HOUSE)
    running = server(module=str(path), workers=workers, steer=0 if workers > 1 else None)
    client = peer(running.address, timeout=10)
    assert client.ask(str(tmp_path / "go").encode()) == b"works"
    reload = threading.Thread(target=running.reload)
    reload.start()
    reload.join(1.0)  # it cannot end yet
    client.send(b"ended")
    (tmp_path / "go").touch()
    reload.join(20)
    assert client.recv(100) in (b"0", b"1")
    assert client.ask(b"ended") == b"1"


def test_a_reload_under_load_loses_nothing(server, peer, module):
    running = server(module=str(module), workers=2)
    clients = spread(peer, running.address, running.pids)
    import threading

    over, wrong, count = threading.Event(), [], [0]

    def ask():
        n = 0
        while not over.is_set():
            for client in clients:
                n += 1
                client.send(b"echo %d" % n)
                if client.recv(100) != b"echo %d" % n:
                    wrong.append(n)
        count[0] = n

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(2):
            running.reload()
    finally:
        over.set()
        thread.join()
    assert not wrong
    assert count[0] > 100


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("def f(:\n", "served.py:1"),
        ("raise RuntimeError('no luck')\n", "no luck"),
        ("x = 1\n", "no handler"),
        (MODULE.replace("self.seen = 0", "raise OSError('no disk')"), "no disk"),
        ("import os\nos._exit(5)\n", "exit status 5"),
    ],
)
def test_a_module_that_cannot_start_leaves_the_old_one_serving_and_says_why(
    server, peer, module, broken, told, eventually
):
    running = server(module=str(module), workers=2)
    before = list(running.pids)
    client = peer(running.address, timeout=10)
    module.write_text(broken)
    with pytest.raises(Exception, match=told):
        running.reload()
    assert running.pids == before
    assert client.ask(b"version") == b"1"


def test_a_module_that_cannot_start_is_a_start_error_and_leaves_nothing(nothing_left, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(MODULE.replace("self.seen = 0", "raise OSError('no disk')"))
    with pytest.raises(StartError, match="no disk"):
        start(UDP, str(path), "127.0.0.1:0", workers=2, control=False)


def test_a_packet_that_killed_two_workers_is_kept_out(server, peer, module, eventually, caplog):
    running = server(module=str(module), workers=2, transport="native")
    client = peer(running.address, timeout=10)
    for _ in range(2):
        pid = int(client.ask(b"who"))
        eventually(lambda: running.group.spare is not None, 20)
        client.send(b"crash")
        eventually(lambda pid=pid: pid not in running.pids and 0 not in running.pids, 20)
    assert "killed two workers" in caplog.text
    assert client.ask(b"still here") == b"still here"
    pids = list(running.pids)
    client.send(b"crash")
    assert client.ask(b"still here") == b"still here"
    assert running.pids == pids
    eventually(lambda: running.counters["denied"] == 1)


def test_a_worker_that_hangs_is_ended_and_replaced(server, peer, module, eventually, monkeypatch):
    monkeypatch.setattr(lookout, "HANG", 1.0)
    running = server(module=str(module), workers=2)
    client = peer(running.address, timeout=15)
    pid = int(client.ask(b"who"))
    client.send(b"hang")
    eventually(lambda: pid not in running.pids and 0 not in running.pids, 15)
    assert int(client.ask(b"who")) != pid


def test_old_workers_are_replaced_one_by_one_with_their_state(server, peer, module, eventually):
    running = server(module=str(module), workers=2, worker_max_age=1.5)
    client = peer(running.address, timeout=10)
    before = list(running.pids)
    assert client.ask(b"remember me") == b"ok"
    eventually(lambda: not set(before) & set(running.pids) and 0 not in running.pids, 30)
    assert client.ask(b"") == b"me (1, 2) None"


def test_workers_with_too_much_memory_are_replaced_in_turn(server, peer, module, eventually, monkeypatch):
    monkeypatch.setattr(lookout, "YOUNG", 2.0)
    running = server(module=str(module), workers=2, worker_max_rss=1.0)  # every Python is larger than that
    before = list(running.pids)
    eventually(lambda: not set(before) & set(running.pids) and 0 not in running.pids, 30)
    assert peer(running.address, timeout=10).ask(b"echo") == b"echo"


def test_auto_makes_one_worker_per_core(server, peer, module):
    cores = len(os.sched_getaffinity(0))
    if cores == 1:
        pytest.skip("this machine has one core")
    running = server(module=str(module), workers="auto")
    assert len(running.pids) == cores
    for wrong in (0, -1, True, "many", 1.5):
        with pytest.raises(StartError, match="workers="):
            start(UDP, str(module), "127.0.0.1:0", workers=wrong)


def test_the_admin_listener_tells_of_all_workers(server, peer, module):
    import json
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        admin = f"127.0.0.1:{free.getsockname()[1]}"
    running = server(module=str(module), workers=2, admin=admin)
    for client in spread(peer, running.address, running.pids):
        assert client.ask(b"echo") == b"echo"

    def page(path):
        with urllib.request.urlopen(f"http://{admin}{path}", timeout=10) as answer:
            return answer.read()

    assert page("/readyz").strip() == b"ready"
    assert json.loads(page("/counters"))["handled"] == running.counters["handled"] >= 4
    metrics = page("/metrics")
    assert b"handled" in metrics and b"toolips_udp_receive_buffer_bytes " in metrics
    assert b"toolips_udp_restarts_total 0\n" in metrics and b"toolips_udp_generation 1\n" in metrics
    running.reload()
    assert b"toolips_udp_generation 2\n" in page("/metrics")


def test_multicast_reaches_one_worker_once(server, module):
    group, port_holder = "239.255.77.1", socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with port_holder:
        port_holder.bind(("127.0.0.1", 0))
        port = port_holder.getsockname()[1]
    running = server(module=str(module), workers=2, ip=f"0.0.0.0:{port}", multicast=[f"{group}@127.0.0.1"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        client.bind(("127.0.0.1", 0))
        client.settimeout(5)
        client.sendto(b"echo", (group, port))
        try:
            assert client.recv(100) == b"echo"
        except TimeoutError:
            pytest.skip("this machine has no multicast on loopback")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)
    assert running.counters["received"] == 1


def test_workers_that_keep_dying_end_the_server_with_exit_code_3(module, monkeypatch, eventually):
    from toolips_udp.supervisor import restarts

    monkeypatch.setattr(restarts, "MANY", 0)
    monkeypatch.setattr(restarts, "GIVE_UP", 0.0)
    running = start(UDP, str(module), "127.0.0.1:0", workers=2, control=False)
    try:
        os.kill(running.pids[0], signal.SIGKILL)
        eventually(lambda: not running.running, 20)
        assert running.exit_code == 3
    finally:
        running.stop()


def test_pin_gives_each_worker_its_core(server, peer, module):
    cores = sorted(os.sched_getaffinity(0))
    running = server(module=str(module), workers=2, pin=[cores[0], cores[-1]])
    clients = spread(peer, running.address, running.pids)
    assert [client.ask(b"cores") for client in clients] == [b"[%d]" % cores[0], b"[%d]" % cores[-1]]


def test_steer_chooses_the_worker_by_a_byte_of_the_payload(server, peer, module):
    running = server(module=str(module), workers=2, steer=5)
    for _ in range(8):
        client = peer(running.address, timeout=10)
        for byte in range(6):
            assert int(client.ask(b"who  %c" % (48 + byte))) == running.pids[byte % 2]
    assert int(peer(running.address, timeout=10).ask(b"who")) == running.pids[0]  # too short: the first


def test_a_bare_object_with_workers_is_a_start_error_with_the_fix():
    from types import SimpleNamespace

    with pytest.raises(StartError, match=r"workers import what they serve.*\.py file"):
        start(UDP, SimpleNamespace(main=handler(print)), "127.0.0.1:0", workers=2)


def test_a_port_in_use_is_a_bind_error_also_against_a_group_of_our_own(server, module):
    running = server(module=str(module), workers=2)
    with pytest.raises(BindError, match=str(running.address.port)):
        start(UDP, str(module), running.address, workers=2, control=False)


def test_a_peer_house_needs_sharded_with_several_workers(server, tmp_path):
    path = tmp_path / "house.py"
    path.write_text("from toolips_udp.game import Game\narena = Game()\n")
    with pytest.raises(StartError, match=r"arena \(Game\).*Game\(sharded=True\)"):
        start(UDP, str(path), "127.0.0.1:0", workers=2, control=False)
    assert server(module=str(path), workers=1).running
    sharded = tmp_path / "sharded_house.py"
    sharded.write_text("from toolips_udp.game import Game\narena = Game(sharded=True)\n")
    running = server(module=str(sharded), workers=2)
    running.reload()
    assert len(set(running.pids) - {0}) == 2


def test_broadcast_and_send_reach_clients_of_all_workers(server, peer, module):
    running = server(module=str(module), workers=2)
    clients = spread(peer, running.address, running.pids)
    for client in clients:
        assert client.ask(b"remember x") == b"ok"
    assert running.broadcast(b"news") == 2
    assert [client.recv(100) for client in clients] == [b"news", b"news"]
    to = clients[0].getsockname()
    running.send(b"for you", to)
    assert clients[0].recv(100) == b"for you"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: run the tests as root")
def test_harden_and_user_give_up_rights(server, peer, module):
    running = server(module=str(module), workers=2, user="nobody", harden=True)
    status = peer(running.address, timeout=10).ask(b"status").decode()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    assert lines["Uid"].split() == ["65534"] * 4
    assert lines["NoNewPrivs"].strip() == "1"
    assert lines["CapEff"].strip() == lines["CapBnd"].strip() == "0" * 16
    assert lines["Seccomp"].strip() == "2"
    assert (
        os.stat(f"/proc/{running.pids[0]}/environ").st_uid == 0
    )  # L9: not dumpable, so no core file has its secrets
    assert peer(running.address, timeout=10).ask(b"exec") == b"1"  # EPERM
    alone = server(module=str(module), user="nobody")  # a worker too, so that this process stays what it is
    lines = dict(
        line.split(":", 1) for line in peer(alone.address, timeout=10).ask(b"status").decode().splitlines()
    )
    assert lines["Uid"].split() == ["65534"] * 4
    assert os.geteuid() == 0
    with pytest.raises(StartError, match="refuses to serve as root"):
        start(UDP, str(module), "127.0.0.1:0", workers=2, harden=True, control=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: run the tests as root")
@pytest.mark.parametrize("harden", [True, False])
def test_a_hardened_worker_runs_no_program_traces_nobody_and_sees_only_its_own_files(server, peer, harden):
    import tempfile

    # pytest's own folders are closed to nobody: make some that are open to everybody
    with tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as foreign:
        for folder in (own, foreign):
            Path(folder).chmod(0o777)
            (Path(folder) / "file").write_bytes(b"12345678")
        path = Path(own) / "served.py"
        path.write_text(MODULE)
        client = peer(server(module=str(path), workers=2, user="nobody", harden=harden).address, timeout=10)
        assert client.ask(f"open {own}/file".encode()) == b"12345"
        assert client.ask(f"open {foreign}/file".encode()) == (b"PermissionError" if harden else b"12345")
        for folder in (own, foreign):
            made = client.ask(f"create {folder}/new".encode())
            assert made == (b"PermissionError" if harden else b"made")
        assert client.ask(b"ptrace") == (b"-1 1" if harden else b"0 0")
        if harden:  # without it, the worker would become another program
            assert client.ask(b"exec") == b"1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: run the tests as root")
@pytest.mark.skipif(os.environ.get("TUDP_SECCOMP") == "kill", reason="a refused call ends the worker here")
def test_refused_system_calls_are_counted_by_name_and_told_once(server, peer, module, caplog, eventually):
    running = server(module=str(module), workers=2, user="nobody", harden=True, admin="127.0.0.1:0")
    client = peer(running.address, timeout=10)
    for _ in range(3):
        assert client.ask(b"ptrace") == b"-1 1"
    assert client.ask(b"exec") == b"1"
    eventually(lambda: running.refused_calls.get("ptrace") == 3)
    eventually(lambda: running.refused_calls.get("execve", 0) >= 1)
    told = [text for text in caplog.messages if "refused the system call ptrace" in text]
    assert len(told) == 1
    where = running.admin.address
    with socket.create_connection((where.host, where.port), timeout=10) as stream:
        stream.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        page = b"".join(iter(lambda: stream.recv(65536), b""))
    assert b"toolips_udp_refused_calls_total %d" % sum(running.refused_calls.values()) in page
    assert client.ask(b"echo") == b"echo"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: run the tests as root")
def test_the_loop_of_a_hardened_supervisor_has_given_up_its_rights_and_still_replaces_workers(
    server, peer, module, eventually
):
    running = server(module=str(module), workers=2, user="nobody", harden=True)
    status = running._from_outside(_own_status())
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert int(status["CapEff"], 16) == 1 << 5  # CAP_KILL: its workers are another user
    with pytest.raises(PermissionError):
        running._from_outside(_run_a_program())
    before = running.pids
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: 0 not in running.pids and before[0] not in running.pids, 20)
    running.reload()
    assert not set(running.pids) & set(before)
    assert peer(running.address, timeout=10).ask(b"echo") == b"echo"
    assert subprocess.run(["true"]).returncode == 0  # this thread is not the supervisor's


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: run the tests as root")
def test_the_loop_of_a_hardened_supervisor_sees_only_its_own_files_and_goes_on_logging(
    server, peer, module, tmp_path_factory, eventually, monkeypatch
):
    logs, foreign, run = (tmp_path_factory.mktemp(name) for name in ("logs", "foreign", "run"))
    monkeypatch.setenv("TOOLIPS_UDP_RUNTIME", str(run))
    (foreign / "file").write_text("12345")
    above, written = [str(each) for each in foreign.parents], hardening.written_folders
    # what the tests before this one left open or on the path is no matter of this server's
    monkeypatch.setattr(hardening, "written_folders", lambda: [each for each in written() if each not in above])
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in above])
    kept = logging.handlers.RotatingFileHandler(logs / "server.log", maxBytes=1, backupCount=3)
    logging.getLogger("toolips_udp").addHandler(kept)
    try:
        admin = run / "toolips_udp" / "admin.sock"
        admin.parent.mkdir(mode=0o700)
        running = server(
            module=str(module), workers=2, user="nobody", harden=True, control=True, admin=f"unix:{admin}"
        )
        assert running._from_outside(_read(module)).startswith("\nimport asyncio")
        assert running._from_outside(_read("/etc/passwd"))
        for path in (foreign / "file", logs / ".." / foreign.name / "file"):
            with pytest.raises(PermissionError):
                running._from_outside(_read(path))
        with pytest.raises(PermissionError):
            running._from_outside(_make(foreign / "new"))
        with pytest.raises(PermissionError):
            running._from_outside(_make(module.parent / "new"))  # read, not written
        os.kill(running.pids[0], signal.SIGKILL)  # what it says of that begins a new file
        eventually(lambda: (logs / "server.log.1").exists(), 20)
        assert (foreign / "file").read_text() == "12345"  # this thread is not the supervisor's
        assert list((run / "toolips_udp").iterdir())
        running.stop()
        assert running.exit_code == 0 and not list((run / "toolips_udp").iterdir())
    finally:
        logging.getLogger("toolips_udp").removeHandler(kept)
        kept.close()


async def _read(path):
    return Path(path).read_text()


async def _make(path):
    Path(path).write_text("made")


async def _own_status():
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


async def _run_a_program():
    subprocess.run(["true"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: run the tests as root")
def test_a_hardened_server_answers_over_udp_and_tcp_reloads_and_stops(server, peer, tmp_path):
    import socket as sockets

    from toolips_udp import TCP

    path = tmp_path / "both.py"
    text = "from toolips_udp import handler\nVERSION = 1\n@handler\ndef main(c): c.respond(str(VERSION))\n"
    path.write_text(text)
    running = server(module=str(path), mode=(UDP, TCP), workers=2, user="nobody", harden=True)
    for version in (b"1", b"2"):
        client = peer(running.addresses[UDP], timeout=10)
        assert client.ask(b"x") == version
        where = running.addresses[TCP]
        with sockets.create_connection((where.host, where.port), timeout=10) as stream:
            assert stream.recv(100) == version
        if version == b"1":
            path.write_text(text.replace("VERSION = 1", "VERSION = 2"))
            running.reload()
    running.stop()
    assert running.exit_code == 0


# ---- whole programs ----

SCRIPT = """
import sys
from toolips_udp import UDP, start
if __name__ == "__main__":
    settings = {"workers": 2, **eval(sys.argv[3])}
    server = start(UDP, sys.argv[1], sys.argv[2], control=False, **settings)
    print(server.address.port, *getattr(server, "pids", []), flush=True)
    server.wait()
    server.stop()
    sys.exit(server.exit_code)
"""


@pytest.fixture
def program(tmp_path, module):
    """`program(extra settings, env)` runs a server with two workers; (process, port, pids)."""
    made = []

    def run(settings="{}", env=None, address="127.0.0.1:0", **popen):
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        process = subprocess.Popen(
            [sys.executable, str(script), str(module), address, settings],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            **popen,
        )
        made.append(process)
        line = process.stdout.readline()
        assert line, process.stderr.read()
        port, *pids = map(int, line.split())
        return process, port, pids

    yield run
    for process in made:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def gone(pids, within=8.0):
    end = time.monotonic() + within
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def client_of(port):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(10)
    client.connect(("127.0.0.1", port))
    return client


def test_sigterm_answers_what_was_accepted_and_exits_0(program):
    process, port, pids = program()
    with client_of(port) as client:
        for _ in range(20):
            client.send(b"slow 0.3")
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert [client.recv(100) for _ in range(20)] == [b"0.3"] * 20
    assert process.wait(60) == 0
    assert gone(pids)
    assert "Traceback" not in process.stderr.read()


def test_sighup_reloads(program, module):
    process, port, pids = program()
    module.write_text(MODULE.replace("VERSION = 1", "VERSION = 2"))
    with client_of(port) as client:
        client.send(b"version")
        assert client.recv(100) == b"1"
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while True:
            client.send(b"version")
            if client.recv(100) == b"2":
                break
            assert time.monotonic() < end
            time.sleep(0.05)
    assert gone(pids)


@pytest.mark.parametrize("moment", [0.05, 0.4, 0.8, 1.2])
def test_sigterm_in_the_middle_of_a_reload_drains_and_exits_0(program, moment):
    process, port, pids = program()
    with client_of(port) as client:
        process.send_signal(signal.SIGHUP)
        time.sleep(moment)
        client.send(b"echo")
        assert client.recv(100) == b"echo"
        process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert gone(pids)
    assert "Traceback" not in process.stderr.read()


def test_a_worker_killed_at_the_moment_of_sigterm_leaves_nothing_unanswered(program):
    process, port, pids = program()
    clients = [client_of(port) for _ in range(8)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that everything below is queued when they die
    try:
        for client in clients:
            client.send(b"echo")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        process.send_signal(signal.SIGTERM)
        assert [client.recv(100) for client in clients] == [b"echo"] * 8
    finally:
        for client in clients:
            client.close()
    assert process.wait(20) == 0
    assert gone(pids)


def test_no_process_has_an_open_port_but_the_configured_one(server, module, eventually):
    running = server(module=str(module), workers=2)
    eventually(lambda: running.group.spare is not None, 20)
    ports = {}
    for kind in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            ports[fields[9]] = (kind, int(fields[1].rpartition(":")[2], 16))
    for pid in [*running.pids, running.group.spare.pid]:
        links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        inodes = [link[8:-1] for link in links if link.startswith("socket:[")]
        assert {ports[inode] for inode in inodes if inode in ports} == {("udp", running.address.port)}


def test_workers_of_a_killed_supervisor_end_and_free_the_port(program):
    process, port, pids = program()
    process.kill()
    process.wait()
    assert gone(pids, 6.0)
    end = time.monotonic() + 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        while True:  # a spare that still boots has the socket too, until it finds nobody to talk to
            try:
                probe.bind(("127.0.0.1", port))
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_hears_ready_watchdog_and_stopping(program, tmp_path, workers):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(10)
        env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        process, _port, _pids = program(f"{{'workers': {workers}}}", env=env)
        assert notify.recv(1000).startswith(b"READY=1")
        assert notify.recv(1000) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        while (said := notify.recv(1000)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"
        assert process.wait(60) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_socket_of_systemd_is_served_with_what_was_queued_before_the_start(
    program, module, tmp_path, workers
):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inherited:
        inherited.bind(("127.0.0.1", 0))
        port = inherited.getsockname()[1]
        with client_of(port) as client:
            client.send(b"early")
            launcher = (
                f"import os, sys; os.dup2({inherited.fileno()}, 3); os.set_inheritable(3, True); "
                "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
                "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
            )
            script = tmp_path / "script.py"
            script.write_text(SCRIPT)
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    launcher,
                    script,
                    tmp_path / "served.py",
                    f"127.0.0.1:{port}",
                    f"{{'workers': {workers}}}",
                ],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=[inherited.fileno()],
            )
            try:
                assert client.recv(100) == b"early"
                client.send(b"late")
                assert client.recv(100) == b"late"
                assert process.stdout.readline()  # the start is over: signals are answered
            finally:
                process.terminate()
                assert process.wait(60) == 0
                process.stdout.close()


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from toolips_udp import UDP, handler, start\n"
        "@handler\ndef main(c): pass\n"
        "start(UDP, __name__, '127.0.0.1:0', workers=2, control=False)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=env)
    assert ran.returncode != 0
    assert 'if __name__ == "__main__"' in ran.stderr
