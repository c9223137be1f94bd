"""The progress bar of `distribute`."""

from __future__ import annotations

import io

from toolips_udp.jobs import new_job, processes, waitfor
from toolips_udp.jobs.progress import show


class Terminal(io.StringIO):
    def isatty(self):
        return True


def finished(count):
    with processes(2) as pm:
        futures = pm.distribute(*[new_job(int)] * count)
        waitfor(pm, *futures)
        return futures


def test_a_bar_that_was_asked_for_shows_also_without_a_terminal(capsys):
    with processes(2) as pm:
        waitfor(pm, *pm.distribute(*[new_job(int)] * 20, progress=True))
    assert "20/20" in capsys.readouterr().err


def test_nothing_is_drawn_unasked_without_a_terminal_or_for_few_jobs():
    plain, terminal = io.StringIO(), Terminal()
    show(finished(200), None, plain)
    show(finished(20), None, terminal)
    assert plain.getvalue() == terminal.getvalue() == ""


def test_many_jobs_on_a_terminal_show_a_bar_that_ends_at_the_total():
    terminal = Terminal()
    show(finished(150), None, terminal)
    assert "100%" in terminal.getvalue() or "150/150" in terminal.getvalue()


def test_the_plain_bar_is_drawn_where_rich_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    terminal = Terminal()
    show(finished(150), None, terminal)
    assert terminal.getvalue().endswith("[" + "#" * 30 + "] 150/150\n")
