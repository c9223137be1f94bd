"""Login: a challenge, and an answer that proves knowledge of the token without sending it.

Imports tokens, seals and versions. Sans-io: bytes in, bytes and a verdict out; random is handed in. The frames
are fixed binary layouts, see docs/wire/messages.md. One attempt per connection; every nonce is used once.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from . import versions
from .errors import LoginError, VersionError
from .sealing import Exchange, Opener, Seal, cipher
from .tokens import LONGEST, key_of

HELLO, CHALLENGE, PROOF, WELCOME, REFUSED, PROBE, PROBED = range(1, 8)
MAGIC = b"TUM1"
NONCE = 32
HELLO_SIZE = 192
"""A hello and a probe are padded, so that no answer to a stranger is longer than its question."""
PROBE_SIZE = 64
SECURE, CUSTOM, RESUMES = 1, 2, 4
LOGIN_FAILED, BAD_VERSION = 3, 4

Random = Callable[[int], bytes]


@dataclass(frozen=True)
class Terms:
    """What a side brings to a login. `version` is its own, `minimum` the oldest it takes of the other."""

    version: str
    minimum: str | None = None
    secure: bool = False


@dataclass(frozen=True)
class Session:
    """What a login leaves: how to write and read, who the client is, and the other side's version."""

    seal: Seal
    opener: Opener
    instance: bytes
    resumes: bool
    version: str
    secure: bool


def short(text: str, most: int = 64) -> bytes:
    raw = text.encode("utf-8", "replace")[:most]
    return bytes((len(raw),)) + raw


class _Reader:
    """Fields of a login frame, one after the other; a frame that is too short is a `LoginError`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 1

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise LoginError("a login frame that ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        return self.take(self.take(1)[0]).decode("utf-8", "replace")


@dataclass
class _Transcript:
    """Everything that both sides said; both sign it, so neither can be told something else."""

    client_nonce: bytes = b""
    server_nonce: bytes = b""
    client_version: str = ""
    server_version: str = ""
    address: str = ""
    flags: int = 0
    client_public: bytes = b""
    server_public: bytes = b""
    instance: bytes = b""
    client_flags: int = 0

    def digest(self) -> bytes:
        parts = (
            MAGIC, self.client_nonce, self.server_nonce, self.client_version.encode("utf-8", "replace"),
            self.server_version.encode("utf-8", "replace"), self.address.encode("utf-8", "replace"),
            bytes((self.flags, self.client_flags)), self.client_public, self.server_public, self.instance,
        )  # fmt: skip
        joined = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return hashlib.sha256(joined).digest()


def sign(key: bytes, what: bytes, digest: bytes) -> bytes:
    return hmac.digest(key, what + digest, hashlib.sha256)


def _session(
    token: bytes, shared: bytes, said: _Transcript, secure: bool, server: bool, version: str
) -> Session:
    master = hmac.digest(token, b"master" + said.digest() + shared, hashlib.sha256)
    to_server, to_client = (
        hmac.digest(master, what, hashlib.sha256) for what in (b"to server", b"to client")
    )
    mine, theirs = (to_client, to_server) if server else (to_server, to_client)
    resumes = bool(said.client_flags & RESUMES)
    return Session(Seal(mine, secure), Opener(theirs, secure), said.instance, resumes, version, secure)


def probe() -> bytes:
    """The question for a version, without a login."""
    return (bytes((PROBE,)) + MAGIC).ljust(PROBE_SIZE, b"\0")


def is_probe(data: bytes) -> bool:
    return len(data) >= PROBE_SIZE and data[0] == PROBE and data[1:5] == MAGIC


def probed(version: str) -> bytes:
    """The answer to `probe`, never longer than it."""
    return bytes((PROBED,)) + short(version, PROBE_SIZE - 2)


def read_probed(data: bytes) -> str | None:
    """The version in the answer to a probe; None for anything else."""
    try:
        return _Reader(data).text() if data[:1] == bytes((PROBED,)) else None
    except LoginError:
        return None


class ServerLogin:
    """The server's half. `begin` takes the hello, `prove` the proof; each raises `LoginError` for nonsense.

    With a custom login `prove` only finds the token that was sent; `decide` ends the login.
    """

    def __init__(self, token: bytes, terms: Terms, custom: bool, address: str, random: Random) -> None:
        self._token = token
        self._terms = terms
        self._custom = custom
        self._random = random
        self._said = _Transcript(address=address, server_version=terms.version)
        self._exchange: Exchange | None = None
        self._shared = b""
        self._mac = b""
        self.sent_token: str | None = None
        """What a custom login is to judge."""

    def begin(self, hello: bytes) -> bytes:
        """The challenge."""
        reader = _Reader(hello)
        if len(hello) < HELLO_SIZE or hello[0] != HELLO or reader.take(4) != MAGIC:
            raise LoginError("no hello")
        wanted = reader.take(1)[0]
        said = self._said
        said.client_nonce = reader.take(NONCE)
        said.client_version = reader.text()
        said.server_nonce = self._random(NONCE)
        said.flags = (SECURE if self._terms.secure or wanted & SECURE else 0) | (
            CUSTOM if self._custom else 0
        )
        said.server_public = bytes(32)
        if said.flags & SECURE:
            try:
                self._exchange = Exchange(self._random)
            except ImportError as error:
                raise LoginError(str(error)) from None
            said.server_public = self._exchange.public
        head = bytes((CHALLENGE, said.flags)) + said.server_nonce + said.server_public
        return head + short(said.server_version) + short(said.address)

    def prove(self, proof: bytes) -> bool | None:
        """Whether the proof is right; None when a custom login has to judge `sent_token`."""
        reader = _Reader(proof)
        said = self._said
        if proof[0] != PROOF or not said.server_nonce:
            raise LoginError("no proof")
        self._mac = reader.take(32)
        said.instance = reader.take(16)
        said.client_flags = reader.take(1)[0]
        said.client_public = reader.take(32)
        size = int.from_bytes(reader.take(2), "big")
        token = reader.take(size)
        if self._exchange is not None:
            shared = self._exchange.shared(said.client_public)
            if shared is None:
                return False
            self._shared = shared
        if not self._custom:
            return self._is_right()
        try:
            self.sent_token = _open_token(token, self._shared, said).decode("utf-8")
        except (UnicodeDecodeError, LoginError):
            return False
        self._token = key_of(self.sent_token)
        return None if self._is_right() else False

    def _is_right(self) -> bool:
        return hmac.compare_digest(sign(self._token, b"client", self._said.digest()), self._mac)

    def accept(self, max_message: int) -> tuple[bytes, Session] | bytes:
        """The welcome, which says how long a frame may be, and the session; or the refusal of an old version."""
        said, terms = self._said, self._terms
        if terms.minimum is not None and versions.is_older(said.client_version, terms.minimum):
            return bytes((REFUSED, BAD_VERSION)) + short(terms.version) + short(terms.minimum)
        session = _session(
            self._token, self._shared, said, bool(said.flags & SECURE), True, said.client_version
        )
        most = max_message.to_bytes(4, "big")
        return bytes((WELCOME,)) + sign(self._token, b"server" + most, said.digest()) + most, session


def refusal() -> bytes:
    """What a failed login is told: nothing but that."""
    return bytes((REFUSED, LOGIN_FAILED))


class ClientLogin:
    """The client's half: `hello`, then `answer` the challenge, then `finish` with what comes back.

    `may_send(mode)` is asked before a token would be sent to a custom login.
    """

    def __init__(
        self, token: str, terms: Terms, may_send: bool, instance: bytes, resumes: bool, random: Random
    ) -> None:
        self._plain = token
        self._token = key_of(token)
        self._terms = terms
        self._may_send = may_send
        self._random = random
        self._shared = b""
        self.max_message = 0
        """Bytes of the longest frame that the server takes; known at the end."""
        self._said = _Transcript(
            client_version=terms.version, instance=instance, client_flags=RESUMES if resumes else 0
        )

    def hello(self) -> bytes:
        """The first frame."""
        said = self._said
        said.client_nonce = self._random(NONCE)
        head = bytes((HELLO,)) + MAGIC + bytes((SECURE if self._terms.secure else 0,)) + said.client_nonce
        return (head + short(said.client_version)).ljust(HELLO_SIZE, b"\0")

    def answer(self, challenge: bytes) -> bytes:
        """The proof. Raises `LoginError` when the token would have to be sent and must not be."""
        reader = _Reader(challenge)
        if challenge[:1] != bytes((CHALLENGE,)):
            raise LoginError("the server did not answer with a challenge. Is it a messages server?")
        said = self._said
        said.flags = reader.take(1)[0]
        said.server_nonce, said.server_public = reader.take(NONCE), reader.take(32)
        said.server_version, said.address = reader.text(), reader.text()
        said.client_public = bytes(32)
        if said.flags & SECURE:
            exchange = Exchange(self._random)
            said.client_public = exchange.public
            shared = exchange.shared(said.server_public)
            if shared is None:
                raise LoginError("the server's public key is none")
            self._shared = shared
        elif self._terms.secure:
            raise LoginError("the server does not seal, but this client wants it (secure=True)")
        token = self._sent_token() if said.flags & CUSTOM else b""
        mac = sign(self._token, b"client", said.digest())
        flags = bytes((said.client_flags,))
        head = bytes((PROOF,)) + mac + said.instance + flags + said.client_public
        return head + len(token).to_bytes(2, "big") + token

    def _sent_token(self) -> bytes:
        if not self._may_send:
            raise LoginError(
                "this server has a login of its own, which wants to see the token, and it is not on this machine; "
                "so the token is not sent. Fix: send_token=True, if the network may see it, best with secure=True"
            )
        raw = self._plain.encode("utf-8", "surrogatepass")
        if len(raw) > LONGEST:
            raise LoginError(f"a token of {len(raw):,} bytes cannot be sent, at most {LONGEST:,}")
        if self._said.flags & SECURE:
            return bytes(cipher(_token_key(self._shared, self._said)).encrypt(bytes(12), raw, None))
        return raw

    def finish(self, answer: bytes) -> Session:
        """The session. Raises `LoginError` or `VersionError`."""
        said, terms = self._said, self._terms
        reader = _Reader(answer)
        kind = answer[0] if answer else 0
        if kind == REFUSED and reader.take(1)[0] == BAD_VERSION:
            theirs, minimum = reader.text(), reader.text()
            raise VersionError(
                f"this side is {terms.version}, the server ({theirs}) takes {minimum} or newer. Fix: update this side"
            )
        if kind != WELCOME:
            raise LoginError("the server refused the login. Is the token right?")
        mac, most = reader.take(32), reader.take(4)
        if not hmac.compare_digest(mac, sign(self._token, b"server" + most, said.digest())):
            raise LoginError("the server does not know the token, so it is not the one that was meant")
        if terms.minimum is not None and versions.is_older(said.server_version, terms.minimum):
            raise VersionError(
                f"the server is {said.server_version}, this side ({terms.version}) takes {terms.minimum} or newer. "
                "Fix: update the server"
            )
        self.max_message = int.from_bytes(most, "big")
        secure = bool(said.flags & SECURE)
        return _session(self._token, self._shared, said, secure, False, said.server_version)


def _token_key(shared: bytes, said: _Transcript) -> bytes:
    return hmac.digest(shared, b"token" + said.client_nonce + said.server_nonce, hashlib.sha256)


def _open_token(token: bytes, shared: bytes, said: _Transcript) -> bytes:
    if said.flags & SECURE:
        from cryptography.exceptions import InvalidTag

        try:
            token = cipher(_token_key(shared, said)).decrypt(bytes(12), token, None)
        except InvalidTag:
            raise LoginError("a token that cannot be opened") from None
    if len(token) > LONGEST:
        raise LoginError("a token that is too long")
    return token
