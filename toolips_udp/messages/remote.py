"""Remote: one client, as the server holds it: its link, its protocol, its queue, what it asks for.

Above the protocol, operations and messages; made by `server.py`. Everything runs on the server's loop, except
`message`, which may be called anywhere.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from . import frames
from .carriers.link import Link
from .errors import BadAction, ContentError, MessagesError, NotConnected
from .frames import Done, Failed, Operation, Result, Text
from .listeners import in_order
from .message import Message
from .protocol import ServerProtocol

if TYPE_CHECKING:
    from .reception import Reception

HIGH = 256 * 1024
"""Bytes that a link may hold; more waits here, where it is bounded and counted."""


class Sent:
    """A message that is queued: awaiting it gives the message at once."""

    def __init__(self, message: Message) -> None:
        self.message = message

    def __await__(self) -> Generator[Any, None, Message]:
        return self.message
        yield


class Remote:
    """One client. `state` is authenticating, connected, closed, or killed (the server ended it)."""

    __slots__ = (
        "__weakref__", "address", "close_word", "data", "frames", "holding", "house", "id", "in_flight", "joined_at",
        "link", "protocol", "queue", "queued", "second", "state",
    )  # fmt: skip

    def __init__(self, house: Reception, link: Link, protocol: ServerProtocol, id: int) -> None:
        self.house = house
        self.link = link
        self.protocol = protocol
        self.id = id
        self.address = link.address
        self.state = "authenticating"
        self.close_word = ""
        self.joined_at = 0.0
        self.data: dict[Any, Any] = {}
        """Yours."""
        self.in_flight = 0
        self.queue: deque[tuple[bytes, bool]] = deque()
        self.queued = 0
        self.frames = 0
        self.second = 0.0
        self.holding = False
        """While several frames that came as one are run: what answers them at once leaves as one, too."""
        link.on_message = self.arrived
        link.on_close = self.left

    @property
    def version(self) -> str:
        """The version that the client says it is; empty before the login."""
        session = self.protocol.session
        return "" if session is None else session.version

    def __repr__(self) -> str:
        return f"<client {self.id} {self.address} {self.state}>"

    # ---- what handlers call ----

    def message(self, content: str, data: Any = None, replying: Message | None = None) -> Sent:
        """Send this client a message, from any thread. `NotConnected` when it has gone."""
        if self.state != "connected":
            raise NotConnected(f"{self!r} has gone, so nothing can be sent to it")
        house = self.house
        message = Message(content, data, house.history.next_id(), replying, None, self)
        body = frames.write(Text(message.id, content, data, 0 if replying is None else replying.id))
        house.history.add(message, self)
        house.on_loop(self.deliver, body, True)
        return Sent(message)

    def reply(self, to: Message, content: str, data: Any) -> Sent:
        """What `Message.reply` calls."""
        return self.message(content, data, to)

    def kick(self) -> None:
        """End the connection."""
        self.house.on_loop(self.kill, "kicked")

    # ---- from the link ----

    def arrived(self, data: bytes) -> None:
        """A message of the carrier."""
        house = self.house
        now = house.clock()
        protocol = self.protocol
        event = protocol.receive(data, now)
        if event.__class__ is tuple:
            self.happened(event)
        elif event is not None:
            if now - self.second >= 1.0:
                self.second, self.frames = now, 0
            self.frames += len(event) if event.__class__ is list else 1
            if self.frames > house.rate:
                house.counts["flood"] += 1
                self.kill("flood")
                return
            if event.__class__ is list:
                self.take_several(event)
            else:
                self.take(event)
        if protocol.out:
            self.flush()

    def flush(self) -> None:
        """Send what the protocol has to say."""
        out = self.protocol.out
        for data in out:
            self.link.send(data)
        out.clear()

    def happened(self, event: tuple[Any, ...]) -> None:
        """Anything but a frame."""
        kind = event[0]
        if kind == "login":
            self.flush()
            self.house.entered(self)
        elif kind == "judge":
            self.house.judge(self, event[1])
        elif kind == "bad":
            self.deliver(frames.write(Failed(0, event[1].code, str(event[1]))))
        else:
            self.flush()
            self.kill(event[1])

    def left(self, word: str) -> None:
        """The link has ended."""
        if self.state in ("authenticating", "connected"):
            was, self.state = self.state, "closed"
            self.close_word = word
            self._forget()
            self.house.gone(self, was, word)

    def kill(self, word: str) -> None:
        """End it from this side."""
        if self.state not in ("authenticating", "connected"):
            return
        self._say_held()
        was, self.state = self.state, "killed"
        self.close_word = word
        self._forget()
        if word in ("lost", "slow", "flood", "stopping"):
            self.link.abort(word)
        else:
            self.link.close()
        self.house.gone(self, was, word)

    def _forget(self) -> None:
        self.protocol.finish()
        self.queue.clear()
        self.queued = 0

    # ---- sending ----

    def deliver(self, body: bytes, droppable: bool = False) -> str:
        """Send a frame, or queue it when the client is slow: `delivered`, `queued` or `failed`."""
        if self.state != "connected":
            return "failed"
        link = self.link
        if not self.queue and link.unsent <= HIGH:
            if self.holding:
                self._hold(body)
            else:
                link.send(self.protocol.close(body, self.house.clock()))
            return "delivered"
        if self.queued + len(body) > self.house.max_queue:
            if droppable and self.house.slow == "drop":
                self.house.counts["dropped_queue"] += 1
            else:
                self.house.counts["slow"] += 1
                self.kill("slow")
            return "failed"
        self.queue.append((body, droppable))
        self.queued += len(body)
        self.house.waiting.add(self)
        self.house.look_soon()
        return "queued"

    def _hold(self, body: bytes) -> None:
        protocol = self.protocol
        size = len(body)
        if size > protocol.room:
            self._say_held()
            if size > protocol.room:
                self.link.send(protocol.close(body, self.house.clock()))
                return
        protocol.room -= size
        protocol.held.append(body)

    def _say_held(self) -> None:
        protocol = self.protocol
        if protocol.held and protocol.open:
            self.link.send(protocol.together(self.house.clock()))

    def pump(self) -> bool:
        """Send what waits, as far as the link takes it. True when nothing waits any more."""
        while self.queue and self.link.unsent <= HIGH:
            body, _ = self.queue.popleft()
            self.queued -= len(body)
            self.link.send(self.protocol.close(body, self.house.clock()))
        return not self.queue

    # ---- what clients ask for ----

    def take_several(self, frames: list[Any]) -> None:
        """Frames that came as one message."""
        self.holding = True
        try:
            for frame in frames:
                if self.state != "connected":
                    break
                self.take(frame)
        finally:
            self.holding = False
            self._say_held()

    def take(self, frame: Any) -> None:
        """A frame that is genuine."""
        kind = frame.__class__
        if kind is not Operation and kind is not Text:
            self.house.counts["malformed"] += 1
            self.fail(0, BadAction("a client does not send this kind of frame"))
            return
        house = self.house
        session = self.protocol.session
        assert session is not None
        if session.resumes and house.executions.knows(self, session.instance, frame.id):
            return
        if house.paused:
            self.fail(frame.id, BadAction("the server is paused. Try again later"))
        elif self.in_flight >= house.max_in_flight:
            self.fail(frame.id, BadAction(f"more than {house.max_in_flight} at once. Wait for answers"))
        elif kind is Operation:
            self.operate(frame)
        else:
            self.hear(frame)

    def answer(self, id: int, body: bytes) -> None:
        """The answer to an operation or a message."""
        session = self.protocol.session
        if session is not None and session.resumes:
            self.house.executions.done(self, session.instance, id, body)
        else:
            self.deliver(body)

    def fail(self, id: int, error: MessagesError) -> None:
        """Answer with an error that may be told."""
        self.answer(id, frames.write(Failed(id, error.code, str(error)[:1024], error.id, error.path)))

    def crashed(self, id: int, error: BaseException, who: str) -> None:
        """Something of the server's raised: the client gets an opaque id, the log the rest."""
        if isinstance(error, MessagesError) and error.code:
            self.fail(id, error)
            return
        number = secrets.token_hex(8)
        self.house.counts["handler_failed"] += 1
        late = isinstance(error, TimeoutError) and not error.args
        what = "took too long and was cancelled" if late else f"raised {type(error).__name__}"
        self.house.lines.event(
            "error", f"{number}: {who} {what}", logging.ERROR, self.address, None if late else error
        )
        text = f"the server failed; its log has more under {number}"
        self.answer(id, frames.write(Failed(id, 6, text, number)))

    # ---- operations ----

    def operate(self, frame: Operation) -> None:
        """Run an operation."""
        house = self.house
        try:
            operation = house.operations.find(frame.name)
            given, named = operation.arguments(house, frame.payload)
        except MessagesError as error:
            self.fail(frame.id, error)
            return
        self.in_flight += 1

        def done(value: Any, error: BaseException | None) -> None:
            self.in_flight -= 1
            if error is None:
                try:
                    self.answer(frame.id, frames.write(Result(frame.id, operation.result(value))))
                    return
                except Exception as failure:
                    error = failure
            self.crashed(frame.id, error, f"operation {operation.name!r}")

        work = house.work
        if work is None:
            return  # the server stops
        if operation.is_async:
            work.run(operation.fn(*given, **named), done)
        else:
            work.in_thread(operation.fn, given, named, done)

    # ---- messages ----

    def hear(self, frame: Text) -> None:
        """Give a message to its listeners."""
        house = self.house
        replied = house.history.find(frame.replying, self) if frame.replying else None
        if frame.replying and replied is None:
            house.counts["unknown_reply"] += 1
        listeners = in_order(replied.listeners if replied else None, house.listeners, frame.content)
        if not listeners:
            self.answer(frame.id, frames.write(Done(frame.id)))
            return
        message = Message(frame.content, frame.data, frame.id, replied, self.reply, self)
        self.in_flight += 1

        def done(_: Any, error: BaseException | None) -> None:
            self.in_flight -= 1
            if error is not None:
                self.crashed(frame.id, error, f"message {frame.content[:40]!r}")

        house.run(self._hear(listeners, message), done)

    async def _hear(self, listeners: list[Any], message: Message) -> None:
        failure: tuple[BaseException, str] | None = None
        for listener in listeners:
            try:
                given = listener.arguments(message)
            except ContentError as error:
                text = f"{listener!r} was passed over, for {error}"
                self.house.lines.event("listener", text, logging.WARNING, self.address)
                continue
            try:
                if listener.is_async:
                    await listener.fn(*given)
                else:
                    await self.house.await_thread(listener.fn, given)
            except Exception as error:
                if failure is None:
                    failure = (error, repr(listener))
                else:
                    self.house.lines.event(
                        "error", f"{listener!r} raised too", logging.ERROR, self.address, error
                    )
        if failure is None:
            self.answer(message.id, frames.write(Done(message.id)))
        else:
            self.crashed(message.id, *failure)


class Executions:
    """What clients that reconnect have asked for, so that a question that comes again is not run again.

    Bounded in number and bytes; the oldest go first.
    """

    MOST = 10_000
    BYTES = 16 << 20

    def __init__(self) -> None:
        self._all: dict[tuple[bytes, int], bytes | None] = {}
        self._bytes = 0
        self._clients: dict[bytes, Remote] = {}

    def entered(self, remote: Remote, instance: bytes) -> Remote | None:
        """A client is (back) here; its connection of before, when there is one."""
        before = self._clients.get(instance)
        self._clients[instance] = remote
        return before

    def left(self, remote: Remote, instance: bytes) -> None:
        """A client has gone; its answers are kept for its return."""
        if self._clients.get(instance) is remote:
            del self._clients[instance]

    def knows(self, remote: Remote, instance: bytes, id: int) -> bool:
        """Whether this was asked before. It is answered then, now or when it is done."""
        key = (instance, id)
        if key not in self._all:
            self._all[key] = None
            self._trim()
            return False
        body = self._all[key]
        if body is not None:
            remote.deliver(body)
        return True

    def done(self, remote: Remote, instance: bytes, id: int, body: bytes) -> None:
        """The answer is there: kept, and sent on the client's connection of now."""
        key = (instance, id)
        if key in self._all and self._all[key] is None:
            self._all[key] = body
            self._bytes += len(body)
            self._trim()
        (self._clients.get(instance) or remote).deliver(body)

    def _trim(self) -> None:
        while len(self._all) > self.MOST or self._bytes > self.BYTES:
            body = self._all.pop(next(iter(self._all)))
            self._bytes -= 0 if body is None else len(body)

    def __len__(self) -> int:
        return len(self._all)
