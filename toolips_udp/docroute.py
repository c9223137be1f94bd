"""make_docroute: what a module serves, and what its docstrings say, as a page of HTTP mode.

Reads the module as `start` does, without starting it. Above manifest.
"""

from __future__ import annotations

import html
import inspect
from typing import Any

from .extensions.base import Extension, title
from .extensions.mount import Mount
from .handlers import Route, UDPHandler, default_404
from .manifest import Manifest, exports, find, name_of, read

STYLE = (
    "body{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}pre{white-space:pre-wrap}"
)


class Html(str):
    """Markup that is complete: written to a page as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def make_docroute(module: Any, path: str = "/docs") -> Route:
    """A route that documents `module`: its extensions, handlers and routes in order, with their docstrings.

    The module may be the one that exports the route: it is read when the page is
    asked for the first time.

    >>> docs = make_docroute(__name__)
    """
    page: list[Html] = []

    def documentation(c: Any) -> None:
        """This page."""
        if not page:
            page.append(page_of(module))
        c.write(page[0])

    return Route(path, documentation, methods=("GET", "HEAD"))


def page_of(module: Any) -> Html:
    """The whole page."""
    found = find(module)
    manifest = read(found)
    name = html.escape(name_of(found))
    parts = [f"<!doctype html><html><head><title>{name}</title><style>{STYLE}</style></head><body>"]
    parts += [f"<h1>{name}</h1>", _text(inspect.getdoc(found) if inspect.ismodule(found) else None)]
    for heading, entries in (
        ("Extensions", [e for e in _in_order(manifest, found) if isinstance(e, Extension)]),
        ("Handlers", [h for h in _in_order(manifest, found) if isinstance(h, UDPHandler)]),
        ("Routes", manifest.routes),
    ):
        if entries:
            parts.append(f"<h2>{heading}</h2>")
            parts += [_entry(manifest, each) for each in entries]
    return Html("".join([*parts, "</body></html>"]))


def _in_order(manifest: Manifest, module: Any) -> list[Any]:
    """Every export once, in the order in which it is listed."""
    seen: dict[int, Any] = {}
    for _, value in exports(module):
        if isinstance(value, Extension | UDPHandler):
            seen.setdefault(id(value), value)
    return list(seen.values())


def _entry(manifest: Manifest, each: Any) -> str:
    name = manifest.called(each)
    if isinstance(each, Route):
        methods = "any method" if each.methods is None else ", ".join(each.methods)
        what = f"{each.path} ({methods})"
        note = f"The file or folder {each.source.name}." if isinstance(each, Mount) else _doc(each.fn)
        note = "The page for what no route answers." if each is default_404 else note
    elif isinstance(each, UDPHandler):
        what = f"{name}: {'main handler' if each.name is None else f'handler {each.name!r}'}, {each.kind}"
        note = _doc(each.fn)
    else:
        what = f"{name}: {title(each)}"
        note = inspect.getdoc(type(each))
    return f"<h3><code>{html.escape(what)}</code></h3>{_text(note)}"


def _doc(fn: Any) -> str | None:
    return inspect.getdoc(fn)


def _text(text: str | None) -> str:
    return f"<pre>{html.escape(text)}</pre>" if text else ""
