"""Jobs that speak with their parent while they run."""

from __future__ import annotations

import pytest

from toolips_udp.errors import JobError, WorkerError
from toolips_udp.jobs import assign, new_job, processes
from toolips_udp.jobs.process import Talk

FUNCTION = """
import os

def converse(data, line):
    for i in range(3):
        line.say(b"said %d" % i)
    answer = line.ask(b"what?")
    line.say(b"heard " + answer)
    return data.upper()

def fail(data, line):
    line.say(b"before")
    raise ValueError("broken")

def die(data, line):
    line.say(b"before")
    os._exit(4)
"""


@pytest.fixture
def manager(tmp_path, monkeypatch):
    (tmp_path / "talkers.py").write_text(FUNCTION)
    monkeypatch.syspath_prepend(str(tmp_path))
    with processes(1, "process") as pm:
        yield pm


def test_what_is_said_arrives_in_order_and_questions_are_answered(manager):
    heard = []
    talk = Talk("talkers:converse", b"data", heard.append, lambda question: b"answer to " + question)
    assert assign(manager, 1, talk, sync=True) == [b"DATA"]
    assert heard == [b"said 0", b"said 1", b"said 2", b"heard answer to what?"]


def test_a_talk_that_raises_or_dies_fails_and_the_worker_goes_on(manager):
    heard = []
    with pytest.raises(JobError, match="broken"):
        assign(manager, 1, Talk("talkers:fail", b"", heard.append, bytes), sync=True)
    with pytest.raises(WorkerError, match="exit status 4"):
        assign(manager, 1, Talk("talkers:die", b"", heard.append, bytes), sync=True)
    assert heard == [b"before", b"before"]
    assert assign(manager, 1, new_job(int), sync=True) == [0]


def test_a_talk_is_refused_by_other_kinds():
    with processes(1) as pm, pytest.raises(JobError, match="kind 'process' only"):
        assign(pm, 1, Talk("talkers:converse", b"", print, bytes), sync=True)
