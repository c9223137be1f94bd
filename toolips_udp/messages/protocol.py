"""The protocol of one connection, sans-io: bytes and a time in, bytes and events out.

Above login, seals and frames; called by `remote.py` (the server's side) and `client.py`. A carrier's message gives
at most one event. Nothing that arrives can raise here; what is not right is counted in `counts` under one word. `out`
collects what is to be sent. `held` are short frames that leave as one message, which costs both sides as much as a
single one: while `room` has their bytes they may be added, `together` is that message.

An event is a frame, a list of frames, or a tuple: ("judge", token) ("login", Session) ("bad", MessagesError)
("end", word, error).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from . import frames
from .errors import LoginError, MessagesError, VersionError
from .frames import Frame, Ping, Pong
from .login import ClientLogin, Random, ServerLogin, Session, Terms, is_probe, probed, read_probed, refusal
from .sealing import HEAD
from .throttle import Throttle, source_of

LOGIN_DEADLINE = 5.0
LONGEST_LOGIN = 8192
"""Bytes of a frame before the login."""
MOST_PROBES = 4
TOGETHER = 512
"""Bytes of frames in one message: enough to share what a message costs, few enough that the other side soon begins."""
Happening = tuple[Any, ...]
Event = Frame | list[Frame] | Happening


class Protocol:
    """What both sides share once they are logged in."""

    def __init__(self, terms: Terms, now: float, max_message: int, counts: Counter[str]) -> None:
        self.terms = terms
        self.out: list[bytes] = []
        self.counts = counts
        self.session: Session | None = None
        self.open = False
        """Whether frames can be written: after the login, before the end."""
        self.ended = False
        self.heard = now
        self.said = now
        self._asked = now
        self._max = self._longest = max_message + HEAD
        self.held: list[bytes] = []
        self.room = self._whole = min(TOGETHER, max_message - 3)
        """Bytes that `held` can still take."""

    def write(self, frame: Frame, now: float) -> bytes:
        """The bytes of a frame for the carrier. Raises what `frames.write` does, and `ValueError` for too many."""
        return self.close(frames.write(frame), now)

    def close(self, body: bytes, now: float) -> bytes:
        """A frame that is encoded already, signed for this connection."""
        assert self.session is not None
        if len(body) + HEAD > self._max:
            raise ValueError(
                f"a frame of {len(body):,} bytes is more than max_message ({self._max - HEAD:,})"
            )
        self.said = now
        return self.session.seal.close(body)

    def together(self, now: float) -> bytes:
        """What is held, as one message for the carrier. There must be some."""
        held = self.held
        self.held, self.room = [], self._whole
        return self.close(held[0] if len(held) == 1 else frames.together(held), now)

    def receive(self, data: bytes, now: float) -> Event | None:
        """One message of the carrier."""
        if self.ended:
            return None
        session = self.session
        if session is None:
            return self._before_login(data, now)
        if len(data) > self._longest:
            self.counts["too_long"] += 1
            return None
        body = session.opener.open(data)
        if body.__class__ is str:
            self.counts[body] += 1
            return None
        self.heard = now
        try:
            frame = frames.read(body)  # type: ignore[arg-type]
        except MessagesError as error:
            self.counts["malformed"] += 1
            return ("bad", error)
        kind = frame.__class__
        if kind is Ping:
            self.out.append(self.write(Pong(frame.number), now))
            return None
        return None if kind is Pong else frame

    def _before_login(self, data: bytes, now: float) -> Event | None:
        raise NotImplementedError

    def keep_alive(self, now: float, every: float, lost_after: float) -> Happening | None:
        """A ping when nothing was said, or heard, for `every` seconds; the end when nothing was for `lost_after`.

        Who only listens says nothing by itself: it is asked, however much it is told meanwhile.
        """
        if not self.open:
            return None
        if now - self.heard >= lost_after:
            return self.end("lost")
        if now - self.said >= every or (now - self.heard >= every and now - self._asked >= every):
            self._asked = now
            self.out.append(self.write(Ping(), now))
        return None

    def end(self, word: str, error: MessagesError | None = None) -> Happening:
        """Nothing more is taken or written."""
        self.finish()
        return ("end", word, error)

    def finish(self) -> None:
        """The same from outside: the link has ended."""
        self.ended = True
        self.open = False


class ServerProtocol(Protocol):
    """The server's side of one connection. `address` is the client's, as the carrier sees it."""

    def __init__(
        self,
        terms: Terms,
        now: float,
        max_message: int,
        counts: Counter[str],
        *,
        token: bytes,
        custom: bool,
        address: str,
        source: str,
        throttle: Throttle,
        random: Random,
    ) -> None:
        super().__init__(terms, now, max_message, counts)
        self._login: ServerLogin | None = ServerLogin(token, terms, custom, address, random)
        self._source = source_of(source)
        self._throttle = throttle
        self._state = "hello"
        self._probes = 0
        self.deadline: float | None = now + LOGIN_DEADLINE
        """When the login must be over; None: it is."""
        self._judge_at: float | None = None
        self._proof = b""

    def _before_login(self, data: bytes, now: float) -> Happening | None:
        if len(data) > self._longest:
            self.counts["too_long"] += 1
            return self.end("login", None)
        try:
            return self._login_step(data, now)
        except LoginError:
            self.counts["malformed"] += 1
            return self._fail(now)

    def _login_step(self, data: bytes, now: float) -> Happening | None:
        if not data or len(data) > LONGEST_LOGIN:
            raise LoginError("no login frame")
        if is_probe(data) and self._state == "hello":
            self._probes += 1
            if self._probes <= MOST_PROBES:
                self.out.append(probed(self.terms.version))
            return None
        assert self._login is not None
        if self._state == "hello":
            self.out.append(self._login.begin(data))
            self._state = "challenged"
            return None
        if self._state != "challenged":
            raise LoginError("more than one proof")
        self._state = "proved"
        self._proof = data
        wait = self._throttle.wait(self._source, now)
        if wait is None:
            self.counts["throttled"] += 1
            self.out.append(refusal())
            return self.end("login")
        if wait:
            self.counts["throttled"] += 1
            self._judge_at = now + wait
            assert self.deadline is not None
            self.deadline = max(self.deadline, self._judge_at + 1.0)
            return None
        return self._judge(now)

    def _judge(self, now: float) -> Happening | None:
        assert self._login is not None
        right = self._login.prove(self._proof)
        if right is None:
            return ("judge", self._login.sent_token)
        return self.decide(right, now)

    def decide(self, right: bool, now: float) -> Happening | None:
        """The verdict on the proof, or that of a custom login."""
        if self.ended or self._login is None:
            return None
        if not right:
            return self._fail(now)
        accepted = self._login.accept(self._max - HEAD)
        self._login = None
        self.deadline = None
        if isinstance(accepted, bytes):
            self.out.append(accepted)
            self.counts["bad_version"] += 1
            return self.end("version")
        welcome, self.session = accepted
        self.open = True
        self.out.append(welcome)
        self.heard = self.said = now
        return ("login", self.session)

    def _fail(self, now: float) -> Happening:
        self.counts["login_failed"] += 1
        self._throttle.failed(self._source, now)
        if self._state != "hello":
            self.out.append(refusal())
        return self.end("login")

    def tick(self, now: float) -> Happening | None:
        """Called now and then: a login that waited is judged, one that is too slow ends."""
        if self.ended or self.session is not None:
            return None
        if self._judge_at is not None and now >= self._judge_at:
            self._judge_at = None
            try:
                return self._judge(now)
            except LoginError:
                self.counts["malformed"] += 1
                return self._fail(now)
        if self.deadline is not None and now >= self.deadline:
            self.counts["login_late"] += 1
            return self.end("late")
        return None


class ClientProtocol(Protocol):
    """The client's side of one connection."""

    def __init__(
        self,
        terms: Terms,
        now: float,
        max_message: int,
        counts: Counter[str],
        *,
        token: str,
        may_send: bool,
        instance: bytes,
        resumes: bool,
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(terms, now, max_message, counts)
        self._login = ClientLogin(token, terms, may_send, instance, resumes, random)
        self._state = "hello"
        self._longest = sys.maxsize  # what the server may say is the carrier's affair

    def begin(self) -> None:
        """Say hello."""
        self.out.append(self._login.hello())

    def _before_login(self, data: bytes, now: float) -> Happening | None:
        try:
            if self._state == "hello":
                self.out.append(self._login.answer(data))
                self._state = "proved"
                return None
            self.session = self._login.finish(data)
            self._max = min(self._max, self._login.max_message + HEAD)
            self.open = True
        except (LoginError, VersionError) as error:
            return self.end("login", error)
        except ImportError as error:
            return self.end("login", LoginError(str(error)))
        self.heard = self.said = now
        return ("login", self.session)


__all__ = ["ClientProtocol", "Event", "Protocol", "ServerProtocol", "Terms", "read_probed"]
