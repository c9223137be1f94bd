"""Which route answers a path of HTTP mode. Needs the extra `http`.

Folded once at start: exact paths in a dict, paths with parameters in order of
definition, then mounted folders. Imports handlers and extensions; called by
`servers/http.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from starlette.routing import compile_path

from ..errors import StartError
from ..extensions.mount import Mount
from ..handlers import Route, default_404

Params = dict[str, Any]
WEBSOCKET = "WEBSOCKET"


class Router:
    """The routes of a module, ready to be asked."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, list[Route]] = {}
        self._patterns: list[tuple[Any, dict[str, Any], Route]] = []
        self._folders: list[tuple[str, Mount]] = []
        self.pages: dict[int, Route] = {404: default_404}
        for route in routes:
            if WEBSOCKET in (route.methods or ()) and not route.is_async:
                raise StartError(
                    f"the route {route.path!r} serves WebSockets, but is a plain def. Fix: make it async def",
                    code="wrong-signature",
                )
            if isinstance(route, Mount):
                route.check()
                if route.folder:
                    self._folders.append((route.path.rstrip("/") + "/", route))
                self._exact.setdefault(route.path.rstrip("/") or "/", []).append(route)
            elif route.path.isdigit():
                self.pages[int(route.path)] = route
            elif "{" in route.path:
                try:
                    pattern, _, convertors = compile_path(route.path)
                    if not route.path.count("{") == route.path.count("}") == len(convertors):
                        raise ValueError(
                            "its braces do not match. Expected for example /user/{name} or /page/{n:int}"
                        )
                except (AssertionError, ValueError) as error:
                    raise StartError(
                        f"the path {route.path!r} of a route cannot be read: {error}", code="bad-path"
                    ) from None
                self._patterns.append((pattern, convertors, route))
            else:
                self._exact.setdefault(route.path, []).append(route)

    def candidates(self, path: str) -> Iterator[tuple[Route, Params]]:
        """The routes that this path means, the most exact first."""
        for route in self._exact.get(path, ()):
            yield route, {}
        for pattern, convertors, route in self._patterns:
            found = pattern.match(path)
            if found is not None:
                yield (
                    route,
                    {name: convertors[name].convert(text) for name, text in found.groupdict().items()},
                )
        for prefix, mount in self._folders:
            if path.startswith(prefix):
                yield mount, {"file": path[len(prefix) :]}

    def choose(self, c: Any) -> tuple[Route | None, list[str]]:
        """The route that answers this request, with `c.params` set.

        Without one: None, and the methods that the path would answer (none of
        them: the path is unknown).
        """
        allowed: list[str] = []
        method = c.method
        for route, params in self.candidates(c.path):
            if not _takes(route, method):
                allowed += route.methods or ()
                continue
            c.params = params
            if route.when is None or route.when(c):
                return route, []
        c.params = {}
        return None, sorted({m for m in allowed if m != WEBSOCKET})


def _takes(route: Route, method: str) -> bool:
    if method == WEBSOCKET:
        return WEBSOCKET in (route.methods or ())
    return route.methods is None or method in route.methods or (method == "HEAD" and "GET" in route.methods)
