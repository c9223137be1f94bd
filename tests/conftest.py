"""Shared fixtures: servers that are checked after each test.

`server` is a factory: it starts a module on port 0, stops it at the end and
asserts that both ledgers close to the unit and that no thread or descriptor is
left. `transport` runs a test once for each transport that works here.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

from toolips_udp import UDP, asking, start, transports
from toolips_udp.counters import DROPS

# the same examples on every machine, and no clock: a test must not fail because others use the processor
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
# for the same reason a request waits for more than the second of its default; those that nobody answers say how long
asking.request.__defaults__ = (10.0, 0)

# A shell's background job begins with SIGINT ignored, nohup with SIGHUP: the programs that tests start would inherit
# it, and miss a signal that comes before they answer it themselves.
for ignored, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, usual)


def free_port():
    """A port that is free for UDP and TCP, below those that the system gives to clients."""
    for _ in range(50):
        port = random.randrange(15_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def pytest_generate_tests(metafunc):
    if "transport" in metafunc.fixturenames:
        # memory has no ports of this machine: for tests whose clients can speak to it
        memory_too = getattr(metafunc.module, "MEMORY_TOO", False)
        metafunc.parametrize("transport", [t for t in transports.available() if memory_too or t != "memory"])


def ledgers(counters, in_flight=0):
    """The receive and send ledgers as pairs that must be equal."""
    return {
        "receive": (
            counters["received"],
            counters["handled"] + sum(counters[word] for word in DROPS) + in_flight,
        ),
        "send": (
            counters["send_queued"],
            sum(
                counters[word] for word in ("sent", "send_refused", "send_refused_late", "send_dropped_full")
            ),
        ),
    }


def assert_ledgers_close(counters, in_flight=0):
    for name, (left, right) in ledgers(counters, in_flight).items():
        assert left == right, f"the {name} ledger does not close: {left} != {right} in {dict(counters)}"


def descriptors():
    """What each descriptor of this process points to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


@pytest.fixture(scope="session")
def libuv_is_up():
    """libuv makes one pipe per process with its first loop; that is not a leak."""
    from toolips_udp.servers.base import new_loop

    new_loop().close()


@pytest.fixture
def nothing_left(libuv_is_up):
    """No thread and no descriptor more than before."""
    gc.collect()
    threads, files = set(threading.enumerate()), descriptors()
    yield
    deadline = time.monotonic() + 10
    while True:
        gc.collect()
        left = [t.name for t in threading.enumerate() if t not in threads and t.is_alive()]
        opened = {fd: to for fd, to in descriptors().items() if files.get(fd) != to}
        if (not left and not opened) or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert not left, f"threads are left: {left}"
    assert not opened, f"descriptors are left: {opened}"


@pytest.fixture
def server(nothing_left, request):
    """`server(handlers..., mode=UDP, ip=..., **settings)` starts one; stopped and checked at the end."""
    started = []
    transport = request.getfixturevalue("transport") if "transport" in request.fixturenames else None

    def make(*exports, module=None, mode=UDP, ip="127.0.0.1:0", **settings):
        if module is None:
            module = SimpleNamespace()
            for number, export in enumerate(exports):
                name = getattr(export, "__name__", "export").strip("<>")
                vars(module)[f"{name}_{number}" if hasattr(module, name) else name] = export
        if transport is not None:
            settings.setdefault("transport", transport)
        settings.setdefault("control", False)
        if os.environ.get("TUDP_TEST_HARDEN") and settings.get("workers", 1) != 1:
            settings = {"harden": True, "user": "nobody", **settings}  # tests/harden.py
        found = start(mode, module, ip, **settings)
        started.append(found)
        return found

    yield make
    for each in started:
        each.stop()
        assert_ledgers_close(each.counters)
        assert each.in_flight == 0


class Peer(socket.socket):
    """A client with a socket of its own: `ask` sends and returns the answer."""

    def __init__(self, to, timeout=10.0):
        super().__init__(to.family, socket.SOCK_DGRAM)
        self.to = to
        self.settimeout(timeout)
        self.connect(to.sockaddr())

    def ask(self, data=b"x"):
        self.send(data)
        return self.recv(65536)

    def hears_nothing(self, within=0.1):
        self.settimeout(within)
        try:
            return self.recv(65536) is None
        except TimeoutError:
            return True
        finally:
            self.settimeout(10.0)


@pytest.fixture
def peer():
    """`peer(address)` is a client of that server, closed at the end."""
    made = []

    def make(to, timeout=10.0):
        made.append(Peer(to, timeout))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def eventually():
    """Wait until a condition holds, or fail. For what another thread does soon."""

    def wait(condition, within=20.0):
        end = time.monotonic() + within
        while not condition():
            assert time.monotonic() < end, "did not happen in time"
            time.sleep(0.002)

    return wait


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Paths of a certificate chain for `localhost` and its key."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tls")
    (folder / "chain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "chain.pem", folder / "key.pem"
