"""Handlers and routes as objects."""

import functools

import msgspec
import pytest

from toolips_udp import NamedHandler, StartError, UDPHandler, default_404, handler, route


class Move(msgspec.Struct):
    x: int


def test_every_spelling_of_the_decorator():
    def f(c):
        """What f does."""
        return "called"

    for made in (handler(f), handler()(f), UDPHandler(f), UDPHandler(handler(f))):
        assert type(made) is UDPHandler and made.name is None and made.fn is f
        assert made(None) == "called" and made.__doc__ == "What f does." and made.__name__ == "f"
    for made in (handler("n")(f), handler(f, "n"), NamedHandler(f, "n")):
        assert type(made) is NamedHandler and made.name == "n"


def test_the_kind_is_read_from_the_function():
    async def waits(c):
        pass

    class Callable:
        async def __call__(self, c):
            pass

    assert handler(lambda c: None).kind == "inline"
    assert handler(waits).kind == handler(Callable()).kind == "async"
    assert handler(threaded=True)(lambda c: None).kind == "threaded"
    with pytest.raises(TypeError, match="async def and threaded"):
        handler(threaded=True)(waits)
    assert handler(waits).timeout == 30 and handler(timeout=None)(waits).timeout is None


@pytest.mark.parametrize("bad", [7, None, "text"])
def test_what_is_not_a_function_is_a_type_error(bad):
    with pytest.raises(TypeError):
        UDPHandler(bad)


def test_bad_options_are_refused():
    with pytest.raises(ValueError):
        handler(timeout=0)(lambda c: None)
    with pytest.raises(TypeError):
        NamedHandler(lambda c: None, "")


@pytest.mark.parametrize(
    "fn",
    [
        lambda: None,
        lambda a, b, c: None,
        lambda c, *, needed: None,
        lambda c, untyped: None,
    ],
)
def test_a_wrong_signature_is_a_start_error(fn):
    with pytest.raises(StartError, match="cannot be a handler"):
        UDPHandler(fn).read_signature()


@pytest.mark.parametrize(
    "fn",
    [
        lambda c: None,
        lambda c, default=1: None,
        lambda *args: None,
        functools.partial(lambda prefix, c: None, "x"),
        print,
    ],
)
def test_anything_that_takes_one_argument_is_a_handler(fn):
    made = UDPHandler(fn)
    made.read_signature()
    assert made.struct is None


def test_a_typed_parameter_is_compiled_at_decoration():
    @handler
    def main(c, move: Move):
        pass

    assert main.struct is Move and main.decode(b'{"x": 3}') == Move(3)


def test_routes_check_their_path():
    made = route("/x", methods=["get"])(lambda c: None)
    assert (made.path, made.methods) == ("/x", ("GET",))
    assert route("/y", lambda c: None).path == "/y" and default_404.path == "404"
    with pytest.raises(ValueError, match="begins with"):
        route("x", lambda c: None)
    with pytest.raises(TypeError):
        route("/x", 7)
