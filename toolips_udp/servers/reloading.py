"""Reload in place: the module anew, in the same process, on the same socket. Below base.py.

For `workers=1`. The new module is loaded, checked and started beside the old one;
on any error the old one serves on. Then the endpoint swaps pipelines between two
turns: nothing is read twice or lost, sessions and positions stay, extensions hand
over by `export` and `restore`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .. import manifest as manifests
from ..errors import StartError
from ..extensions.base import hook
from . import further, plain, source

if TYPE_CHECKING:
    from ..extensions.base import Extension
    from ..journal import Journal
    from ..manifest import Manifest
    from .base import Server


class Reloading:
    """The part of `Server` that loads its module anew."""

    if TYPE_CHECKING:
        loop: asyncio.AbstractEventLoop | None
        journal: Journal
        manifest: Manifest

        @property
        def running(self) -> bool: ...

        _thread_id: int | None
        _reloading: asyncio.Lock

    def reload(self) -> list[str]:
        """Load the module anew and serve it, on the same socket, without losing a datagram.

        Sessions, the positions of `MultiHandler` and what extensions `export` are carried over; returns
        what could not be. What the new module raises while it is loaded or started is raised here, and
        the old one serves on. Blocks; on the server's own loop: `await server.reload_async()`.
        """
        if self.loop is None or not self.running:
            raise StartError(f"{self!r} does not run, so there is nothing to reload", code="not-running")
        if threading.get_ident() == self._thread_id:
            raise RuntimeError(
                "server.reload() on the server's own loop would never return. Fix: await server.reload_async()"
            )
        return asyncio.run_coroutine_threadsafe(self.reload_async(), self.loop).result()

    async def reload_async(self) -> list[str]:
        """`reload`, on the server's own loop."""
        async with self._reloading:
            try:
                lost = await self._reload()
            except Exception as error:
                self.journal.say(logging.ERROR, f"the reload failed, the old module serves on: {error}")
                raise
        left = f"; not carried over: {', '.join(lost)}" if lost else ""
        self.journal.say(logging.INFO, f"{self.manifest.name} was reloaded{left}")
        return lost

    async def _reload(self) -> list[str]:
        return await reload_in_place(self)  # type: ignore[arg-type]


def load_again(module: Any) -> Manifest:
    """The module read anew from its file; `sys.modules` has it only when that went well."""
    if not isinstance(module, ModuleType):
        raise StartError(
            f"{manifests.name_of(module)} is an object, not a module, so there is no file to load it from again. "
            "Fix: put the handlers into a .py file, or start anew",
            code="not-reloadable",
        )
    path = getattr(module, "__file__", None)
    if path is None:
        raise StartError(f"{module.__name__} has no file to load it from again", code="not-reloadable")
    is_main = module.__name__ == "__main__"
    name = "__mp_main__" if is_main else module.__name__
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=getattr(module, "__path__", None)
    )
    if spec is None or spec.loader is None:
        raise StartError(f"{path} cannot be loaded again: it is not Python source", code="not-reloadable")
    fresh = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = fresh
    source.importing = True
    try:
        manifests.Fresh(name, path).exec_module(fresh)
        found = manifests.read(fresh)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    finally:
        source.importing = False
    found.name = manifests.name_of(module)
    return found


async def reload_in_place(server: Server) -> list[str]:
    """Serve the module anew. What could not be carried over; raises what the new module's start raises."""
    old = server.manifest
    own = [each for e in old.extensions if callable(each := getattr(e, "reload", None))]
    swaps = all(mode.swaps for mode in server.modes)
    if own and not (swaps and isinstance(server.module, ModuleType)):
        return await _reload_data(own)
    for mode in server.modes:
        if not mode.swaps:
            raise StartError(
                f"{mode.mode} mode cannot be reloaded in place. Fix: workers=2 or more, or start anew",
                code="not-reloadable",
            )
    fresh = load_again(server.module)
    started: list[Extension] = []
    try:
        _check_kinds(server, fresh)
        further.check_same(further.names(further.brought(old)), fresh)
        if server.pool is not None:
            await server.pool.reload()
        for extension in fresh.extensions:
            begin = hook(extension, "on_start")
            if begin is not None:
                await _maybe(begin(server))
            started.append(extension)
    except BaseException:
        sys.modules[fresh.module.__name__] = old.module
        await _stop(server, fresh, started)
        raise
    with _halted(server, old):
        await settle(old.extensions, server.settings.drain)
        carried, lost = _export(server, old)
        _restore(server, fresh, plain.decode(carried))
        server.become(fresh)
    await _stop(server, old, old.extensions)
    return lost


async def _reload_data(reloads: list[Callable[[], Any]]) -> list[str]:
    """The code stays; extensions read their files again, outside the loop. Each returns what was wrong, by name."""
    loop = asyncio.get_running_loop()
    wrong: dict[str, str] = {}
    for again in reloads:
        wrong |= await loop.run_in_executor(None, again) or {}
    if wrong:
        raise StartError("; ".join(f"{name}: {text}" for name, text in wrong.items()), code="reload-failed")
    return []


async def settle(extensions: Iterable[Extension], seconds: float) -> None:
    """Let houses end what works on the state that they are about to export, all of them within `seconds`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    for extension in extensions:
        end = hook(extension, "settle")
        if end is not None:
            await end(max(0.0, until - loop.time()))


@contextlib.contextmanager
def _halted(server: Server, old: Manifest) -> Iterator[None]:
    """Read nothing while houses settle; the kernel keeps what comes. Without a house nothing waits."""
    waiting = any(hook(extension, "settle") is not None for extension in old.extensions)
    endpoints = [mode.endpoint for mode in server.modes if waiting and mode.endpoint is not None]
    for endpoint in endpoints:
        endpoint.detach()
    try:
        yield
    finally:
        for endpoint in endpoints:
            endpoint.attach(asyncio.get_running_loop())


def _check_kinds(server: Server, fresh: Manifest) -> None:
    threaded = [h for h in [fresh.main, *fresh.handlers.values()] if h is not None and h.kind == "threaded"]
    if threaded and server.pool is None:
        raise StartError(
            f"handler {fresh.called(threaded[0])} ({threaded[0].place}) is threaded, but this server was started "
            "without a pool. Fix: start with threads=2 or more",
            code="no-threads",
        )


def _export(server: Server, old: Manifest) -> tuple[bytes, list[str]]:
    state: dict[str, Any] = {}
    for extension in old.extensions:
        export = hook(extension, "export")
        if export is not None:
            name = old.called(extension)
            try:
                state[name] = export()
            except Exception as error:
                server.journal.say(
                    logging.ERROR, f"export of {name} raised {type(error).__name__}", None, error
                )
    return plain.pack(state)


def _restore(server: Server, fresh: Manifest, carried: dict[str, Any]) -> None:
    for extension in fresh.extensions:
        restore, name = hook(extension, "restore"), fresh.called(extension)
        if restore is not None and name in carried:
            try:
                restore(carried[name])
            except Exception as error:
                text = f"restore of {name} raised {type(error).__name__}; it begins without its state"
                server.journal.say(logging.ERROR, text, None, error)


async def _stop(server: Server, manifest: Manifest, extensions: list[Extension]) -> None:
    for extension in reversed(extensions):
        end = hook(extension, "on_stop")
        if end is not None:
            try:
                await _maybe(end(server))
            except Exception as error:
                text = f"on_stop of {manifest.called(extension)} raised {type(error).__name__}"
                server.journal.say(logging.ERROR, text, None, error)


async def _maybe(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
