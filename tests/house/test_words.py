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
