"""Positions of `MultiHandler` for streams: which handler a client is on, until it is silent or makes room."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from toolips_udp import Address, MultiHandler, UnknownHandler
from toolips_udp.handlers import UDPHandler
from toolips_udp.servers import choosing as module
from toolips_udp.servers.choosing import Choosing

MAIN, LOBBY, GAME = (UDPHandler(lambda c: None) for _ in range(3))
HANDLERS = {"lobby": LOBBY, "game": GAME}


def at(host="127.0.0.1", port=1, **more):
    return SimpleNamespace(address=Address(host, port), **more)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_client_is_on_the_handler_it_was_given_and_all_others_on_the_main_one(clock):
    places = Choosing(MAIN, HANDLERS, MultiHandler())
    assert places.pick(at()) is MAIN
    places.set(at(), "lobby")
    assert places.pick(at()) is LOBBY and places.pick(at(port=2)) is MAIN
    places.set(at(port=2), "game", "127.0.0.1:1")
    assert places.pick(at()) is GAME, "another may be named by its address"
    places.remove(at(port=2), Address("127.0.0.1", 1))
    assert places.pick(at()) is MAIN
    places.set(at(), "game")
    places.remove(at(port=2))
    assert places.pick(at()) is GAME
    places.remove(at())
    places.remove(at())
    assert places.pick(at()) is MAIN


def test_a_silent_client_is_forgotten_and_one_that_comes_again_is_not(clock):
    places = Choosing(MAIN, HANDLERS, MultiHandler(ttl=10))
    places.set(at(), "lobby")
    for _ in range(3):
        clock[0] += 10
        assert places.pick(at()) is LOBBY
    clock[0] += 10.1
    assert places.pick(at()) is MAIN


def test_the_longest_silent_client_makes_room(clock):
    places = Choosing(MAIN, HANDLERS, MultiHandler(max_clients=2))
    for port in (1, 2, 3):
        places.set(at(port=port), "lobby")
    assert [places.pick(at(port=port)) for port in (1, 2, 3)] == [MAIN, LOBBY, LOBBY]


def test_with_key_ip_all_ports_of_a_host_are_one_client(clock):
    places = Choosing(None, HANDLERS, MultiHandler(key="ip"))
    places.set(at(), "lobby", "127.0.0.2:9")
    assert places.pick(at("127.0.0.2", 7)) is LOBBY and places.pick(at()) is None


def test_a_function_says_what_a_client_is_and_then_nobody_is_named_by_an_address(clock):
    places = Choosing(MAIN, HANDLERS, MultiHandler(key=lambda c: c.user))
    places.set(at(user="ann"), "lobby")
    assert places.pick(at(port=9, user="ann")) is LOBBY and places.pick(at(user="bob")) is MAIN
    with pytest.raises(ValueError, match="cannot be named by its address"):
        places.set(at(user="ann"), "lobby", "127.0.0.1:1")
    with pytest.raises(ValueError, match="cannot be named by its address"):
        places.remove(at(user="ann"), "127.0.0.1:1")


def test_a_name_that_no_handler_has_is_refused_at_once_and_so_is_any_without_a_multihandler(clock):
    places = Choosing(MAIN, HANDLERS, MultiHandler())
    with pytest.raises(UnknownHandler, match=r"'lobbi'.*'game', 'lobby'"):
        places.set(at(), "lobbi")
    assert places.pick(at()) is MAIN
    none = Choosing(MAIN, HANDLERS, None)
    with pytest.raises(UnknownHandler, match="'lobby'"):
        none.set(at(), "lobby")
    none.remove(at())
    assert none.pick(at()) is MAIN
