"""Lines: escaped, with a peer, and no more of them than anybody can read."""

import io
import logging
import threading

import pytest

from toolips_udp.extensions.logger import Logger, _Lines
from toolips_udp.journal import Journal, escape, level_of


def journal(name, clock=lambda: 0.0):
    found = Journal(name, clock)
    found.logger.propagate = True
    return found


def test_p8_every_byte_of_an_attacker_is_escaped():
    text = bytes(range(256)).decode("latin-1")
    line = escape(text)
    assert all(" " <= letter <= "~" for letter in line)
    assert "\\x1b" in line and "\\x0a" in line and "\n" not in line
    assert escape("é") == "\\xc3\\xa9" and escape("\ud800") == "\\xed\\xa0\\x80"


def test_p7_a_line_is_cut_at_1_kib():
    assert len(escape("a" * 1_000_000)) == 1024
    assert len(escape("\x00" * 1000)) == 1024, "escapes count as they are written"


def test_a_class_of_events_speaks_once_in_30_seconds_and_tells_what_it_left_out(caplog):
    now = [0.0]
    said = journal("quiet", lambda: now[0])
    for number in range(100):
        said.event("kind", logging.WARNING, f"number {number}")
    said.event("other kind", logging.WARNING, "another")
    assert [r.getMessage() for r in caplog.records] == ["number 0", "another"]
    now[0] = 31
    said.event("kind", logging.WARNING, "again")
    assert caplog.records[-1].getMessage() == "again (and 99 more of this kind before)"
    said.event("kind", logging.WARNING, "left out")
    said.summary()
    assert "1 more lines of the kind 'kind'" in caplog.records[-1].getMessage()


def test_a_line_carries_peer_and_word_as_fields(caplog):
    journal("fields").say(logging.WARNING, "hello\x1b[2J", "1.2.3.4:5", None, "denied")
    record = caplog.records[-1]
    assert (record.peer, record.word, record.name) == ("1.2.3.4:5", "denied", "toolips_udp.fields")
    assert record.getMessage() == "1.2.3.4:5 hello\\x1b[2J"


def test_an_exception_with_an_attackers_text_cannot_forge_lines(caplog):
    try:
        raise ValueError("evil\n2026 INFO all is well\x1b[31m")
    except ValueError as error:
        journal("forged").say(logging.ERROR, "handler raised", "1.2.3.4:5", error)
    said = caplog.records[-1].getMessage()
    assert "\x1b" not in said and not any(line.startswith("2026") for line in said.split("\n"))


def test_levels_are_checked():
    assert level_of("Warning") == logging.WARNING and level_of(15) == 15
    for bad in ("loud", None, True, 1.5):
        with pytest.raises(ValueError, match="debug"):
            level_of(bad)
    with pytest.raises(ValueError, match="debug"):
        Logger(level="loud")


def test_the_root_logger_is_left_alone():
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    journal("alone").say(logging.INFO, "x")
    assert (root.level, list(root.handlers)) == before


class Server:
    def __init__(self, name):
        self.journal = Journal(name)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("no_color, coloured", [(False, True), (True, False)])
def test_colours_only_on_a_terminal_without_no_color(monkeypatch, no_color, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    logger, server = Logger(prefix="game", stream=stream), Server(f"colours_{no_color}")
    logger.on_start(server)
    server.journal.say(logging.WARNING, "shown")
    server.journal.say(logging.DEBUG, "not shown")
    logger.on_stop(server)
    line = stream.getvalue()
    assert ("\x1b[33m" in line) is coloured
    assert "game " in line and "shown" in line and "not shown" not in line


def test_a_plain_stream_gets_no_colours():
    stream = io.StringIO()
    logger, server = Logger(stream=stream), Server("plain")
    logger.on_start(server)
    server.journal.say(logging.ERROR, "plain")
    logger.on_stop(server)
    assert "\x1b" not in stream.getvalue() and "ERROR" in stream.getvalue()


def test_a_file_is_appended_to_and_has_its_own_level(tmp_path):
    file = tmp_path / "a.log"
    for text in ("first", "second"):
        logger, server = (
            Logger(file=file, file_level="info", level="error", stream=io.StringIO()),
            Server("filed"),
        )
        logger.on_start(server)
        server.journal.say(logging.INFO, text)
        logger.on_stop(server)
    assert [line.split()[-1] for line in file.read_text().splitlines()] == ["first", "second"]


def test_a_writer_that_is_stuck_costs_lines_but_never_waits(monkeypatch):
    from toolips_udp.extensions import logger as room

    monkeypatch.setattr(room, "QUEUED", 5)

    stuck = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text):
            assert stuck.wait(30)
            return super().write(text)

    logger, server = Logger(stream=Stuck()), Server("stuck")
    logger.on_start(server)
    for number in range(100):
        server.journal.say(logging.INFO, str(number))
    assert logger.lost >= 90
    stuck.set()
    logger.on_stop(server)


def test_a_file_that_cannot_be_opened_is_an_error_at_start(tmp_path):
    with pytest.raises(OSError):
        Logger(file=tmp_path / "no" / "such" / "folder.log").on_start(Server("unopened"))


def test_the_format_names_time_level_and_logger():
    record = logging.LogRecord("toolips_udp.x", 30, "f", 1, "%s", ("text",), None)
    assert _Lines("").format(record).endswith("WARNING toolips_udp.x text")
