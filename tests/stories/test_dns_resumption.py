"""TLS sessions towards upstreams: taken up again, and never in place of what must be checked (spec F5)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import threading

import pytest
import uvloop

from tests.conftest import free_port
from tests.stories.test_dns_encrypted import ZONE, needs_h2, new_certificate, pin_of
from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.dns import doh, metrics, rrtypes, sockets
from toolips_udp.dns.exchange import Exchange
from toolips_udp.dns.message import Message, ask
from toolips_udp.dns.resumption import KEPT_FOR, MOST_CONTEXTS, Contexts
from toolips_udp.dns.upstream import Upstream

LOOPS = pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])


class Answers:
    """A DoT server that gives one answer on each connection and notes which of them were resumed."""

    def __init__(self, files, most=ssl.TLSVersion.TLSv1_3):
        self.most = most
        self.resumed = []
        self.silent = False
        self.use(files)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def use(self, files):
        """This certificate from now on, and new keys for tickets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        context.maximum_version = self.most
        context.set_alpn_protocols(["dot"])
        self.context = context

    def run(self):
        while True:
            try:
                plain, _ = self.sock.accept()
            except OSError:
                return
            plain.settimeout(10)
            try:
                with self.context.wrap_socket(plain, server_side=True) as tls:
                    self.resumed.append(tls.session_reused)
                    query = tls.recv(2000)[2:]
                    if query and not self.silent:
                        reply = query[:2] + b"\x81\x80" + query[4:]
                        tls.sendall(len(reply).to_bytes(2, "big") + reply)
            except OSError:
                continue

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """For dns.test and 127.0.0.1, signed by itself."""
    return new_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def answers(certificate):
    made = []

    def make(files=certificate, **kw):
        made.append(Answers(files, **kw))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Asking:
    """A forwarder's sockets on a loop of their own: `once` asks over a new connection and says what came of it."""

    def __init__(self, new_loop=uvloop.new_event_loop, ca=None):
        self.runner = asyncio.Runner(loop_factory=new_loop)
        self.sockets = self.runner.run(self._sockets(ca))

    async def _sockets(self, ca):
        return sockets.Sockets(random.Random(1), ca)

    def once(self, upstream):
        return self.runner.run(self._once(upstream))

    async def _once(self, upstream):
        done = asyncio.get_running_loop().create_future()
        exchange = Exchange(b"\3www\0", rrtypes.A, [upstream], random.Random(2))
        (attempt,) = exchange.start(0.0)
        forget = self.sockets.send(attempt, lambda data: done.set_result("answered"), done.set_result)
        async with asyncio.timeout(10):
            cause = await done
        forget()
        (stream,) = self.sockets.streams.pop((id(upstream), "tls"))
        stream.task.cancel()
        await asyncio.wait([stream.task])
        if stream.writer is not None:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(10):
                    await stream.writer.wait_closed()
        return cause

    def close(self):
        self.runner.run(self.sockets.close())
        self.runner.close()


@pytest.fixture
def asking(certificate):
    made = []

    def make(*given, **kw):
        made.append(Asking(*given, **{"ca": certificate[0], **kw}))
        return made[-1]

    yield make
    for each in made:
        each.close()


@LOOPS
@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_f5_the_second_connection_to_an_upstream_resumes_the_session_of_the_first(
    answers, asking, new_loop, most
):
    server, client = answers(most=most), asking(new_loop)
    upstream = Upstream(f"tls://127.0.0.1:{server.port}#dns.test")
    assert [client.once(upstream) for _ in range(3)] == ["answered"] * 3
    assert server.resumed == [False, True, True]
    assert upstream.handshakes == {"whole": 1, "resumed": 2}


def test_f5_a_server_that_forgot_its_keys_makes_a_whole_handshake_and_is_resumed_again(
    answers, asking, certificate
):
    server, client = answers(), asking()
    upstream = Upstream(f"tls://127.0.0.1:{server.port}#dns.test")
    assert [client.once(upstream) for _ in range(2)] == ["answered"] * 2
    server.use(certificate)
    assert [client.once(upstream) for _ in range(2)] == ["answered"] * 2
    assert server.resumed == [False, True, False, True]


@pytest.mark.parametrize("pinned", [True, False], ids=["pin", "name"])
def test_f5_a_server_with_another_key_is_not_believed_for_the_session_we_have(
    answers, asking, certificate, tmp_path, pinned
):
    stranger = new_certificate(tmp_path)
    server, client = answers(), asking()
    trust = f"pin-sha256={pin_of(certificate)}" if pinned else "dns.test"
    upstream = Upstream(f"tls://127.0.0.1:{server.port}#{trust}")
    assert [client.once(upstream) for _ in range(2)] == ["answered"] * 2
    server.use(stranger)
    assert "answered" not in [client.once(upstream) for _ in range(2)]
    server.use(certificate)
    assert [client.once(upstream) for _ in range(2)] == ["answered"] * 2
    assert server.resumed[:2] == [False, True] and server.resumed[-2:] == [False, True]


def test_f5_a_pin_that_has_changed_is_never_bypassed_by_a_session(answers, asking, certificate, monkeypatch):
    server, client = answers(), asking(ca=None)
    upstream = Upstream(f"tls://127.0.0.1:{server.port}#pin-sha256={pin_of(certificate)}")
    assert [client.once(upstream) for _ in range(2)] == ["answered"] * 2
    assert server.resumed == [False, True]  # the pin was held against the certificate in the session
    good, upstream.pin = upstream.pin, bytes(32)
    assert "pinned" in client.once(upstream)
    upstream.pin = good
    assert client.once(upstream) == "answered" and server.resumed[-1]
    # even with the session that was good for the other pin
    (mine,) = [c for key, c in client.sockets.contexts.kept.items() if good in key]
    monkeypatch.setattr(Contexts, "get", lambda *_: mine)
    upstream.pin = bytes(32)
    assert "pinned" in client.once(upstream) and server.resumed[-1]
    assert mine.kept is None


def test_f5_a_session_that_led_to_no_answer_is_dropped(answers, asking):
    server, client = answers(), asking()
    upstream = Upstream(f"tls://127.0.0.1:{server.port}#dns.test")
    assert client.once(upstream) == "answered"
    server.silent = True
    assert client.once(upstream) != "answered"
    server.silent = False
    assert [client.once(upstream) for _ in range(2)] == ["answered"] * 2
    assert server.resumed == [False, True, False, True]


def test_f5_a_context_serves_one_trust_for_an_hour_and_there_are_at_most_64():
    contexts = Contexts()
    one, named = Upstream("tls://192.0.2.1#a.test"), Upstream("tls://192.0.2.1#b.test")
    first = contexts.get(one, "dot", 0.0)
    assert contexts.get(Upstream(one.url), "dot", KEPT_FOR) is first
    assert contexts.get(one, "dot", KEPT_FOR + 1) is not first
    different = {id(contexts.get(u, alpn, 1.0)) for u in (one, named) for alpn in ("dot", "h2")}
    assert len(different) == 4
    pin = "pin-sha256=" + "A" * 43 + "="
    for number in range(MOST_CONTEXTS):
        contexts.get(Upstream(f"tls://192.0.2.{number}#{pin}"), "dot", 2.0)
    assert len(contexts.kept) == MOST_CONTEXTS
    assert all(context.born == 2.0 for context in contexts.kept.values())


@needs_h2
def test_f5_an_https_upstream_is_resumed_too(server, certificate, peer, monkeypatch, eventually):
    url = f"https://127.0.0.1:{free_port()}"
    server(ours.Service(ours.Zone.from_text(ZONE), listen=[url], tls=certificate), mode=(UDP, TCP))
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    monkeypatch.setattr(doh, "IDLE", 0.05)
    forward = ours.Forward(f"{url}#dns.test")
    service = ours.Service(forward)
    client = peer(server(service).address, timeout=8)
    for name in ("www.e.test", "n1.e.test", "n2.e.test"):
        assert Message.parse(client.ask(ask(name, "A").encode())).rcode in (0, 3)
        eventually(lambda: all(c.closed for c in service.network().https.values()), within=8)
    assert forward.group.upstreams[0].handshakes == {"whole": 1, "resumed": 2}
    assert 'upstream_handshakes_total{session="resumed"' in metrics.Metrics(service).text()
