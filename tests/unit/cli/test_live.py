"""run --live: what to try, and counters as they move."""

from __future__ import annotations

from toolips_udp.cli._live import line_of, to_try
from toolips_udp.counters import WORDS


def test_commands_are_read_from_the_docstring():
    text = (
        "A server.\n\n    python -m toolips_udp run x.py --udp 127.0.0.1:5300\n"
        "    dig @127.0.0.1 -p 5300 www.example.test\n\nAnd prose.\n"
    )
    assert to_try(text) == ["dig @127.0.0.1 -p 5300 www.example.test"]
    assert to_try(None) == []


def test_a_line_has_the_rate_and_only_the_drops_there_were():
    before = dict.fromkeys(WORDS, 0)
    now = {**before, "received": 1500, "handled": 1490, "sent": 1490, "limited": 10}
    assert line_of(now, before, 1.0).split() == (
        "1,500/s received 1,500 handled 1,490 sent 1,490 limited 10".split()
    )
