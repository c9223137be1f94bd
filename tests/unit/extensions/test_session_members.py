"""Who is here: joins, events, leaves and expiry of a `Session`, with the clock and the server in hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from toolips_udp import Address, Session, StartError, on
from toolips_udp.connections.udp import UDPConnection
from toolips_udp.extensions import session as module
from toolips_udp.extensions.session import NO_CALLBACK


class Packet(UDPConnection):
    """A connection as handlers see it."""

    def __init__(self, text, port=1, now=100.0, session=None):
        self.text, self.address, self.now = text, Address("127.0.0.1", port), now
        self.session = {} if session is None else session
        self.removed = 0

    def remove_handler(self, client=None):
        self.removed += 1


class Server:
    """What a session asks of its server."""

    def __init__(self, kind="thread", pool=None):
        self.settings, self.pool, self.client_timer = SimpleNamespace(kind=kind), pool, None
        self.repeated, self.said = [], []
        self.journal = SimpleNamespace(event=lambda *given: self.said.append(given))

    def every(self, seconds, function):
        self.repeated.append((seconds, function))


def started(session, **more):
    session.on_start(server := Server(**more))
    return server


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def callback(name):
    def fn(c):
        return name

    return fn


def named(handler):
    return handler.fn(None) if handler is not None and handler is not NO_CALLBACK else handler


@pytest.mark.parametrize(
    "given", [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"max_clients": 0}]
)
def test_a_session_without_time_or_room_is_refused(given):
    with pytest.raises(ValueError, match="timeout above 0 and max_clients above 0"):
        Session(**given)


def test_a_session_of_one_client_and_half_a_second_is_one():
    session = Session(timeout=0.5, max_clients=1)
    server = started(session)
    assert (session.timeout, session.max_clients) == (0.5, 1)
    assert [seconds for seconds, _ in server.repeated] == [0.125]
    assert [seconds for seconds, _ in started(Session(60)).repeated] == [1.0], "once a second at most"
    assert session.clients == [] and not session.threaded_callbacks


def test_a_client_joins_with_its_first_packet_and_leaves_once_when_it_is_silent_for_too_long(clock):
    session, seen = Session(timeout=10), []
    session.on_join(lambda c: seen.append(("join", c.address.port, c.text)))
    session.on_leave(lambda member: seen.append(("leave", member.address.port, dict(member.session))))
    server = started(session)
    (_, expire), state = server.repeated[0], {"hits": 3}
    session.route(Packet("hello", 1, 100.0, state))
    session.route(Packet("again", 1, 105.0, state))
    session.route(Packet("hello", 2, 106.0))
    assert session.clients == [Address("127.0.0.1", 1), Address("127.0.0.1", 2)]
    clock[0] = 115.0
    expire()
    assert seen == [("join", 1, "hello"), ("join", 2, "hello")]
    clock[0] = 115.5
    expire(), expire()
    assert seen[2:] == [("leave", 1, {"hits": 3})] and state == {}
    assert session.clients == [Address("127.0.0.1", 2)]
    session.route(Packet("back", 1, 115.5))
    assert seen[3:] == [("join", 1, "back")]
    session.on_stop(server)
    assert [each[:2] for each in seen[4:]] == [("leave", 2), ("leave", 1)] and session.clients == []


def test_the_longest_silent_client_makes_room_and_leaves():
    session, left = Session(max_clients=2), []
    session.on_leave(lambda member: left.append(member.address.port))
    started(session)
    for port in (1, 2, 1, 3):
        session.route(Packet("x", port))
    assert left == [2] and [address.port for address in session.clients] == [1, 3]


def test_a_restart_begins_with_nobody(clock):
    session, left = Session(), []
    session.on_leave(left.append)
    started(session)
    session.route(Packet("x"))
    pages = session.pages
    assert session.pages is pages
    started(session)
    assert session.clients == [] and left == [] and session.pages is not pages


def test_the_first_word_names_the_event_if_somebody_registered_it():
    session = Session()
    fn = callback("move")
    assert session.on("move", fn) is fn
    assert session.on("jump")(fn) is fn
    started(session)
    assert (
        named(session.route(Packet("move 1 2"))) == "move" and named(session.route(Packet("jump"))) == "move"
    )
    assert named(session.route(Packet("move\r\n"))) == "move"
    for other in ("moved", "1 move", "", " move"):
        assert session.route(Packet(other)) is None, other
    assert session.route(SimpleNamespace(address="a stream")) is None


def test_a_function_names_the_event_or_gives_none_for_the_handler():
    session = Session(event=lambda c: c.text[1:] if c.text.startswith("/") else None)
    session.on("move", callback("move"))
    started(session)
    assert named(session.route(Packet("/move"))) == "move"
    assert session.route(Packet("move")) is None
    assert session.route(Packet("/dance")) == NO_CALLBACK == "no_handler"


def test_a_clients_own_callback_wins_and_goes_with_it(clock):
    session = Session(timeout=10)
    session.on("move", callback("all"))
    server = started(session)
    one = Packet("move", 1)
    session.route(one), session.route(Packet("x", 2))
    session.on("move", callback("own"), client=one)
    session.on("mine", callback("mine"), client=Address("127.0.0.1", 1))
    session.on("mine", callback("newer"), client="127.0.0.1:1")
    session.on("mine", callback("of two"), client=Packet("", 2))
    session.route(Packet("x", 2, 105.0))
    assert (
        named(session.route(Packet("move", 1))) == "own"
        and named(session.route(Packet("move", 2, 105.0))) == "all"
    )
    assert named(session.route(Packet("mine", 1))) == "newer"
    clock[0] = 111.0
    server.repeated[0][1]()
    assert (
        named(session.route(Packet("move", 1, 111.0))) == "all"
        and session.route(Packet("mine", 1, 111.0)) is None
    )
    assert named(session.route(Packet("mine", 2, 111.0))) == "of two"
    session.drop(Packet("", 2))
    session.route(Packet("x", 2, 111.0))
    assert session.route(Packet("mine", 2, 111.0)) is None and "mine" not in session._words
    assert session._words == {"move": 1}


def test_who_is_not_here_can_have_no_callback():
    session = Session()
    started(session)
    with pytest.raises(LookupError, match="127.0.0.1:9 is not here"):
        session.on("move", callback("x"), client="127.0.0.1:9")
    assert session.route(Packet("move")) is None and session._words == {}


@pytest.mark.parametrize("name", ["", None, 3, b"move"])
def test_an_event_is_named_by_text(name):
    with pytest.raises(TypeError, match="named by text"):
        Session().on(name, callback("x"))


def test_a_dropped_client_leaves_once_and_its_chosen_handler_goes():
    session, left = Session(), []
    session.on_leave(lambda member: left.append(member.address.port))
    started(session)
    one = Packet("x", 1, session={"a": 1})
    session.route(one)
    session.drop(one), session.drop(one)
    assert left == [1] and one.removed == 2 and one.session == {}
    session.route(Packet("x", 2))
    session.drop("127.0.0.1:2")
    session.drop(Address("127.0.0.1", 3))
    assert left == [1, 2] and session.clients == []


def test_timers_of_a_client_end_with_it_and_those_that_rang_are_forgotten():
    session = Session()
    server = started(session)
    one = Packet("x", 1)
    session.route(one)

    class Timer:
        def __init__(self, cancelled=False, calls=0):
            self.cancelled, self.calls, self.ended = cancelled, calls, 0

        def cancel(self):
            self.ended += 1

    rang, stopped, waits = Timer(calls=1), Timer(cancelled=True), Timer()
    for each in (rang, stopped, waits):
        server.client_timer(one, each)
    last = Timer()
    server.client_timer(one, last)
    server.client_timer(Packet("x", 9), nobody := Timer())
    session.drop(one)
    assert [each.ended for each in (rang, stopped, waits, last, nobody)] == [0, 0, 1, 1, 0]


def test_a_callback_that_raises_is_told_of_and_the_others_run():
    session, seen = Session(), []

    @session.on_join
    def bad(c):
        raise KeyError("x")

    assert session.on_join(seen.append) == seen.append
    assert session.on_leave(seen.append) == seen.append
    server = started(session)
    session.route(one := Packet("x"))
    assert seen == [one]
    ((kind, level, text, address, error),) = server.said
    assert kind == text and text.endswith("bad of a Session raised KeyError") and level == 40
    assert address == one.address and isinstance(error, KeyError)


def test_pages_join_and_leave_as_clients_do():
    session, seen = Session(), []
    session.on_join(lambda page: seen.append(("join", page)))
    session.on_leave(lambda page: seen.append(("leave", page)))
    started(session)
    session.joined("page"), session.left("page")
    assert seen == [("join", "page"), ("leave", "page")]


def test_pages_expire_and_close_with_the_session(clock):
    session, seen = Session(), []
    server = started(session)
    server.repeated[0][1](), session.on_stop(server)
    server = started(session)
    session._pages = SimpleNamespace(expire=lambda now: seen.append(now), close=lambda: seen.append("closed"))
    server.repeated[0][1]()
    session.on_stop(server)
    assert seen == [100.0, "closed"] and session._server is None


def test_threaded_callbacks_need_a_pool_in_this_process():
    session = Session()
    session.on("think", callback("x"), threaded=True)
    assert session.threaded_callbacks
    session.on("think", callback("x"))
    assert not session.threaded_callbacks
    started(session, kind="process")
    with pytest.raises(StartError, match="without a pool"):
        session.on("think", callback("x"), threaded=True)
    started(session, pool=object())
    assert session.on("think", threaded=True)(callback("x")) and session.threaded_callbacks
    with pytest.raises(StartError, match="kind='process'"):
        session.on_start(Server(kind="process", pool=object()))


def test_the_callback_of_one_client_may_be_threaded_too():
    session = Session()
    started(session, pool=object())
    session.route(Packet("x"))
    session.on("think", callback("x"), client="127.0.0.1:1", threaded=True)
    session.on("late", client="127.0.0.1:1")(callback("y"))
    assert (
        session.route(Packet("think")).kind == "threaded" and session.route(Packet("late")).kind == "inline"
    )
    assert not session._callbacks and not session.threaded_callbacks


def test_on_of_the_module_is_that_of_the_session_or_of_its_pages():
    session, fn = Session(), callback("x")
    assert on(session, "move", fn) is fn and on(session, "think", threaded=True)(fn) is fn
    started(session)
    assert named(session.route(Packet("move"))) == "x" and session.threaded_callbacks
    bound = []
    session._pages = SimpleNamespace(bind=lambda *given, **more: bound.append((given, more)) or "bound")
    c = SimpleNamespace(server=SimpleNamespace(extensions=["another", session, Session()]))
    assert on(c, "button", "click", fn, threaded=True) == "bound"
    assert bound == [((c, "button", "click", fn), {"threaded": True})]
    with pytest.raises(StartError, match="needs a Session"):
        on(SimpleNamespace(server=SimpleNamespace(extensions=[])), "button", "click", fn)
