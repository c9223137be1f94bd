"""The counter words are the same in C and in Python."""

import re
from pathlib import Path

from toolips_udp import counters

ROOT = Path(__file__).parents[2]


def test_the_words_of_python_are_those_of_the_header_in_order():
    header = (ROOT / "native/tudp.h").read_text()
    enum = header[header.index("typedef enum tudp_word") : header.index("} tudp_word")]
    names = re.findall(r"^\s*TUDP_(\w+)", re.sub(r"/\*.*?\*/", "", enum, flags=re.S), flags=re.M)
    assert names[-1] == "WORDS"
    assert tuple(name.lower() for name in names[:-1]) == counters.WORDS
    assert f"TUDP_WORDS = {counters.SIZE}" in header


def test_the_buckets_of_queue_ages_are_those_of_the_header_and_end_the_array():
    header = (ROOT / "native/tudp.h").read_text()
    buckets = len(counters.AGE_BOUNDS) + 1
    assert f"#define TUDP_QUEUE_AGE {counters.QUEUE_AGES}\n" in header
    assert f"#define TUDP_AGE_BUCKETS {buckets}\n" in header and "#define TUDP_AGE_SHIFT 18 " in header
    assert len(counters.WORDS) <= counters.QUEUE_AGES == counters.SIZE - buckets
    assert counters.AGE_BOUNDS[0] == 2**18 / 1e9
