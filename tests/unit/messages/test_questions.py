"""Questions: each ends exactly once, by an answer, its deadline or the end of the connection; what is left is late."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from toolips_udp.messages.errors import ContentError, NotConnected, OperationFailed
from toolips_udp.messages.frames import Done, Failed, Result
from toolips_udp.messages.questions import Question, Questions


def story(work):
    """Runs `work(questions, ask)` in a loop; `ask(id, deadline)` gives the future of a question."""

    async def main():
        questions = Questions(Counter())

        def ask(id, deadline=10.0):
            future = asyncio.get_running_loop().create_future()
            questions[id] = Question(f"frame {id}", future, deadline)
            return future

        found = work(questions, ask)
        return found, questions

    return asyncio.run(main())


def test_a_question_keeps_what_it_asked_until_when_and_has_no_replies():
    def work(questions, ask):
        future = ask(1, 7.5)
        return (
            questions[1].frame,
            questions[1].deadline,
            questions[1].replies,
            questions[1].future is future,
        )

    assert story(work)[0] == ("frame 1", 7.5, [], True)


def test_each_kind_of_answer_reaches_the_question_of_its_id():
    def work(questions, ask):
        one, two, three = ask(1), ask(2), ask(3)
        questions.answered(Result(1, "value"))
        questions.answered(Done(2))
        questions.answered(Failed(3, ContentError.code, "wrong", "e7", "$.x"))
        return one.result(), two.result(), three.exception()

    (value, done, error), questions = story(work)
    assert (value, done) == ("value", None)
    assert type(error) is ContentError and (error.message, error.id, error.path) == ("wrong", "e7", "$.x")
    assert not questions and questions._counts["late"] == 0


def test_a_code_that_this_side_does_not_know_is_a_failed_operation():
    def work(questions, ask):
        future = ask(1)
        questions.answered(Failed(1, 250, "new"))
        return future.exception()

    assert type(story(work)[0]) is OperationFailed


def test_answers_to_nobody_and_to_who_has_gone_are_counted_late():
    def work(questions, ask):
        ask(1).cancel()
        for answer in (Result(1), Result(1), Done(9), Failed(9, 6)):
            questions.answered(answer)

    assert story(work)[1]._counts == {"late": 4}


def test_at_its_deadline_and_not_before_a_question_times_out():
    def work(questions, ask):
        first, gone, second = ask(1, 5.0), ask(2, 5.0), ask(3, 5.1)
        gone.cancel()
        questions.expire(4.999, "the server")
        assert len(questions) == 3
        questions.expire(5.0, "the server")
        return first.exception(), second.done(), list(questions)

    (error, done, left), _ = story(work)
    assert isinstance(error, TimeoutError) and str(error) == "the server did not answer in time"
    assert done is False and left == [3]


def test_the_end_of_the_connection_ends_all_questions_each_with_its_own_error():
    def work(questions, ask):
        first, gone, second = ask(1), ask(2), ask(3)
        gone.cancel()
        questions.end(end := NotConnected("the server left"))
        return first.exception(), second.exception(), end

    (one, two, end), questions = story(work)
    assert not questions and len({id(one), id(two), id(end)}) == 3
    for error in (one, two):
        assert type(error) is NotConnected and error.message == "the server left"


@pytest.mark.parametrize("answer", [Result(1, "x"), Done(1), Failed(1, 6)])
def test_a_question_that_ended_takes_no_second_answer(answer):
    def work(questions, ask):
        future = ask(1)
        questions.answered(Result(1, "first"))
        questions.answered(answer)
        return future.result()

    assert story(work)[0] == "first"
