"""Handlers and routes: the decorators that turn a function into something a server serves.

Above connections, below the pipeline. A handler only says *what* runs; the
runners decide where, the pipeline when.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar, overload

from .errors import StartError
from .typed import Decoder, decoder_for

F = TypeVar("F", bound="Callable[..., Any]")

DEADLINE = 30.0
"""Seconds that a handler may take, unless it says otherwise, when it is async or runs in a worker."""


class UDPHandler:
    """A function of one connection that a server runs for each packet.

    `fn` is a `def` (runs in the turn: must not block), an `async def`, or with
    `threaded=True` a `def` that runs in a pool thread and may block. Its return
    value is ignored; what is not answered gets no answer. `timeout` is the
    deadline in seconds from the packet's arrival (30 unless given; None: none) of an
    async handler, which is cancelled, and of one that runs in a worker: see `docs/how-to/use-all-cores.md`
    for what becomes of its packet and its thread. A handler in the turn has none.

    >>> echo = UDPHandler(lambda c: c.respond(c.packet))
    """

    name: str | None = None
    """None for the main handler, which serves clients that have no other."""

    def __init__(
        self, fn: Callable[..., Any], *, threaded: bool = False, timeout: float | None = DEADLINE
    ) -> None:
        if isinstance(fn, UDPHandler):
            fn = fn.function()
        if not callable(fn):
            raise TypeError(f"a handler is made from a function of one connection, found {fn!r}")
        called = fn if inspect.isroutine(fn) or isinstance(fn, type) else type(fn).__call__
        is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(called)
        if threaded and is_async:
            raise TypeError(
                f"{_where(fn)} is async def and threaded at once. Fix: make it a plain def, or drop threaded=True"
            )
        if timeout is not None and not timeout > 0:
            raise ValueError(f"the timeout of {_where(fn)} is {timeout!r}. Expected seconds above 0, or None")
        self.fn = fn
        self.kind = "threaded" if threaded else "async" if is_async else "inline"
        self.timeout = timeout
        self.struct: Any = None
        self.decode: Decoder | None = None
        self.__doc__ = getattr(fn, "__doc__", None)
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)
        self.__module__ = getattr(fn, "__module__", __name__)
        self.__wrapped__ = fn
        self._read = False
        try:
            self.read_signature()
        except (NameError, StartError):
            pass  # a name that is defined further down, or a mistake: `start` looks again and says so

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as if it had not been decorated."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<{self.kind} handler{name} {_where(self.fn)}>"

    def function(self) -> Callable[..., Any]:
        """The user's function."""
        return self.fn

    @property
    def place(self) -> str:
        """`file:line` of the function, for messages."""
        return _place(self.fn)

    def read_signature(self) -> None:
        """Find the typed parameter and compile its decoder. Raises `StartError` on a wrong signature."""
        if self._read:
            return
        needed, second = _parameters(self.fn)
        if needed is None:
            raise StartError(
                f"{_where(self.fn)} cannot be a handler: its signature is {_signature(self.fn)}. "
                "Expected one connection, as in def main(c), or a connection and a typed packet, as in "
                "def main(c, move: Move) with a msgspec Struct",
                code="wrong-signature",
            )
        if second is not None:
            annotation = _annotation(self.fn, second)
            if annotation is inspect.Parameter.empty:
                raise StartError(
                    f"{_where(self.fn)} cannot be a handler: its second parameter {second.name!r} has no type. "
                    f"Fix: annotate it with a msgspec Struct, or take the connection alone",
                    code="wrong-signature",
                )
            self.decode = decoder_for(annotation, _where(self.fn))
            self.struct = annotation
        self._read = True


class NamedHandler(UDPHandler):
    """A handler that clients are moved to by name, with `c.set_handler(name)`."""

    def __init__(
        self, fn: Callable[..., Any], name: str, *, threaded: bool = False, timeout: float | None = DEADLINE
    ) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"the name of a handler is text, found {name!r}")
        super().__init__(fn, threaded=threaded, timeout=timeout)
        self.name = name


@overload
def handler(fn: Callable[..., Any], /) -> UDPHandler: ...
@overload
def handler(
    fn: Callable[..., Any], name: str, /, *, threaded: bool = ..., timeout: float | None = ...
) -> NamedHandler: ...
@overload
def handler(
    name: str, /, *, threaded: bool = ..., timeout: float | None = ...
) -> Callable[[Callable[..., Any]], NamedHandler]: ...
@overload
def handler(
    *, threaded: bool = ..., timeout: float | None = ...
) -> Callable[[Callable[..., Any]], UDPHandler]: ...


def handler(
    fn: Any = None, name: str | None = None, /, *, threaded: bool = False, timeout: float | None = DEADLINE
) -> Any:
    """Make a handler from a function: `@handler`, `@handler("name")`, `@handler(threaded=True)`.

    Without a name it is the main handler of its module. The function stays
    callable as it was.

    >>> @handler("second")
    ... def second_step(c):
    ...     c.respond("response 2")
    """
    if isinstance(fn, str):
        fn, name = None, fn
    if fn is None:
        return lambda function: _make(function, name, threaded, timeout)
    return _make(fn, name, threaded, timeout)


def _make(fn: Callable[..., Any], name: str | None, threaded: bool, timeout: float | None) -> UDPHandler:
    if name is None:
        return UDPHandler(fn, threaded=threaded, timeout=timeout)
    return NamedHandler(fn, name, threaded=threaded, timeout=timeout)


def _parameters(fn: Callable[..., Any]) -> tuple[int | None, inspect.Parameter | None]:
    """How many arguments a packet gives (None: it does not fit), and the typed parameter."""
    try:
        found = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return 1, None  # a builtin without a signature: believe it
    positional = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in found) or len(required) > 2:
        return None, None
    if not positional:
        return (1, None) if any(p.kind is p.VAR_POSITIONAL for p in found) else (None, None)
    return (2, required[1]) if len(required) == 2 else (1, None)


def _annotation(fn: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        # eval_str would fail for the connection's own annotation, which often exists for type checkers only.
        function = inspect.unwrap(getattr(fn, "__func__", fn))
        scope = dict(getattr(function, "__globals__", None) or vars(sys.modules[type(fn).__module__]))
        closure = getattr(function, "__closure__", None) or ()
        scope.update(
            (name, cell.cell_contents)
            for name, cell in zip(
                getattr(getattr(function, "__code__", None), "co_freevars", ()), closure, strict=False
            )
        )
        return eval(annotation, scope)  # the user's own source text
    return annotation


def _signature(fn: Callable[..., Any]) -> str:
    return f"{getattr(fn, '__name__', type(fn).__name__)}{inspect.signature(fn)}"


def _place(fn: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(fn), "__code__", None) or getattr(type(fn).__call__, "__code__", None)
    return (
        f"{code.co_filename}:{code.co_firstlineno}" if code else getattr(fn, "__module__", None) or "builtin"
    )


def _where(fn: Callable[..., Any]) -> str:
    return f"{getattr(fn, '__qualname__', type(fn).__name__)} ({_place(fn)})"


_ERROR_PAGE = re.compile(r"[45]\d\d")


class Route:
    """A path of HTTP mode and the function that answers it. Made by `route`."""

    def __init__(
        self,
        path: str,
        fn: Callable[..., Any],
        *,
        methods: tuple[str, ...] | None = None,
        when: Callable[[Any], bool] | None = None,
    ) -> None:
        if isinstance(fn, UDPHandler):
            fn = fn.fn
        if not callable(fn):
            raise TypeError(f"the route {path!r} needs a function of one connection, found {fn!r}")
        if not isinstance(path, str) or not (path.startswith("/") or _ERROR_PAGE.fullmatch(path)):
            raise ValueError(
                f"{path!r} is not a path. Expected text that begins with '/', or the number of an error page, as '404'"
            )
        self.path = path
        self.fn = fn
        self.methods = None if methods is None else tuple(m.upper() for m in methods)
        self.when = when
        self.is_async = inspect.iscoroutinefunction(fn)
        self.__doc__ = getattr(fn, "__doc__", None)
        self.__wrapped__ = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as if it had not been decorated."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<route {self.path!r} {_where(self.fn)}>"


@overload
def route(
    path: str,
    fn: Callable[..., Any],
    /,
    *,
    methods: tuple[str, ...] | list[str] | None = ...,
    when: Callable[[Any], bool] | None = ...,
) -> Route: ...
@overload
def route(
    path: str,
    /,
    *,
    methods: tuple[str, ...] | list[str] | None = ...,
    when: Callable[[Any], bool] | None = ...,
) -> Callable[[Callable[..., Any]], Route]: ...


def route(
    path: str,
    fn: Any = None,
    /,
    *,
    methods: tuple[str, ...] | list[str] | None = None,
    when: Callable[[Any], bool] | None = None,
) -> Any:
    """Answer a path of HTTP mode: `@route("/clients")`, or `route("/clients", fn)`.

    Every method is answered unless `methods` names some; `"WEBSOCKET"` among them
    takes WebSockets. Several routes of one path may exist: the first whose
    `when(c)` is true answers. The path `"404"` answers what no other route does,
    `"500"` and the like are the pages of other errors.

    >>> @route("/clients")
    ... def clients(c):
    ...     c.write("none yet")
    """
    given = None if methods is None else tuple(methods)
    if fn is None:
        return lambda function: Route(path, function, methods=given, when=when)
    return Route(path, fn, methods=given, when=when)


def _not_found(c: Any) -> None:
    """The page for a path that no route answers."""
    c.respond("404: not found", status=404)


default_404 = Route("404", _not_found)
