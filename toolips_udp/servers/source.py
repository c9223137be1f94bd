"""What a worker must import to serve the same module: said as text, never pickled.

Imports errors and manifest. A module travels as its name or its path; a function
given as a setting as `module:name`.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from .. import manifest
from ..errors import StartError

importing = False
"""True while a worker imports the user's module: nothing can be started from it."""


def describe(module: Any) -> dict[str, Any]:
    """How a fresh interpreter finds `module`. A bare object is a `StartError` with the fix."""
    if not isinstance(module, ModuleType):
        raise StartError(
            f"workers import what they serve, and {manifest.name_of(module)} is an object, not a module. "
            "Fix: put the handlers into a .py file and pass its name or path, or use workers=1",
            code="not-importable",
        )
    found: dict[str, Any] = {"sys_path": [p or os.getcwd() for p in sys.path], "argv": list(sys.argv)}
    if module.__name__ == "__main__":
        from multiprocessing import spawn  # costs a start 10 ms, and most never come here

        data = spawn.get_preparation_data("toolips_udp")
        main = {key: value for key, value in data.items() if key.startswith("init_main") and value}
        if not main:
            raise StartError(
                "workers import what they serve, and this module was typed in or comes from a pipe. "
                "Fix: put it into a .py file, or use workers=1",
                code="not-importable",
            )
        return {**found, "main": main}
    spec = getattr(module, "__spec__", None)
    path = getattr(module, "__file__", None)
    by_name = spec is not None and importlib.util.find_spec(module.__name__.partition(".")[0]) is not None
    if by_name and not module.__name__.startswith("_served_") and _same(module.__name__, path):
        return {**found, "name": module.__name__}
    if path:
        return {**found, "path": os.path.abspath(path)}
    raise StartError(
        f"workers cannot find {module.__name__}: it has neither a file nor an importable name",
        code="not-importable",
    )


def _same(name: str, path: str | None) -> bool:
    """Whether importing `name` afresh would find the same file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and (path is None or spec.origin == path)


def load(source: dict[str, Any]) -> ModuleType:
    """Import what `describe` told, in a fresh interpreter."""
    global importing
    sys.path[:] = source["sys_path"]
    sys.argv[:] = source["argv"]
    importing = True
    try:
        if "main" in source:
            from multiprocessing import spawn

            spawn.prepare(source["main"])
            return sys.modules["__main__"]
        if "path" in source:
            return manifest.find(source["path"])  # type: ignore[no-any-return]
        return manifest.import_fresh(source["name"])
    finally:
        importing = False


def name_function(setting: str, fn: Any) -> str:
    """`module:name` of a function given as a setting; `StartError` when a worker could not find it."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "<")
    if not module or "<" in name:
        raise StartError(
            f"{setting}= is {fn!r}, which workers cannot import. Fix: a function at the top level of a module",
            code="not-importable",
        )
    return f"{module}:{name}"


def find_function(name: str) -> Any:
    """The function that `name_function` named."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found
