"""Client: connects, logs in, runs operations, sends and gets messages.

Above the protocol, messages and carriers. Lives on the loop that `connect` was called on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

from . import frames, versions
from .carriers import Link, open_link
from .carriers.link import settle
from .errors import AlreadyConnected, ConnectError, LoginError, MessagesError, NotConnected
from .frames import Done, Failed, Operation, Result, Text
from .hearing import Hearing
from .history import History
from .listeners import Listeners, in_order
from .log import Lines
from .message import Message, PendingMessage
from .protocol import ClientProtocol, Happening, Terms
from .questions import Question, Questions
from .server import MAX_MESSAGE

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_ADDRESS = "127.0.0.1:5000"
HISTORY = 1024
_SWEEP = 0.02
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts to connect again."""


class Client:
    """A connection to a server. `await connect()` opens it, `await close()` ends it; `async with` does both.

    `address` is `"host:port"` (UDP), `"ws://host:port"` (WebSocket) or a running server object of this process.
    `send_token`: a server with a login of its own is sent the token: None on this machine only, True anywhere,
    False never. `secure` wants everything sealed. With `reconnect=True` a link that dies is made again, with a new
    login; what was asked meanwhile is asked again and never run twice.

    >>> client = Client("test", "127.0.0.1:5000")
    """

    def __init__(
        self,
        token: str,
        address: Any = DEFAULT_ADDRESS,
        *,
        timeout: float = 5.0,
        minimum_version: str | None = None,
        send_token: bool | None = None,
        reconnect: bool = False,
        secure: bool = False,
        heartbeat: float = 5.0,
        max_message: int = MAX_MESSAGE,
        log_level: int | None = None,
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
        self.listeners = Listeners()
        self.lines = Lines(log_level)
        self._terms = Terms(__version__, versions.check(minimum_version), secure)
        self._send_token = send_token
        self._max = max_message
        self._instance = os.urandom(16)
        self._link: Link | None = None
        self._protocol: ClientProtocol | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._login: asyncio.Future[None] | None = None
        self._questions = Questions(self.counts)
        self._id = 0
        self._history = History(HISTORY)
        self._hearing = Hearing(self.lines, self.counts)
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps = False
        self._next_beat = 0.0
        self._restoring: asyncio.Task[None] | None = None
        self._why = ""

    # ---- life ----

    @property
    def connected(self) -> bool:
        """Whether there is a link that is logged in. Turns false when the link dies."""
        return (
            self._protocol is not None and self._protocol.open and self._link is not None and self._link.open
        )

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
        self._next_beat = self._loop.time() + self.heartbeat / 4

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
        link.on_message = self._arrived
        link.on_close = self._left
        protocol.begin()
        self._flush()
        try:
            async with asyncio.timeout_at(until):
                await self._login
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
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    async def close(self) -> None:
        """End the connection; what was asked and is not answered raises `NotConnected`. Twice does nothing."""
        self.closed = True
        self._why = "it was closed"
        if self._restoring is not None:
            self._restoring.cancel()
            self._restoring = None
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
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
        self._questions.end(NotConnected(self._why_not()))
        self._hearing.end()

    async def __aenter__(self) -> Client:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None and link.open and not self.closed:
            warnings.warn(
                f"{self!r} was dropped open. Fix: await client.close()",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def __repr__(self) -> str:
        state = "connected" if self.connected else "closed" if self.closed else "not connected"
        return f"<Client of {self.address}, {state}>"

    # ---- verbs ----

    async def operation(
        self, name: str, payload: Any = None, /, *, timeout: float | None = None, **more: Any
    ) -> Any:
        """Run an operation on the server and return what it returned. Keywords are put into the payload.

        Many may be in flight. Raises the error that the server answers with, `NotConnected`, and `TimeoutError`
        after `timeout` seconds (the client's unless given); the connection goes on after each of them but
        `NotConnected`.
        """
        if more:
            if payload is not None and not isinstance(payload, dict):
                raise ValueError(f"keywords go into a payload that is a dict, found {type(payload).__name__}")
            payload = {**(payload or {}), **more}
        if not isinstance(name, str):
            raise ValueError(f"an operation's name is text, found {name!r}")
        self._id = id = self._id + 1
        question = self._ask(Operation(id, name, payload), timeout)
        try:
            return await question.future
        except asyncio.CancelledError:
            self._questions.pop(id, None)
            raise

    async def message(
        self, content: str, data: Any = None, replying: Message | None = None, *, timeout: float | None = None
    ) -> Message:
        """Send a message; return it when the server's listeners are done and ours for its replies have run.

        Raises `OperationFailed` when a listener of the server's raised, else as `operation`.
        """
        return await self._message(content, data, replying, None, timeout)

    def message_later(self, content: str = "", data: Any = None) -> PendingMessage:
        """Prepare a message with listeners for its replies; see `PendingMessage`."""

        async def send(pending: PendingMessage) -> Message:
            return await self._message(pending.content, pending.data, None, pending.listeners, None)

        return PendingMessage(content, data, send)

    pend_message = message_later

    def receive(
        self, message: str | Iterable[str] | None = None, several: Any = None, *, parameter: Any = None
    ) -> Callable[[F], F]:
        """Add a listener, as on a server. A `def` runs on this loop, so it must not block."""
        return self.listeners.decorator("client", message, several, parameter, sys._getframe(1).f_locals)

    def progress(self) -> tuple[int, int]:
        """Bytes of ours that the server has not taken, and bytes of a long answer that is arriving."""
        found = getattr(self._link, "progress", None)
        return (0, 0) if found is None else found()

    # ---- asking ----

    async def _message(
        self,
        content: str,
        data: Any,
        replying: Message | None,
        listeners: Listeners | None,
        timeout: float | None,
    ) -> Message:
        if not isinstance(content, str):
            raise ValueError(f"a message's content is text, found {content!r}")
        self._id = id = self._id + 1
        message = Message(content, data, id, replying, None)
        message.listeners = listeners
        question = self._ask(Text(id, content, data, 0 if replying is None else replying.id), timeout)
        self._history.add(message)
        try:
            await question.future
        except asyncio.CancelledError:
            self._questions.pop(id, None)
            raise
        mine = asyncio.current_task()
        replies = [task for task in question.replies if task is not mine and not task.done()]
        if replies:
            await asyncio.wait(replies, timeout=self.timeout if timeout is None else timeout)
        return message

    def _ask(self, frame: Any, timeout: float | None) -> Question:
        loop, link, protocol = self._loop, self._link, self._protocol
        up = link is not None and link.open and protocol is not None and protocol.open
        if loop is None or not (up or self._will_restore()):
            raise NotConnected(self._why_not())
        body = frames.write(frame)
        now = loop.time()
        question = Question(frame, loop.create_future(), now + (self.timeout if timeout is None else timeout))
        if up:
            link.send(protocol.close(body, now))  # type: ignore[union-attr]
        self._questions[frame.id] = question
        return question

    def _send(self, body: bytes) -> None:
        assert self._link is not None and self._protocol is not None and self._loop is not None
        self._link.send(self._protocol.close(body, self._loop.time()))

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
        kind = event.__class__
        if kind is Result or kind is Done or kind is Failed:
            self._questions.answered(event)  # type: ignore[arg-type]
        elif kind is Text:
            self._hear(event)  # type: ignore[arg-type]
        elif kind is tuple:
            self._happened(event)  # type: ignore[arg-type]
        elif event is not None:
            self.counts["malformed"] += 1

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

    def _hear(self, frame: Text) -> None:
        replied = self._history.find(frame.replying) if frame.replying else None
        if frame.replying and replied is None:
            self.counts["unknown_reply"] += 1
        listeners = in_order(replied.listeners if replied else None, self.listeners, frame.content)
        if not listeners:
            return
        task = self._hearing.hear(
            listeners, Message(frame.content, frame.data, frame.id, replied, self._reply)
        )
        asked = self._questions.get(frame.replying) if frame.replying and task is not None else None
        if asked is not None and task is not None:
            asked.replies.append(task)

    def _reply(self, to: Message, content: str, data: Any) -> Awaitable[Message]:
        return self.message(content, data, to)

    def _left(self, word: str) -> None:
        """The link has ended."""
        if self._login is not None:
            self._fail_login(ConnectError(f"{self.address} ended the connection during the login: {word}"))
            return
        self._why = f"the link has ended: {word}"
        if self._protocol is not None:
            self._protocol.ended = True
        if self.reconnect and not self.closed and self._loop is not None:
            if self._restoring is None:
                self._restoring = self._loop.create_task(self._restore())
            return
        self.closed = True
        self._questions.end(NotConnected(self._why_not()))

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
                    self._questions.end(NotConnected(self._why_not()))
                    return
                await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
                attempt += 1
        self._restoring = None
        for question in list(self._questions.values()):
            self._send(frames.write(question.frame))

    def _sweep(self) -> None:
        """Deadlines of questions, and the heartbeat."""
        self._sweeper = None
        if self.closed or self._loop is None:
            return
        self._sweeper = self._loop.call_later(_SWEEP, self._sweep)
        now = self._loop.time()
        if self._questions:
            self._questions.expire(now, self.address)
        if now >= self._next_beat and self._protocol is not None:
            self._next_beat = now + self.heartbeat / 4
            event = self._protocol.keep_alive(now, self.heartbeat, 3 * self.heartbeat)
            if self._protocol.out and self._link is not None and self._link.open:
                self._flush()
            if event is not None and self._link is not None:
                link = self._link
                link.ended("lost")
                link.abort()
