"""Message: what both sides send and get; and messages that are prepared before they are sent.

Imports listeners. Who sends is handed in.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

from .listeners import Listeners

F = TypeVar("F", bound=Callable[..., Any])


class Message:
    """One message. `content` is its text, `data` what came with it, `replying` the message that it answers.

    `client` is, on a server, the client that sent it.
    """

    __slots__ = ("_reply", "client", "content", "data", "id", "listeners", "replying")

    def __init__(
        self,
        content: str,
        data: Any,
        id: int,
        replying: Message | None,
        reply: Callable[[Message, str, Any], Awaitable[Message]] | None,
        client: Any = None,
    ) -> None:
        self.content = content
        self.data = data
        self.id = id
        self.replying = replying
        self.client = client
        self.listeners: Listeners | None = None
        self._reply = reply

    def reply(self, content: str, data: Any = None) -> Awaitable[Message]:
        """Answer this message; only its id is sent along. `await` it; it raises as `message` of its side does.

        On a server it is queued at once, from any thread, and the await is over when it is queued. On a client
        the await is over when the server's listeners are done.
        """
        if self._reply is None:
            raise RuntimeError("this message was sent from here, so there is nobody to answer")
        return self._reply(self, content, data)

    def to_dict(self) -> dict[str, Any]:
        """The message as plain data; of the replied one its id."""
        return {
            "id": self.id,
            "content": self.content,
            "data": self.data,
            "replying": None if self.replying is None else self.replying.id,
        }

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.content[:40]!r}>"


class PendingMessage:
    """A message that is sent when its block ends well; listeners for its replies are added before.

    On a client, the block is left when the server's listeners are done and those for its replies have run. On a
    server it is a broadcast; replies come when the clients send them, and `result` counts.

    >>> async with client.message_later("hello") as pending:
    ...     @pending.receive()
    ...     async def answered(message): ...
    """

    def __init__(self, content: str, data: Any, send: Callable[[PendingMessage], Awaitable[Any]]) -> None:
        self.content = content
        self.data = data
        self.listeners = Listeners()
        self.result: Any = None
        """What sending gave: the `Message`, or of a broadcast its counts."""
        self._send = send
        self._sent = False

    def receive(self, message: str | Iterable[str] | None = None, parameter: Any = None) -> Callable[[F], F]:
        """Add a listener for replies to this message."""
        return self.listeners.decorator("pending", message, None, parameter, sys._getframe(1).f_locals)

    async def send(self) -> Any:
        """Send it now. A second time is a `RuntimeError`."""
        if self._sent:
            raise RuntimeError(f"the message {self.content!r} was sent already. Fix: prepare another")
        self._sent = True
        self.result = await self._send(self)
        return self.result

    async def __aenter__(self) -> PendingMessage:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None and not self._sent:
            await self.send()
