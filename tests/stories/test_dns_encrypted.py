"""DNS over TLS and over HTTPS, as a server and towards upstreams (spec T3, T4, F5)."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import http.client
import importlib.util
import ipaddress
import random
import socket
import ssl

import pytest

from tests.conftest import free_port
from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.dns import pins
from toolips_udp.dns.message import Message, ask
from toolips_udp.errors import FormatError, StartError

ZONE = "$ORIGIN e.test.\n@ 60 SOA a b 1 2 3 4 5\n@ NS a\nwww 60 A 192.0.2.1\n"
needs_h2 = pytest.mark.skipif(
    importlib.util.find_spec("h2") is None or importlib.util.find_spec("hypercorn") is None,
    reason="DNS over HTTPS needs the extra doh: pip install 'toolips_udp[doh]'",
)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for dns.test and 127.0.0.1, signed by itself, and its key."""
    return new_certificate(tmp_path_factory.mktemp("tls"))


def new_certificate(folder):
    """The paths of one, with a key of its own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dns.test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("dns.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


def client_context(certificate, protocols):
    context = ssl.create_default_context(cafile=certificate[0])
    context.set_alpn_protocols(protocols)
    return context


@pytest.fixture
def encrypted(server, certificate):
    """A server with DoT and, where the extra is there, DoH; the ports of both."""

    def make(*schemes):
        ports = {scheme: free_port() for scheme in schemes}
        listen = [f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()]
        server(ours.Service(ours.Zone.from_text(ZONE), listen=listen, tls=certificate), mode=(UDP, TCP))
        return ports

    return make


def test_t3_dot_answers_with_alpn_and_pads(encrypted, certificate):
    port = encrypted("tls")["tls"]
    context = client_context(certificate, ["dot"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="dns.test") as stream,
    ):
        assert stream.selected_alpn_protocol() == "dot" and stream.version() in ("TLSv1.2", "TLSv1.3")
        for name in ("www.e.test", "nx.e.test"):
            packet = ask(name, "A", id=7, options={12: bytes(20), 11: b""}).encode()
            stream.sendall(len(packet).to_bytes(2, "big") + packet)
            size = int.from_bytes(stream.recv(2), "big")
            data = b""
            while len(data) < size:
                data += stream.recv(size - len(data))
            message = Message.parse(data)
            assert size % 468 == 0 and not any(message.options[12]) and 11 in message.options
            assert bool(message.answer) == name.startswith("www")


def test_a_bad_certificate_is_a_start_error(server, tmp_path):
    (tmp_path / "x").write_text("nonsense")
    zone = ours.Zone.from_text(ZONE)
    for tls in ((str(tmp_path / "x"), str(tmp_path / "x")), ("/none", "/none"), None):
        with pytest.raises(StartError, match="certificate"):
            server(ours.Service(zone, listen=["tls://127.0.0.1:0"], tls=tls))


@needs_h2
def test_t4_doh_answers_get_and_post_and_refuses_the_rest(encrypted, certificate):
    port = encrypted("https")["https"]
    context = client_context(certificate, ["http/1.1"])
    packet = ask("www.e.test", "A").encode()

    def exchange(method, path="/dns-query", body=None, kind="application/dns-message"):
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=5)
        try:
            connection.request(method, path, body, {"content-type": kind} if kind else {})
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()

    text = base64.urlsafe_b64encode(packet).decode().rstrip("=")
    for found in (exchange("POST", body=packet), exchange("GET", f"/dns-query?dns={text}", kind=None)):
        status, headers, body = found
        assert status == 200 and headers["content-type"] == "application/dns-message"
        assert headers["cache-control"] == "max-age=60" and Message.parse(body).answer[0].data[-1] == 1
    assert exchange("POST", body=packet, kind="text/plain")[0] == 415
    assert exchange("PUT", body=packet)[0] == 405
    assert exchange("POST", body=b"short")[0] == 400
    assert exchange("GET", "/dns-query?dns=!!!", kind=None)[0] == 400
    assert exchange("GET", "/other", kind=None)[0] == 404
    assert exchange("POST", body=bytes(70_000))[0] == 413
    status, _, body = exchange("POST", body=ask("e.test", "AXFR", rd=False).encode())
    assert status == 200 and Message.parse(body).rcode == 5
    assert Message.parse(exchange("POST", body=ask("other.test", "A").encode())[2]).rcode == 5


@pytest.mark.parametrize("scheme", ["tcp", "tls", pytest.param("https", marks=needs_h2)])
def test_f5_a_forwarder_asks_over_each_transport_and_keeps_its_connection(
    scheme, server, encrypted, certificate, peer, monkeypatch
):
    if scheme == "tcp":
        upstream = server(ours.Service(ours.Zone.from_text(ZONE)), mode=(UDP, TCP))
        url = f"tcp://{upstream.address}"
    else:
        url = f"{scheme}://127.0.0.1:{encrypted(scheme)[scheme]}#dns.test"
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    forward = ours.Forward(url)
    client = peer(server(ours.Service(forward), mode=(UDP, TCP)).address, timeout=6)
    assert Message.parse(client.ask(ask("www.e.test", "A").encode())).answer[0].data[-1] == 1
    for i in range(5):
        assert Message.parse(client.ask(ask(f"n{i}.e.test", "A").encode())).rcode == 3
    assert forward.group.upstreams[0].failed == 0


def test_f5_an_upstream_with_another_name_is_not_believed(server, encrypted, certificate, peer, monkeypatch):
    port = encrypted("tls")["tls"]
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    forward = ours.Forward(f"tls://127.0.0.1:{port}#other.test")
    client = peer(server(ours.Service(forward)).address, timeout=8)
    reply = Message.parse(client.ask(ask("www.e.test", "A").encode()))
    assert reply.rcode == 2 and not reply.answer


def pin_of(certificate):
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    with open(certificate[0], "rb") as file:
        key = x509.load_pem_x509_certificate(file.read()).public_key()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(hashlib.sha256(key.public_bytes(*form)).digest()).decode()


@pytest.mark.parametrize("scheme", ["tls", pytest.param("https", marks=needs_h2)])
def test_f5_a_pinned_key_is_believed_whoever_signed_it_and_no_other_is(
    scheme, server, encrypted, certificate, peer
):
    url = f"{scheme}://127.0.0.1:{encrypted(scheme)[scheme]}"  # nobody here knows who signed its certificate
    other = base64.b64encode(bytes(32)).decode()
    for pin, rcode in ((pin_of(certificate), 0), (other, 2)):
        forward = ours.Forward(f"{url}#pin-sha256={pin}")
        client = peer(server(ours.Service(forward)).address, timeout=8)
        reply = Message.parse(client.ask(ask("www.e.test", "A").encode()))
        assert (reply.rcode, bool(reply.answer)) == (rcode, rcode == 0)
    with pytest.raises(FormatError, match="44 characters"):
        ours.Forward(f"{url}#pin-sha256=abc")


def test_f5_what_is_no_certificate_has_no_key_and_is_no_error_of_ours(certificate):
    with open(certificate[0]) as file:
        der = ssl.PEM_cert_to_DER_cert(file.read())
    whole = pins.digest_of(der)
    assert base64.b64encode(whole).decode() == pin_of(certificate)
    rng = random.Random(3)
    for number in range(3000):
        broken = bytearray(der[: rng.randrange(len(der))] if number % 2 else der)
        for _ in range(number % 5):
            if broken:
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        with contextlib.suppress(FormatError):
            assert len(pins.digest_of(bytes(broken))) == 32


def secondary_of(url, keys=None, key=None):
    transfers = ours.Transfers(keys)
    return transfers, transfers.secondary("e.test", [(url, key)])


def test_x4_a_secondary_takes_its_zone_over_tls_whole_and_then_the_changes(
    server, certificate, eventually, monkeypatch, tmp_path
):
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    keys = {"xfr.": ("hmac-sha256", base64.b64encode(bytes(32)).decode())}
    store = ours.ZoneStore(tmp_path)
    store.save(ours.Zone.from_text(ZONE))
    out = ours.Transfers(ours.Keys(keys))
    out.allow("e.test", [("127.0.0.1", "xfr.")])
    store.changed.append(out.changed)
    port = free_port()
    primary = ours.Service(store, listen=[f"tls://127.0.0.1:{port}"], tls=certificate, transfers=out)
    server(primary, mode=(UDP, TCP))
    into, copy = secondary_of(f"tls://127.0.0.1:{port}#dns.test", ours.Keys(keys), "xfr.")
    server(ours.Service(*into.steps(), transfers=into), mode=(UDP, TCP))
    eventually(lambda: copy.zone.serial == 1, within=8)
    store.save(ours.Zone.from_text(ZONE.replace("a b 1 ", "a b 2 ") + "more 60 A 192.0.2.2\n"))
    copy.check_soon()
    eventually(lambda: copy.zone.serial == 2, within=8)
    assert (copy.counters["axfr"], copy.counters["ixfr"], copy.counters["failed"]) == (1, 1, 0)
    assert copy.zone.digest() == next(iter(store.zones)).digest()


@pytest.mark.parametrize("wrong", ["name", "alpn"])
def test_x4_a_zone_is_not_taken_over_tls_from_another_name_or_protocol(
    server, certificate, eventually, monkeypatch, wrong
):
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    out = ours.Transfers()
    out.allow("e.test", [("127.0.0.1", None)])
    port = free_port()
    service = ours.Service(
        ours.Zone.from_text(ZONE), listen=[f"tls://127.0.0.1:{port}"], tls=certificate, transfers=out
    )
    server(service, mode=(UDP, TCP))
    if wrong == "alpn":
        service.listeners.modes[0]._tls.set_alpn_protocols(["http/1.1"])
    into, copy = secondary_of(f"tls://127.0.0.1:{port}#{'other.test' if wrong == 'name' else 'dns.test'}")
    server(ours.Service(*into.steps(), transfers=into), mode=(UDP, TCP))
    eventually(lambda: copy.counters["failed"] == 1, within=8)
    assert copy.zone.soa is None and (wrong == "name" or "ALPN" in copy.last_error)
