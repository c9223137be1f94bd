"""The workers of one server: who serves which socket, the spare, restarts, reload.

Above process.py, restarts.py and lookout.py; owned by server.py. Runs on the supervisor's
event loop, which does nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..counters import SIZE, WORDS
from ..errors import ToolipsError, WorkerError
from ..journal import Journal
from ..servers import control
from . import memory, restarts
from .lookout import Lookout
from .orders import Orders
from .process import Process

BOOT = 60.0
"""Seconds that a worker gets to import and check the module."""
HANDOVER = 10.0
LOOK = 0.1
RETRY = 10.0
"""Seconds until a spare is tried again, after a module that could not be loaded."""


class Group:
    """N workers, one per socket, and a spare."""

    def __init__(
        self,
        size: int,
        make: Callable[[], Process],
        journal: Journal,
        *,
        drain: float,
        max_age: float | None = None,
        max_rss: float | None = None,
        quarantine: bool = True,
        give_up: Callable[[], None],
    ) -> None:
        self.size = size
        self.active: list[Process | None] = [None] * size
        self.spare: Process | None = None
        self.restarts = 0
        self.refused_calls: Counter[str] = Counter()
        """System calls that hardened workers were refused, by name."""
        self.generation = 1
        self.orders = Orders()
        self.on_duty: Process | None = None
        """The worker that does what only one of them does."""
        self._make_process = make
        self._journal = journal
        self._drain = drain
        self._lookout = Lookout(self.active, self._say, max_age, max_rss)
        self._give_up = give_up
        self._quarantine = restarts.Quarantine() if quarantine else None
        self._crash_loop = restarts.CrashLoop()
        self._past = [0] * SIZE
        self._all: set[Process] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._busy = asyncio.Lock()
        self._closing = False
        self._no_spare = ""

    @property
    def beating(self) -> bool:
        """Every worker gave a sign of life of late."""
        return self._lookout.beating

    # ---- processes ----

    def _make(self) -> Process:
        process = self._make_process()
        process.watch(asyncio.get_running_loop(), self._ended, self._refused, self._asks)
        self._all.add(process)
        self._lookout.begin(process)
        return process

    def _refused(self, process: Process, name: str) -> None:
        self.refused_calls[name] += 1
        who = f"worker {process.index + 1}" if process.index >= 0 else "a spare worker"
        text = f"{who} (pid {process.pid}) was refused the system call {name}: harden=True does not list it"
        self._journal.event(f"refused {name}", logging.WARNING, text, None)

    async def start(self) -> None:
        """The first generation: all serve when this returns. Raises what the module's start raises."""
        made = [self._make() for _ in range(self.size)]
        try:
            for process in made:
                await process.hear("ready", BOOT)
            for index, process in enumerate(made):
                self._place(index, process)
            for process in made:
                await process.hear("serving", BOOT)
        except BaseException:
            self._closing = True
            for process in made:
                process.kill()
            for process in made:
                await process.ended.wait()
            raise
        self._give_duty()
        self._spawn(self._make_spare())
        self._spawn(self._look())

    def _place(self, index: int, process: Process, state: bytes | None = None) -> None:
        process.index = index
        process.started = True
        self.active[index] = process
        self.orders.tell(process)
        process.tell({"do": "serve", "index": index, "packets": self._kept_out()}, state)

    def _prepare(self, index: int, process: Process) -> None:
        process.started = True
        self.orders.tell(process)  # while the one before it still serves
        process.tell({"do": "prepare", "index": index, "packets": self._kept_out()})

    async def _make_spare(self) -> None:
        if self._closing or self.spare is not None:
            return
        process = self._make()
        try:
            await process.hear("ready", BOOT)
        except ToolipsError as error:
            if self._closing:
                return
            if str(error) != self._no_spare:
                self._say(logging.ERROR, f"no spare worker: {error}")
            self._no_spare = str(error)
            process.leaving = True
            process.kill()
            self._spawn(self._make_spare_later(RETRY))
            return
        self._no_spare = ""
        if self._closing or self.spare is not None:
            self._dismiss(process)
        else:
            self.spare = process

    def _dismiss(self, process: Process, do: str = "stop") -> None:
        process.leaving = True
        process.deadline = time.monotonic() + self._drain + 1.0
        process.tell({"do": do})

    def _ended(self, process: Process) -> None:
        """A process is gone: keep its counters, and fill its place unless it was told to go."""
        self._all.discard(process)
        self._lookout.forget(process)
        final = memory.without_kernel(process.region.final())
        self._past = [a + b for a, b in zip(self._past, final, strict=True)]
        packet = process.region.datagram()
        for _, parted in control.PARTING.values():
            parted(process)
        if process is self.spare:
            self.spare = None
            if not self._closing:
                self._say(logging.WARNING, f"the spare worker {process.pid} ended: {process.how}")
                self._spawn(self._make_spare_later())
        elif process.index >= 0 and self.active[process.index] is process and not process.leaving:
            self.active[process.index] = None
            if not self._closing:
                lost = final[WORDS.index("worker_lost")]
                text = f"worker {process.index + 1} (pid {process.pid}) ended: {process.how}; {lost} packets were in it"
                self._say(logging.ERROR, text)
                self._suspect(packet, process)
                self._spawn(self._replace(process.index))
        process.close()
        self._give_duty()

    # ---- what workers do for one another ----

    def _give_duty(self) -> None:
        """The first worker that serves and stays has the duty, when nobody has it."""
        fit = [p for p in self.active if p is not None and p.status is None and not p.leaving]
        if self._closing or not fit or self.on_duty in fit:
            return
        self.on_duty = fit[0]
        fit[0].tell({"do": "duty"})

    def _asks(self, process: Process, message: dict[str, Any], content: bytes | None) -> None:
        others = [each for each in self.active if each is not None and each is not process]
        name, arguments = message["name"], message["arguments"]
        if message["order"]:
            self.orders.keep(message["order"], name, arguments, content, known=(process, *others))
        asked = [each.ask(name, arguments, message["timeout"], content) for each in others]
        self._spawn(self._answer(process, message["number"], asked))

    async def _answer(self, process: Process, number: int, asked: list[Any]) -> None:
        found = await asyncio.gather(*asked, return_exceptions=True)
        answers = [each for each in found if not isinstance(each, BaseException)]
        process.tell({"do": "answers", "number": number}, json.dumps(answers).encode())

    def _suspect(self, packet: bytes | None, process: Process) -> None:
        if self._quarantine is None or process.status is None:
            return
        now = time.monotonic()
        if self._quarantine.died(packet, process.status, now) and packet is not None:
            text = f"a packet of {len(packet)} bytes killed two workers and is refused for {restarts.KEPT_OUT:g} s: "
            self._say(logging.ERROR, text + packet[:64].hex())
            for each in self._all:
                each.tell({"do": "keep_out", "packets": self._kept_out()})

    def _kept_out(self) -> list[bytes]:
        return [] if self._quarantine is None else self._quarantine.packets(time.monotonic())

    async def _make_spare_later(self, pause: float = 1.0) -> None:
        await asyncio.sleep(pause)
        await self._make_spare()

    async def _replace(self, index: int) -> None:
        """Fill the place of a dead worker: from the spare at once, else from a new process."""
        self.restarts += 1
        pause = self._crash_loop.died(time.monotonic())
        if pause is None:
            text = f"workers have kept dying for {restarts.GIVE_UP:g} s; the server stops"
            self._say(logging.CRITICAL, text)
            self._give_up()
            return
        if pause:
            self._say(logging.WARNING, f"workers die again and again: worker {index + 1} waits {pause:g} s")
            await asyncio.sleep(pause)
        if self._closing or self.active[index] is not None:
            return
        process, self.spare = self.spare, None
        try:
            if process is None:
                process = self._make()
                await process.hear("ready", BOOT)
            if self._closing:
                self._dismiss(process)
                return
            self._place(index, process)
            await process.hear("serving", BOOT)
            self._give_duty()
        except ToolipsError as error:
            self._say(logging.ERROR, f"worker {index + 1} could not start: {error}")
            if process is not None and process.status is None:
                process.index = index
                self.active[index] = process
                process.kill()  # its end comes back here, with a pause
            elif self.active[index] is None and not self._closing:
                self._spawn(self._replace(index))
            return
        await self._make_spare()

    # ---- reload and renewal ----

    async def reload(self) -> list[str]:
        """Serve a new generation. Raises `StartError`, and nothing has changed; else what could not be carried."""
        async with self._busy:
            if self._closing:
                raise WorkerError("the server stops, so it is not reloaded")
            fresh = [self._make() for _ in range(self.size)]
            try:
                for process in fresh:
                    await process.hear("ready", BOOT)
                for index, process in enumerate(fresh):
                    self._prepare(index, process)
                for process in fresh:
                    await process.hear("prepared", BOOT)
            except BaseException:
                for process in fresh:
                    process.leaving = True
                    process.kill()
                raise
            lost: list[str] = []
            for index, process in enumerate(fresh):
                lost += await self._hand_over(index, process)
            self.generation += 1
            self._give_duty()
            self.fresh_spare()
            return lost

    def fresh_spare(self) -> None:
        """Another spare for the one that has read what is old now."""
        old_spare, self.spare = self.spare, None
        if old_spare is not None:
            self._dismiss(old_spare)
        self._spawn(self._make_spare())

    async def _renew(self, index: int, why: str) -> None:
        """Replace one worker by a fresh one, with its state."""
        async with self._busy:
            process = self._make()
            try:
                await process.hear("ready", BOOT)
                self._prepare(index, process)
                await process.hear("prepared", BOOT)
            except ToolipsError as error:
                process.leaving = True
                process.kill()
                self._say(
                    logging.ERROR, f"worker {index + 1} is {why}, but a fresh one could not start: {error}"
                )
                return
            old = self.active[index]
            self._say(
                logging.INFO,
                f"worker {index + 1} (pid {old.pid if old else 0}) is {why}: a fresh one takes over",
            )
            await self._hand_over(index, process)
            self._give_duty()

    async def _hand_over(self, index: int, fresh: Process) -> list[str]:
        """The old worker stops reading and exports; the fresh one restores and reads."""
        old, state, lost = self.active[index], None, []
        if old is not None and old.status is None:
            old.leaving = True
            old.tell({"do": "export"})
            try:
                message, state = await old.hear("state", HANDOVER + self._drain)
                lost = message["lost"]
            except ToolipsError as error:
                self._say(logging.ERROR, f"worker {index + 1} gave no state to its successor: {error}")
        self._place(index, fresh, state)
        if old is not None and old.status is None:
            self._dismiss(old, "finish")
        await fresh.hear("serving", HANDOVER)
        return [f"worker {index + 1}: {each}" for each in lost]

    # ---- looking after them ----

    async def _look(self) -> None:
        while not self._closing:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            self._lookout.look_for_hangs(now)
            for process in list(self._all):
                if process.deadline is not None and now > process.deadline:
                    process.kill()
            if not self._busy.locked() and (found := self._lookout.worn_out(now)) is not None:
                self._spawn(self._renew(*found))

    # ---- counting ----

    def counters(self, kernel: int) -> list[int]:
        """Every counter over all processes that ever were; `kernel` is what the sockets tell."""
        found = list(self._past)
        for process in self._all:
            live = memory.without_kernel(process.region.counters())
            found = [a + b for a, b in zip(found, live, strict=True)]
        return memory.with_kernel(found, kernel)

    # ---- the end ----

    async def stop(self) -> int:
        """Drain and end all. 0, or 1 when somebody had to be killed or a queue was left."""
        self._closing = True
        for process in list(self._all):
            if not process.started and process is not self.spare:
                process.leaving = True
                process.kill()  # it still boots: nothing of it has begun, and who waits for it is told
        await self._let_a_hand_over_end()
        for task in list(self._tasks):
            task.cancel()
        served = [process for process in self._all if process.started]
        for process in served:
            self._dismiss(process)
        code = 0
        orphans = [index for index, process in enumerate(self.active) if process is None]
        for process in served:
            killed = await self._see_off(process)
            died = process.status is not None and process.status < 0 and not killed
            if died and process.index >= 0 and self.active[process.index] is process:
                orphans.append(process.index)
            elif killed or (process.index >= 0 and process.status != 0):
                code = 1
        for index in orphans:
            code |= await self._drain_orphan(index)
        for process in list(self._all):  # the spare, if nobody needed it, and what still ends
            process.leaving = True
            process.kill()
            await process.ended.wait()
        return code

    async def _let_a_hand_over_end(self) -> None:
        """Between two workers nobody reads a socket: what is queued in it would be left."""
        try:
            async with asyncio.timeout(self._drain), self._busy:
                pass
        except TimeoutError:
            self._say(logging.ERROR, "a reload did not end within the drain time; it is broken off")

    async def _see_off(self, process: Process) -> bool:
        """Wait for its end. True when it was late and had to be killed."""
        try:
            async with asyncio.timeout(max(0.0, (process.deadline or 0) - time.monotonic())):
                await process.ended.wait()
            return False
        except TimeoutError:
            self._say(logging.ERROR, f"worker process {process.pid} did not end in time and is killed")
            process.kill()
            await process.ended.wait()
            return True

    async def _drain_orphan(self, index: int) -> int:
        """A worker died while the server stopped: another process answers what is queued for it."""
        process, self.spare = self.spare, None
        try:
            if process is None:
                process = self._make()
                await process.hear("ready", self._drain)
            self._place(index, process)
            await process.hear("serving", self._drain)
        except ToolipsError as error:
            self._say(logging.ERROR, f"nobody answers what was queued for worker {index + 1}: {error}")
            return 1
        self._dismiss(process)
        await self._see_off(process)
        return int(process.status != 0)

    def _spawn(self, coro: Any) -> None:
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._journal.say(logging.ERROR, f"the supervisor failed: {error}", None, error)

    def _say(self, level: int, text: str) -> None:
        self._journal.say(level, text)
