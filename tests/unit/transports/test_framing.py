"""Lines and frames out of a stream, in both implementations of the inbox."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp.counters import WORDS
from toolips_udp.errors import FormatError, TooLong
from toolips_udp.transports import framing

INBOXES = [framing.Inbox]
try:
    from toolips_udp._native import streams
except ImportError:
    pass
else:
    INBOXES.append(streams.Inbox)


@pytest.fixture(params=INBOXES, ids=lambda kind: kind.__module__)
def inbox(request):
    return request.param()


def lines_of(inbox, *chunks, end=b"\n", limit=65536):
    found = []
    for chunk in chunks:
        inbox.feed(chunk)
        while (line := inbox.line(end, limit)) is not None:
            found.append(line)
    return found


def test_a_tt3_two_lines_in_one_segment_and_one_line_over_three_make_three_lines(inbox):
    assert lines_of(inbox, b"m1\nm2\n", b"m", b"3", b"\n") == [b"m1", b"m2", b"m3"]
    assert len(inbox) == 0


def test_a_tt4_a_line_without_terminator_is_delivered_once_and_final(inbox):
    assert [line.final for line in lines_of(inbox, b"m1\nm2")] == [False]
    inbox.end()
    last = inbox.line(b"\n", 100)
    assert (last, last.final, last.text) == (b"m2", True, "m2")
    assert inbox.line(b"\n", 100) is None


def test_a_tt8_a_line_past_the_limit_is_refused_before_it_is_complete(inbox):
    inbox.feed(b"x" * 100)
    assert inbox.line(b"\n", 100) is None
    inbox.feed(b"x")
    with pytest.raises(TooLong, match="more than 100 bytes"):
        inbox.line(b"\n", 100)


def test_a_complete_line_past_the_limit_is_refused_too(inbox):
    inbox.feed(b"x" * 101 + b"\n")
    with pytest.raises(TooLong, match="101 bytes"):
        inbox.line(b"\n", 100)


def test_a_line_of_exactly_the_limit_passes_with_a_split_terminator(inbox):
    assert lines_of(inbox, b"x" * 10 + b"!", b"\nrest", end=b"!\n", limit=10) == [b"x" * 10]
    assert inbox.take(100) == b"rest"


def test_a_carriage_return_goes_with_a_newline_only(inbox):
    assert lines_of(inbox, b"a\r\n\r\nb\n") == [b"a", b"", b"b"]
    assert lines_of(inbox, b"a\r;", end=b";") == [b"a\r"]


def test_text_of_a_line_never_raises(inbox):
    [line] = lines_of(inbox, b"\xff\xfe\n")
    assert line.text == "\ufffd\ufffd"


def test_bytes_behind_the_last_line_taken_stay(inbox):
    inbox.feed(b"one\ntwo")
    assert inbox.line(b"\n", 100) == b"one"
    assert inbox.take(2) == b"tw"
    assert inbox.take(2) == b"o"
    assert inbox.take(2) == b""


def test_a_changed_terminator_sees_bytes_that_were_searched_before(inbox):
    inbox.feed(b"abc;def")
    assert inbox.line(b"\n", 100) is None
    inbox.feed(b"!")
    assert inbox.line(b";", 100) == b"abc"


@pytest.mark.parametrize("prefix", [1, 2, 4])
def test_s3_a_frame_is_the_same_at_every_split_point(inbox, prefix):
    stream = framing.framed(b"hello", prefix) + framing.framed(b"x" * 200, prefix)
    for at in range(len(stream) + 1):
        found = []
        for chunk in (stream[:at], stream[at:]):
            inbox.feed(chunk)
            while (frame := inbox.frame(prefix, 1000)) is not None:
                found.append(frame)
        assert found == [b"hello", b"x" * 200]
        assert len(inbox) == 0


def test_s3_a_frame_of_length_0_is_refused(inbox):
    inbox.feed(b"\0\0")
    with pytest.raises(FormatError, match="length 0"):
        inbox.frame(2, 1000)


def test_s3_a_frame_over_the_limit_is_refused_from_its_prefix_alone(inbox):
    inbox.feed(b"\xff\xff\xff\xff")
    with pytest.raises(TooLong, match="4294967295"):
        inbox.frame(4, 1000)


def test_s3_the_longest_frame_passes(inbox):
    inbox.feed(framing.framed(b"x" * 65535, 2))
    assert len(inbox.frame(2, 65535)) == 65535


def test_framed_refuses_what_its_prefix_cannot_say():
    with pytest.raises(TooLong):
        framing.framed(b"x" * 256, 1)
    with pytest.raises(ValueError, match="closes the connection"):
        framing.framed(b"", 2)


@pytest.mark.parametrize("kind", INBOXES, ids=lambda kind: kind.__module__)
@given(
    messages=st.lists(st.binary(max_size=40).filter(lambda m: b"|" not in m), max_size=8),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    end=st.sampled_from([b"|", b"|\n", b"||"]),
)
def test_lines_come_back_whatever_the_segments(kind, messages, cuts, end):
    stream = b"".join(m + end for m in messages)
    at = sorted({min(c, len(stream)) for c in cuts})
    chunks = [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)]
    assert lines_of(kind(), *chunks, end=end) == messages


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("feed"), st.binary(min_size=1, max_size=30)),
            st.tuples(st.just("line"), st.sampled_from([b"\n", b"ab", b"\0"])),
            st.tuples(st.just("take"), st.integers(1, 20)),
            st.tuples(st.just("frame"), st.sampled_from([1, 2, 4])),
            st.tuples(st.just("end"), st.none()),
        ),
        max_size=40,
    )
)
def test_the_native_inbox_does_what_its_python_twin_does(steps):
    pytest.importorskip("toolips_udp._native.streams", reason="no native core was built")
    results = []
    for kind in INBOXES:
        inbox, seen = kind(), []
        for verb, value in steps:
            try:
                if verb in ("line", "frame"):
                    seen.append(getattr(inbox, verb)(value, 25))
                elif verb == "end":
                    inbox.end()
                else:
                    seen.append(getattr(inbox, verb)(value))
            except (TooLong, FormatError) as error:
                seen.append(str(error))
                inbox.clear()
            seen.append(len(inbox))
        results.append(seen)
    assert results[0] == results[1]


def test_a_long_line_in_single_bytes_is_not_searched_from_its_start_each_time(inbox):
    """Counts bytes, not time: the search begins where the last one ended."""
    if not isinstance(inbox, framing.Inbox):
        pytest.skip("looks into the Python twin; the native one is compared with it above")
    for _ in range(1000):
        inbox.feed(b"x")
        assert inbox.line(b"\n", 65536) is None
        assert inbox._seen == len(inbox._data)


def test_the_words_of_the_native_stream_are_those_of_the_counters():
    streams = pytest.importorskip("toolips_udp._native.streams", reason="no native core was built")
    assert all(WORDS.index(word) == number for word, number in streams.WORDS_USED.items())
