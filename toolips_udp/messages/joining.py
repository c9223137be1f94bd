"""Joining: a client's link to its server: opened, logged in, kept alive, opened anew, ended. Below the client.

Above the protocol and the carriers. Who derives from it says what is done with what arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from . import frames, versions
from .carriers import Link, open_link
from .carriers.link import settle
from .errors import AlreadyConnected, ConnectError, LoginError, MessagesError, NotConnected
from .protocol import ClientProtocol, Happening, Terms
from .questions import Questions

_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts to connect again."""


def _weakly(client: Joining) -> tuple[Callable[[bytes], None], Callable[[str], None]]:
    """What a link calls. The loop holds the link, and must not hold a client that nobody else has any more."""
    found = weakref.ref(client)

    def arrived(data: bytes) -> None:
        client = found()
        if client is not None:
            client._arrived(data)

    def left(word: str) -> None:
        client = found()
        if client is not None:
            client._left(word)

    return arrived, left


def _beat(found: weakref.ref[Joining]) -> None:
    client = found()
    if client is not None:
        client._keep_alive()


class Joining:
    """What a `Client` is to its server; who derives from it takes the frames that come in `_take`."""

    def __init__(
        self,
        token: str,
        address: Any,
        *,
        timeout: float,
        minimum_version: str | None,
        send_token: bool | None,
        reconnect: bool,
        secure: bool,
        heartbeat: float,
        max_message: int,
    ) -> None:
        from .. import __version__

        if token is None:
            raise ValueError("a client needs the server's token, found None")
        if not isinstance(token, str):
            raise ValueError(f"a token is text, found {token!r}"[:200])
        if timeout <= 0 or heartbeat <= 0:
            raise ValueError(f"timeout and heartbeat are above 0, found {timeout!r} and {heartbeat!r}")
        self._token = token
        self.address = address
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.reconnect = reconnect
        self.closed = False
        """Whether `close` was called, or the link ended for good."""
        self.counts: Counter[str] = Counter()
        """What arrived and was not right, by word."""
        self._terms = Terms(__version__, versions.check(minimum_version), secure)
        self._send_token = send_token
        self._max = max_message
        self._instance = os.urandom(16)
        self._link: Link | None = None
        self._protocol: ClientProtocol | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._login: asyncio.Future[None] | None = None
        self._questions = Questions(self.counts)
        self._beat: asyncio.TimerHandle | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._why = ""

    # ---- life ----

    @property
    def connected(self) -> bool:
        """Whether there is a link that is logged in. Turns false when the link dies."""
        return self._protocol is not None and self._protocol.open

    @property
    def server_version(self) -> str:
        """The version that the server said it is; empty before the login."""
        session = self._protocol.session if self._protocol is not None else None
        return "" if session is None else session.version

    async def connect(self) -> None:
        """Open the link and log in.

        Raises `ConnectError`, `LoginError`, `VersionError`, `AlreadyConnected`; `TimeoutError` never.
        """
        if self.connected or self._login is not None:
            raise AlreadyConnected(f"this client is connected to {self.address} already")
        if not self._token:
            raise LoginError(
                "an empty token opens nothing. Fix: the token that the server's start line shows"
            )
        self._loop = asyncio.get_running_loop()
        self.closed = False
        await self._open()

    async def _open(self) -> None:
        assert self._loop is not None
        until = self._loop.time() + self.timeout
        link = await open_link(self.address, self.timeout, self._max)
        may_send = link.near if self._send_token is None else self._send_token
        protocol = ClientProtocol(
            self._terms, self._loop.time(), self._max, self.counts, token=self._token, may_send=may_send,
            instance=self._instance, resumes=self.reconnect, random=os.urandom,
        )  # fmt: skip
        self._login = self._loop.create_future()
        self._link, self._protocol = link, protocol
        link.on_message, link.on_close = _weakly(self)
        protocol.begin()
        self._flush()
        try:
            async with asyncio.timeout_at(until):
                await self._login
            if not link.open:
                raise ConnectError(f"{self.address} ended the connection right after the login")
        except TimeoutError:
            link.abort()
            raise ConnectError(
                f"the server at {self.address} did not answer the login within {self.timeout} s"
            ) from None
        except BaseException:
            link.abort()
            raise
        finally:
            self._login = None
        if self._beat is None:
            self._beat = self._loop.call_later(self.heartbeat / 4, _beat, weakref.ref(self))

    async def close(self) -> None:
        """End the connection; what was asked and is not answered raises `NotConnected`. Twice does nothing."""
        self.closed = True
        self._why = "it was closed"
        if self._restoring is not None:
            self._restoring.cancel()
            self._restoring = None
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        self._say_held()
        if self._protocol is not None:
            self._protocol.finish()
        link = self._link
        if link is not None and link.open:
            over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            link.on_message = lambda data: None
            link.on_close = lambda word: settle(over)
            link.close()
            if link.open:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over, 1.0)
            if link.open:
                link.abort()
        self._end_questions()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        link, protocol = getattr(self, "_link", None), getattr(self, "_protocol", None)
        if link is None or protocol is None or protocol.session is None:
            return  # a login that failed has ended its link
        if link.open and not self.closed:
            warnings.warn(
                f"{self!r} was dropped open. Fix: await client.close()",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(link.abort)

    def __repr__(self) -> str:
        state = "connected" if self.connected else "closed" if self.closed else "not connected"
        return f"<Client of {self.address}, {state}>"

    # ---- sending ----

    def _say(self, body: bytes, now: float) -> None:
        """Send a frame. While others are asked already, short ones leave together when this turn of the loop ends."""
        link, protocol = self._link, self._protocol
        assert link is not None and protocol is not None
        size = len(body)
        if size > protocol.room and protocol.held:
            link.send(protocol.together(now))
            link.hurry()
        if size > protocol.room or not (self._questions or protocol.held):
            link.send(protocol.close(body, now))
            return
        if not protocol.held:
            link.before_leaving(self._say_held)
        protocol.room -= size
        protocol.held.append(body)

    def _say_held(self) -> None:
        link, protocol, loop = self._link, self._protocol, self._loop
        if link is not None and protocol is not None and loop is not None and protocol.held and protocol.open:
            link.send(protocol.together(loop.time()))

    def _why_not(self) -> str:
        why = f" ({self._why})" if self._why else ""
        return (
            f"there is no connection to {self.address}{why}. Fix: await client.connect(), or reconnect=True"
        )

    # ---- from the link ----

    def _arrived(self, data: bytes) -> None:
        protocol = self._protocol
        if protocol is None or self._loop is None:
            return
        event = protocol.receive(data, self._loop.time())
        if protocol.out:
            self._flush()
        if event.__class__ is list:
            for frame in event:
                self._take(frame)
        elif event.__class__ is tuple:
            self._happened(event)
        elif event is not None:
            self._take(event)

    def _take(self, frame: Any) -> None:
        """A frame that is genuine."""
        raise NotImplementedError

    def _happened(self, event: Happening) -> None:
        if event[0] == "login":
            if self._login is not None and not self._login.done():
                self._login.set_result(None)
        elif event[0] == "end":
            self._fail_login(event[2] or ConnectError("the login ended"))

    def _flush(self) -> None:
        assert self._protocol is not None and self._link is not None
        out = self._protocol.out
        for data in out:
            self._link.send(data)
        out.clear()

    def _fail_login(self, error: MessagesError) -> None:
        if self._login is not None and not self._login.done():
            self._login.set_exception(error)

    def _left(self, word: str) -> None:
        """The link has ended."""
        if self._protocol is not None:
            self._protocol.finish()
        if self._login is not None:
            self._fail_login(ConnectError(f"{self.address} ended the connection during the login: {word}"))
            return
        self._why = f"the link has ended: {word}"
        if self.reconnect and not self.closed and self._loop is not None:
            if self._restoring is None:
                self._restoring = self._loop.create_task(self._restore())
            return
        self.closed = True
        self._end_questions()

    def _will_restore(self) -> bool:
        return self.reconnect and not self.closed and self._restoring is not None

    async def _restore(self) -> None:
        """Connect again, until it works or the client is closed; then ask again what is still asked."""
        attempt = 0
        while not self.closed:
            try:
                await self._open()
                break
            except (LoginError, MessagesError, OSError) as error:
                self._why = str(error)
                if isinstance(error, MessagesError) and error.code in (3, 4):
                    self.closed = True
                    self._restoring = None
                    self._end_questions()
                    return
                await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
                attempt += 1
        self._restoring = None
        now = asyncio.get_running_loop().time()
        for question in list(self._questions.values()):
            self._say(frames.write(question.frame), now)

    def _keep_alive(self) -> None:
        """The heartbeat."""
        self._beat = None
        if self.closed or self._loop is None:
            return
        self._beat = self._loop.call_later(self.heartbeat / 4, _beat, weakref.ref(self))
        link, protocol = self._link, self._protocol
        if link is None or protocol is None:
            return
        event = protocol.keep_alive(self._loop.time(), self.heartbeat, 3 * self.heartbeat)
        if protocol.out and link.open:
            self._flush()
        if event is not None:
            link.ended("lost")
            link.abort()

    def _end_questions(self) -> None:
        self._questions.end(NotConnected(self._why_not()))
