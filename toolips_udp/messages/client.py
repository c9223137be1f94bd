"""Client: runs operations, sends and gets messages. Lives on the loop that `connect` was called on.

Above its link (`joining.py`), messages and listeners.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from . import frames
from .errors import NotConnected
from .frames import Done, Failed, Operation, Result, Text
from .hearing import Hearing
from .history import History
from .joining import Joining
from .listeners import Listeners, in_order
from .log import Lines
from .message import Message, PendingMessage
from .questions import Question
from .server import MAX_MESSAGE

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_ADDRESS = "127.0.0.1:5000"
HISTORY = 1024
_SWEEP = 0.02
"""Seconds between two looks for questions whose time is over."""


class Client(Joining):
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
        super().__init__(
            token, address, timeout=timeout, minimum_version=minimum_version, send_token=send_token,
            reconnect=reconnect, secure=secure, heartbeat=heartbeat, max_message=max_message,
        )  # fmt: skip
        self.listeners = Listeners()
        self.lines = Lines(log_level)
        self._id = 0
        self._history = History(HISTORY)
        self._hearing = Hearing(self.lines, self.counts)
        self._sweeper: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """End the connection; what was asked and is not answered raises `NotConnected`. Twice does nothing."""
        try:
            await super().close()
        finally:
            self._hearing.end()
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None

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
            payload = {**payload, **more} if payload else more
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
        loop, protocol = self._loop, self._protocol
        up = protocol is not None and protocol.open
        if loop is None or not (up or self._will_restore()):
            raise NotConnected(self._why_not())
        body = frames.write(frame)
        now = loop.time()
        if up:
            self._say(body, now)
        until = now + (self.timeout if timeout is None else timeout)
        self._questions[frame.id] = question = Question(frame, loop.create_future(), until)
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP, self._sweep)
        return question

    def _sweep(self) -> None:
        """Questions whose time is over. Asks for itself while there are questions."""
        self._sweeper = None
        if self._questions and self._loop is not None:
            self._questions.expire(self._loop.time(), self.address)
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    # ---- what arrives ----

    def _take(self, frame: Any) -> None:
        kind = frame.__class__
        if kind is Result or kind is Done or kind is Failed:
            self._questions.answered(frame)
        elif kind is Text:
            self._hear(frame)
        else:
            self.counts["malformed"] += 1

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
