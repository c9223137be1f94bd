"""The workers of one server: its ProcessManager, and the pool that handlers run in.

Above jobs and runners, called by base.py and udp.py. Worker 1 is the main loop;
2, 3, ... are threads or processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import JobError, StartError, WorkerError
from ..jobs import Job, ProcessManager, Worker
from ..jobs.process import Talk
from . import plain, source

if TYPE_CHECKING:
    from ..runners.threads import PacketJob
    from .base import Server

SERVE = "toolips_udp.servers.remote:serve_packet"


def bare_manager(loop: asyncio.AbstractEventLoop) -> ProcessManager:
    """A manager whose only worker is the main loop, number 1."""
    manager = ProcessManager(loop=loop)
    main = Worker(kind="async")
    main.main = True
    manager.push(main)
    return manager


async def make_manager(
    server: Server, loop: asyncio.AbstractEventLoop, size: int
) -> tuple[ProcessManager, ThreadPool]:
    """The manager of a server and its pool of `size` workers for handlers."""
    kind = server.settings.kind
    served = source.describe(server.module) if kind == "process" else None
    manager = bare_manager(loop)
    try:
        workers = manager.add_workers(size, kind)
        if served is None:
            return manager, ThreadPool(workers)
        await _load_everywhere(manager, workers, served, 0)
        return manager, ProcessPool(workers, server, manager, served)
    except BaseException:
        manager.close()
        raise


async def _load_everywhere(
    manager: ProcessManager, workers: Sequence[Worker], served: dict[str, Any], generation: int
) -> None:
    from .remote import load_served

    manager.everywhere(Job(load_served, (served, generation)))
    # each child works on its jobs in order: an empty one tells that the module is loaded
    for future in manager.distribute(*[Job(_loaded)] * len(workers), workers=[w.id for w in workers]):
        try:
            await future
        except (JobError, WorkerError) as error:
            raise StartError(
                f"a process worker could not load the module: {error}", code="worker-not-started"
            ) from error


def _loaded() -> None:
    """Raises unless `load_served` went well in this process."""
    from . import remote

    remote.check_loaded()


class ThreadPool:
    """Handlers in the thread workers of a manager."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = {w.id: w for w in workers}

    def submit(self, job: PacketJob, number: int | None = None) -> None:
        """Queue a packet's job: for worker `number`, else for the least busy. Full: `WorkerError`."""
        worker = self._choose(number)
        job.future = worker.submit(Job(job.run, (worker.id,)), keep=False)

    def expire(self, job: PacketJob) -> str:
        """A packet is late: "waiting", it never begins; "running", its thread or process is given up; "done"."""
        assert job.future is not None
        return self._workers[job.future.worker].expire(job.future)

    async def reload(self) -> None:
        """Threads see the new module by themselves."""

    def _choose(self, number: int | None) -> Worker:
        if number is not None and number in self._workers:
            return self._workers[number]
        return min(self._workers.values(), key=lambda w: w.waiting)


class ProcessPool(ThreadPool):
    """Handlers in process workers: packets and effects travel as msgpack, never pickled."""

    def __init__(
        self, workers: Sequence[Worker], server: Server, manager: ProcessManager, served: dict[str, Any]
    ) -> None:
        super().__init__(workers)
        self._server = server
        self._manager = manager
        self._served = served
        self._generation = 0

    async def reload(self) -> None:
        """Load the module anew in every child; the first that cannot raises `StartError`."""
        self._generation += 1
        await _load_everywhere(self._manager, list(self._workers.values()), self._served, self._generation)

    def submit(self, job: PacketJob, number: int | None = None) -> None:
        """Queue a packet's job: for worker `number`, else for the least busy."""
        worker, c = self._choose(number), job.c
        packet = plain.encode(
            (job.handler.name, c.packet, c.address, c.now, c.max_reply, worker.id, self._server.address)
        )
        talk = Talk(SERVE, packet, lambda said: self._heard(job, said), lambda asked: self._asked(job, asked))
        job.future = future = worker.submit(talk, keep=False)
        future.add_done_callback(lambda done: self._ended(job, done))

    def _heard(self, job: PacketJob, said: bytes) -> None:
        """An effect of the handler: it happens on the loop, after those before it."""
        verb, *arguments = plain.decode(said)
        job.runner.effect(job, getattr(self, f"_{verb}"), job.c, *arguments)

    def _asked(self, job: PacketJob, asked: bytes) -> bytes:
        """A question of the handler, answered on the loop, after the effects before it."""
        verb, *arguments = plain.decode(asked)
        try:
            return plain.encode(
                (True, self._server.on_loop(lambda: getattr(self, f"_{verb}")(job.c, *arguments)))
            )
        except (KeyError, TypeError, ValueError, LookupError) as error:
            return plain.encode((False, f"{error.args[0] if error.args else error}"))

    def _ended(self, job: PacketJob, future: Any) -> None:
        error = None if future.cancelled() else future.exception()
        if error is None:
            word = "stopping" if future.cancelled() else future.result().decode()
        elif isinstance(error, WorkerError):
            word = "worker_lost"
        else:
            word = "handler_failed"
        told = (error.__cause__ or error) if isinstance(error, JobError) else error
        if isinstance(error, JobError) and told is not None and error.remote_traceback:
            told.add_note(f"Traceback in the worker:\n{error.remote_traceback}")
        job.runner.effect(None, job.runner.ended, job, word, told)

    # what a handler may do, by name; only these

    def _respond(self, c: Any, data: bytes) -> None:
        c.respond(data)

    def _send(self, c: Any, data: bytes, to: Any) -> None:
        c.send(data, to)

    def _set_handler(self, c: Any, name: str, client: Any) -> None:
        c.set_handler(name, client)

    def _remove_handler(self, c: Any, client: Any) -> None:
        c.remove_handler(client)

    def _log(self, c: Any, message: str, level: Any) -> None:
        self._server.log(message, level, peer=c.address)

    def _broadcast(self, c: Any, data: bytes, to: Any, exclude: Any) -> int:
        return self._server.broadcast(data, to, exclude)

    def _set(self, c: Any, which: str, key: Any, value: Any) -> None:
        self._mapping(c, which)[key] = value

    def _delete(self, c: Any, which: str, key: Any) -> None:
        self._mapping(c, which).pop(key, None)

    def _get(self, c: Any, which: str, key: Any) -> tuple[bool, Any]:
        mapping = self._mapping(c, which)
        return (True, mapping[key]) if key in mapping else (False, None)

    def _keys(self, c: Any, which: str) -> list[Any]:
        return list(self._mapping(c, which))

    def _mapping(self, c: Any, which: str) -> dict[Any, Any]:
        found: dict[Any, Any] = c.session if which == "session" else self._server.data
        return found
