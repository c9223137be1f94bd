"""Transfers and answers beside Debian's knot, nsd and bind9, in both directions (`apt install knot nsd bind9`).

Peers run in the foreground on ports of 127.0.0.1, in a folder of the test, and
are stopped by their own process. A peer that is not installed is skipped by name.
"""

# ruff: noqa: E501

from __future__ import annotations

import base64
import os
import random
import shutil
import signal
import subprocess
import time

import dns.message
import dns.query
import dns.rdatatype
import pytest

from tests.conftest import free_port
from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.dns.tsig import Keys

SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
KEYS = {"xfr.": ("hmac-sha256", SECRET)}


def text(serial, records):
    lines = "".join(f"{name} 60 A {address}\n" for name, address in sorted(records.items()))
    return f"$ORIGIN e.test.\n@ 60 SOA ns h {serial} 2 1 1000 60\n@ 60 NS ns\nns 60 A 127.0.0.1\n*.w 60 TXT wild\nsub 60 NS ns.sub\nns.sub 60 A 192.0.2.3\nd 60 DNAME w\nc 60 CNAME ns\n{lines}"


class Peer:
    """One foreign server, for one zone: `primary` serves `zone`, `secondary` fetches it from `ours_at`."""

    def __init__(self, folder, *, zone=None, ours_at=0):
        self.folder = folder
        self.port = free_port()
        self.file = folder / "e.test.zone"
        if zone is not None:
            self.file.write_text(zone)
        (folder / "db").mkdir()
        (folder / "peer.conf").write_text(self.configuration(ours_at, zone is not None))
        with (folder / "peer.log").open("w") as output:
            self.process = subprocess.Popen(self.command(), stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 10
        while self.serial() is None and (zone is not None or not self.answers()):
            assert self.process.poll() is None and time.monotonic() < deadline, (
                folder / "peer.log"
            ).read_text()
            time.sleep(0.05)

    def ask(self, name, rtype):
        query = dns.message.make_query(name, rtype)
        query.flags = 0
        return dns.query.udp(query, "127.0.0.1", port=self.port, timeout=0.5)

    def answers(self):
        try:
            return self.ask("e.test", "SOA") is not None
        except (dns.exception.Timeout, OSError):
            return False

    def serial(self):
        try:
            reply = self.ask("e.test", "SOA")
        except (dns.exception.Timeout, OSError):
            return None
        return (
            reply.answer[0][0].serial
            if reply.answer and reply.answer[0].rdtype == dns.rdatatype.SOA
            else None
        )

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Knot(Peer):
    name = "knot"

    def command(self):
        return ["knotd", "-c", str(self.folder / "peer.conf")]

    def configuration(self, ours_at, primary):
        remote = f"remote:\n  - id: ours\n    address: 127.0.0.1@{ours_at or 1}\n    key: xfr.\n"
        acl = "acl:\n  - id: allow\n    address: 127.0.0.0/8\n    key: xfr.\n    action: transfer\n  - id: tell\n    address: 127.0.0.0/8\n    action: notify\n"
        zone = (
            "    zonefile-load: difference\n    zonefile-sync: -1\n    journal-content: changes\n    notify: ours\n    acl: allow\n"
            if primary
            else "    master: ours\n    acl: tell\n"
        )
        return (
            f'server:\n    rundir: "{self.folder}"\n    listen: 127.0.0.1@{self.port}\ndatabase:\n    storage: "{self.folder}/db"\n'
            f"key:\n  - id: xfr.\n    algorithm: hmac-sha256\n    secret: {SECRET}\n{remote}{acl}"
            f'zone:\n  - domain: e.test\n    storage: "{self.folder}"\n    file: e.test.zone\n{zone}'
        )

    def reload(self):
        subprocess.run(
            ["knotc", "-s", str(self.folder / "knot.sock"), "zone-reload", "e.test"],
            check=True,
            capture_output=True,
            timeout=10,
        )


class Nsd(Peer):
    name = "nsd"

    def command(self):
        return ["nsd", "-d", "-c", str(self.folder / "peer.conf")]

    def configuration(self, ours_at, primary):
        zone = (
            f"    notify: 127.0.0.1@{ours_at or 1} xfr.\n    provide-xfr: 127.0.0.0/8 xfr.\n"
            if primary
            else f"    request-xfr: 127.0.0.1@{ours_at} xfr.\n    allow-notify: 127.0.0.0/8 NOKEY\n"
        )
        return (
            f'server:\n    ip-address: 127.0.0.1@{self.port}\n    zonesdir: "{self.folder}"\n    username: ""\n    database: ""\n    pidfile: "{self.folder}/pid"\n'
            f'    xfrdfile: "{self.folder}/xfrd"\n    zonelistfile: "{self.folder}/list"\n    xfrdir: "{self.folder}"\n    server-count: 1\n'
            f"remote-control:\n    control-enable: no\nkey:\n    name: xfr.\n    algorithm: hmac-sha256\n    secret: {SECRET}\nzone:\n    name: e.test\n    zonefile: e.test.zone\n{zone}"
        )

    def reload(self):
        self.process.send_signal(signal.SIGHUP)


class Bind(Peer):
    name = "bind9"

    def command(self):
        return ["named", "-f", "-c", str(self.folder / "peer.conf"), "-n", "1", "-D", "toolips"]

    def configuration(self, ours_at, primary):
        at = f"127.0.0.1 port {ours_at or 1}"
        zone = (
            f"type primary; ixfr-from-differences yes; notify explicit; also-notify {{ {at}; }}; allow-transfer {{ key xfr.; }};"
            if primary
            else f"type secondary; primaries {{ {at} key xfr.; }}; allow-notify {{ 127.0.0.0/8; }}; masterfile-format text;"
        )
        return (
            f'options {{ directory "{self.folder}"; pid-file "{self.folder}/pid"; session-keyfile "{self.folder}/session"; managed-keys-directory "{self.folder}/db"; '
            f"listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; empty-zones-enable no; minimal-responses yes; }};\n"
            f'controls {{ }};\nkey xfr. {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n'
            f'zone "e.test" {{ file "{self.file}"; {zone} }};\n'
        )

    def reload(self):
        self.process.send_signal(signal.SIGHUP)


pytestmark = pytest.mark.peers
PEERS = [
    pytest.param(
        kind,
        id=kind.name,
        marks=pytest.mark.skipif(
            shutil.which(program) is None, reason=f"{program} is not installed (apt install {kind.name})"
        ),
    )
    for kind, program in ((Knot, "knotd"), (Nsd, "nsd"), (Bind, "named"))
]


@pytest.fixture
def peer_of(tmp_path):
    made = []

    def make(kind, **kw):
        folder = tmp_path / f"peer{len(made)}"
        folder.mkdir()
        made.append(kind(folder, **kw))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def changed(records, rng):
    fresh = dict(records)
    for _ in range(5):
        name = f"n{rng.randrange(60)}.{rng.choice('ab')}"
        if rng.random() < 0.4:
            fresh.pop(name, None)
        else:
            fresh[name] = f"10.{rng.randrange(256)}.{rng.randrange(256)}.1"
    return fresh


@pytest.mark.parametrize("kind", PEERS)
def test_ours_as_secondary_follows_the_peer(kind, peer_of, server, eventually):
    rng = random.Random(3)
    records = {f"n{i}": f"192.0.2.{i}" for i in range(30)}
    into = ours.Transfers(Keys(KEYS))
    primary = peer_of(kind, zone=text(1, records))
    copy = into.secondary("e.test", [(f"127.0.0.1:{primary.port}", "xfr.")])
    server(ours.Service(*into.steps(), transfers=into), mode=(UDP, TCP))
    eventually(lambda: copy.zone.serial == 1, within=10)
    assert copy.counters["axfr"] == 1
    for serial in range(2, 5):
        records = changed(records, rng)
        primary.file.write_text(text(serial, records))
        os.utime(primary.file, (time.time() + serial, time.time() + serial))  # peers look at whole seconds
        primary.reload()
        eventually(lambda serial=serial: primary.serial() == serial, within=10)
        copy.check_soon()
        eventually(lambda serial=serial: copy.zone.serial == serial, within=10)
        assert copy.zone.digest() == ours.Zone.from_text(text(serial, records)).digest()
    if kind is not Nsd:  # which gives no incremental transfers of files
        assert copy.counters["ixfr"] >= 1


@pytest.mark.parametrize("kind", PEERS)
def test_the_peer_as_secondary_follows_ours(kind, peer_of, server, eventually, tmp_path):
    rng = random.Random(4)
    records = {f"n{i}": f"192.0.2.{i}" for i in range(30)}
    (tmp_path / "zones").mkdir()
    store = ours.ZoneStore(tmp_path / "zones")
    store.save(ours.Zone.from_text(text(1, records)))
    out = ours.Transfers(Keys(KEYS))
    out.allow("e.test", [("127.0.0.0/8", "xfr.")])
    store.changed.append(out.changed)
    running = server(ours.Service(store, transfers=out), mode=(UDP, TCP))
    follower = peer_of(kind, ours_at=running.address.port)
    eventually(lambda: follower.serial() == 1, within=15)
    out.notify("e.test", f"127.0.0.1:{follower.port}")
    for serial in range(2, 5):
        records = changed(records, rng)
        store.save(ours.Zone.from_text(text(serial, records)))
        eventually(lambda serial=serial: follower.serial() == serial, within=15)
    for name in [*records, "x.w", "q.sub", "y.d", "c", "nx"]:
        mine, theirs = (
            dns.query.udp(
                dns.message.make_query(f"{name}.e.test", "A", flags=0), "127.0.0.1", port=port, timeout=2
            )
            for port in (running.address.port, follower.port)
        )
        assert (mine.rcode(), mine.flags, {*map(str, mine.answer)}) == (
            theirs.rcode(),
            theirs.flags,
            {*map(str, theirs.answer)},
        ), name
    assert out.counters["out"] >= 1
