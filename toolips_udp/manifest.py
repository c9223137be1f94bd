"""Reads a module: its handlers, extensions and routes, in order. Below servers and starting.

Nothing is ever written into the module. Everything that is wrong with it is a
`StartError` that says what was found.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import StartError, ToolipsError, suggestion
from .extensions.base import Extension, hook, title
from .extensions.multi import MultiHandler
from .extensions.quick import QuickExtension
from .handlers import Route, UDPHandler


@dataclass
class Manifest:
    """What a module exports, in the order of its `__all__`, else of definition."""

    module: Any
    name: str
    main: UDPHandler | None = None
    handlers: dict[str, UDPHandler] = field(default_factory=dict)
    extensions: list[Extension] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    chooser: MultiHandler | None = None
    names: dict[int, str] = field(default_factory=dict)  # id of an export -> its attribute

    @property
    def answers(self) -> bool:
        """Whether an extension answers by itself."""
        return any(extension.answers for extension in self.extensions)

    def called(self, export: object) -> str:
        """The attribute under which the module has this export."""
        return self.names.get(id(export), repr(export))


def find(module: Any) -> Any:
    """The module meant: itself, by dotted name, by path of a .py file, `"__main__"`, or any object."""
    if not isinstance(module, str | Path):
        if module is None:
            raise StartError(
                "start needs a module to serve, found None. Fix: in a script pass __name__",
                code="no-such-module",
            )
        return module
    text = str(module)
    if text in sys.modules:
        return sys.modules[text]
    if text.endswith(".py") or "/" in text or text in (".", "..") or isinstance(module, Path):
        return _from_path(Path(text))
    if not all(part.isidentifier() for part in text.split(".")):
        raise StartError(
            f"{text!r} is neither a dotted module name nor the path of a .py file. Fix: in a script pass __name__",
            code="no-such-module",
        )
    try:
        found = importlib.import_module(text)
    except ToolipsError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (text == missing or text.startswith(missing + ".")):
            raise StartError(
                f"there is no module {text!r}: {error}. Fix: check the name, or give the path of its .py file",
                code="no-such-module",
            ) from None
        raise _broken(text, error) from error
    if getattr(found, "__file__", None) is None and hasattr(found, "__path__"):  # a namespace package
        raise _folder(Path(next(iter(found.__path__))))
    return found


def _folder(path: Path) -> StartError:
    """What to say of a folder where a module was expected: which of its files could be meant."""
    have = sorted(file.name for file in path.glob("*.py") if file.name != "__init__.py")
    return StartError(
        f"{str(path)!r} is a folder, and what is served is a module. Found in it: {', '.join(have) or 'no .py file'}. "
        "Fix: give the path of a .py file, or go into the folder and give a module's name",
        code="no-such-module",
    )


def _broken(name: str, error: Exception) -> StartError:
    """What to say of a module that raises while it is loaded: where, in the user's own file."""
    if isinstance(error, SyntaxError) and error.filename:
        place, what = f"{error.filename}:{error.lineno}", f"SyntaxError: {error.msg}"
    else:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename != __file__ and "importlib" not in frame.filename
        ]
        place = f"{frames[0].filename}:{frames[0].lineno}" if frames else name
        what = f"{type(error).__name__}: {error}"
    return StartError(
        f"{name} cannot be loaded: {place} raised {what}. Fix: mend that line",
        code="broken-module",
    )


class Fresh(SourceFileLoader):
    """Loads the file's text of this moment: a compiled cache may be as old as the last second."""

    def get_code(self, fullname: str) -> Any:
        """The code of the text, never that of a cache."""
        return self.source_to_code(self.get_data(self.path), self.path)


def import_fresh(name: str) -> ModuleType:
    """`importlib.import_module` in a process that has not imported `name`, past its compiled cache."""
    spec = importlib.util.find_spec(name)
    if spec is None or type(spec.loader) is not SourceFileLoader or name in sys.modules:
        return importlib.import_module(name)
    spec.loader = Fresh(name, spec.loader.path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def _from_path(path: Path) -> ModuleType:
    path = path.resolve()
    if path.is_dir():
        raise _folder(path)
    if not path.is_file():
        raise StartError(f"there is no file {str(path)!r} to serve", code="no-such-file")
    for known in list(sys.modules.values()):
        if getattr(known, "__file__", None) == str(path):
            return known
    name = (
        path.stem
        if path.stem.isidentifier() and path.stem not in sys.modules
        else f"_served_{abs(hash(str(path))):x}"
    )
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StartError(
            f"{str(path)!r} is not Python source. Expected the path of a .py file", code="not-python"
        )
    if type(spec.loader) is SourceFileLoader:
        spec.loader = Fresh(name, str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as for a script: it may import its neighbours
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, ToolipsError) or not isinstance(error, Exception):
            raise
        raise _broken(path.name, error) from error
    return module


def name_of(module: Any) -> str:
    """What logs call a module: its dotted name, or the type of a bare object."""
    name = getattr(module, "__name__", None)
    if isinstance(name, str) and name.startswith("_served_"):  # its own name was taken; see `_from_path`
        return Path(module.__file__).stem
    return name if isinstance(name, str) else type(module).__name__


def exports(module: Any) -> Iterator[tuple[str, Any]]:
    """The exported names of a module and their values: by `__all__`, else the public ones, in order."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        for name in listed:
            try:
                yield name, getattr(module, name)
            except AttributeError:
                raise StartError(
                    f"{name_of(module)} lists {name!r} in __all__, but has no such name."
                    f"{suggestion(str(name), vars(module)) if hasattr(module, '__dict__') else ''}"
                    " Fix: define it or take it out of __all__",
                    code="missing-export",
                ) from None
        return
    own = dict(getattr(module, "__dict__", {}))
    if not isinstance(module, ModuleType):
        cls = module if isinstance(module, type) else type(module)
        for base in reversed(cls.__mro__):
            own = {**{n: v for n, v in vars(base).items() if n not in own}, **own}
    for name, value in own.items():
        if not name.startswith("_"):
            yield name, value


def read(module: Any) -> Manifest:
    """Read a module and check it. Raises `StartError`; binds and starts nothing."""
    module = find(module)
    found = Manifest(module, name_of(module))
    mains: list[UDPHandler] = []
    seen: set[int] = set()
    skipped: list[str] = []
    for name, value in exports(module):
        if not isinstance(value, UDPHandler | Extension | Route):
            skipped.append(name)
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        found.names[id(value)] = name
        if isinstance(value, MultiHandler):
            if found.chooser is not None:
                raise StartError(
                    f"{found.name} exports two MultiHandlers: {found.called(found.chooser)} and {name}. "
                    "Expected one. Fix: take one out",
                    code="two-multihandlers",
                )
            found.chooser = value
        elif isinstance(value, Extension):
            found.extensions.append(value)
        elif isinstance(value, Route):
            found.routes.append(value)
        elif value.name is None:
            mains.append(value)
        elif value.name in found.handlers:
            raise StartError(
                f"{found.name} has two handlers called {value.name!r}: "
                f"{found.called(found.handlers[value.name])} ({found.handlers[value.name].place}) and {name} "
                f"({value.place}). Fix: rename one",
                code="same-name",
            )
        else:
            found.handlers[value.name] = value
    _settle_main(found, mains, skipped)
    _check(found)
    return found


def _settle_main(found: Manifest, mains: list[UDPHandler], skipped: list[str]) -> None:
    chooser = found.chooser
    if chooser is not None and chooser.main is not None and all(chooser.main.fn is not m.fn for m in mains):
        found.names[id(chooser.main)] = f"{found.called(chooser)}.main"
        mains = [*mains, chooser.main]
    if len(mains) > 1:
        listed = ", ".join(f"{found.called(m)} ({m.place})" for m in mains)
        raise StartError(
            f"{found.name} has {len(mains)} main handlers: {listed}. Expected one without a name. "
            "Fix: give the others names, as in @handler('second'), or list one in __all__",
            code="two-main-handlers",
        )
    own = [e for e in found.extensions if isinstance(getattr(e, "handler", None), UDPHandler)]
    if own:  # an extension that answers with a handler of its own, as dns.Service does
        if mains or len(own) > 1:
            others = ", ".join([found.called(m) for m in mains] + [found.called(e) for e in own[1:]])
            raise StartError(
                f"{found.name} exports {found.called(own[0])} ({title(own[0])}), which answers every packet, so "
                f"{others} would never run. Fix: serve them on a port of their own",
                code="unreachable-handler",
            )
        found.main = own[0].handler  # type: ignore[attr-defined]
        found.names[id(found.main)] = found.called(own[0])
    elif mains:
        found.main = mains[0]
    elif not found.answers and not found.routes:
        raise StartError(_no_handler(found, skipped), code="no-handler")
    if chooser is None and found.handlers:
        found.chooser = MultiHandler()


def _no_handler(found: Manifest, skipped: list[str]) -> str:
    have = [f"{found.called(e)} ({title(e)})" for e in found.extensions]
    have += [f"{found.called(h)} (handler {name!r})" for name, h in found.handlers.items()]
    have += [name for name in skipped if inspect.isfunction(getattr(found.module, name, None))]
    what = "only named handlers" if found.handlers else "no handler"
    return (
        f"{found.name} exports {what}, so nothing can answer a packet. Found: {', '.join(have) or 'nothing'}. "
        "Decorate a function with @handler, or list it in __all__"
    )


def _check(found: Manifest) -> None:
    for each in ([found.main] if found.main else []) + list(found.handlers.values()):
        try:
            each.read_signature()
        except NameError as error:
            raise StartError(
                f"the typed packet of {found.called(each)} ({each.place}) cannot be resolved: {error}. "
                "Fix: define the type before the handler, at the top level",
                code="bad-packet-type",
            ) from None
    quick: set[str] = set()
    for extension in found.extensions:
        route = hook(extension, "route")
        if route is not None and inspect.iscoroutinefunction(route):
            raise StartError(
                f"the route of {found.called(extension)} ({title(extension)}) is async def, but a packet does not wait "
                "for extensions. Fix: make it a plain def",
                code="async-route",
            )
        if isinstance(extension, QuickExtension):
            if extension.name in quick:
                raise StartError(
                    f"{found.name} has two QuickExtensions called {extension.name!r}. Fix: rename one",
                    code="same-name",
                )
            quick.add(extension.name)
