"""Heartbeats, sans-io: who is silent is asked; who does not answer is lost; who only listens is neither."""

from __future__ import annotations

import sys
from pathlib import Path

from toolips_udp.messages import frames
from toolips_udp.messages.frames import Text

sys.path.insert(0, str(Path(__file__).parents[2]))
from fuzz_messages import logged_in, pump


def test_a_client_that_only_listens_is_asked_while_it_is_broadcast_to_and_stays():
    server, client = logged_in()
    for second in range(1, 100):
        now = float(second)
        news = server.close(frames.write(Text(second, "news")), now)
        assert isinstance(client.receive(news, now), Text)
        assert server.keep_alive(now, 5.0, 15.0) is None, "a client that answers is not lost"
        asked, server.out = server.out, []
        assert len(asked) <= 1
        for data in asked:
            client.receive(data, now)
        for data in client.out:
            server.receive(data, now)
        client.out.clear()
    assert server.open and server.heard >= 90


def test_a_silent_client_is_asked_once_a_beat_and_lost_after_three():
    server, _client = logged_in()
    asked = []
    for tenth in range(1, 200):
        event = server.keep_alive(tenth / 10, 5.0, 15.0)
        if server.out:
            asked.append(tenth / 10)
            server.out.clear()
        if event is not None:
            assert event[1] == "lost" and tenth == 150
            break
    assert asked == [5.0, 10.0] and not server.open


def test_a_ping_of_either_side_is_answered_and_is_no_event():
    server, client = logged_in()
    assert client.keep_alive(6.0, 5.0, 15.0) is None and len(client.out) == 1
    assert pump(client, server) == [] and len(server.out) == 1
    assert pump(server, client) == [] and client.out == []
