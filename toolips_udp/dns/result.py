"""What a question is answered with, before it becomes octets.

`lookup`, the cache, the forwarder and Python handlers all make a `Result`;
`reply.encode_reply` writes it. Imports zone (RRset) and rrtypes.
"""

from __future__ import annotations

from . import rrtypes
from .zone import RRset


class Result:
    """RCODE, flags and sections of an answer.

    `glue` is the part of the additional section that a referral cannot do
    without (RFC 9471); `additional` may be left out when it does not fit.
    """

    __slots__ = (
        "aa", "ad", "additional", "answer", "authority", "ede", "glue", "rcode", "scope", "share", "source", "tc",
        "upstream", "zone",
    )  # fmt: skip

    def __init__(self, rcode: int = rrtypes.NOERROR, aa: bool = False) -> None:
        self.rcode = rcode
        self.aa = aa
        self.ad = False
        self.tc = False
        self.answer: list[RRset] = []
        self.authority: list[RRset] = []
        self.additional: list[RRset] = []
        self.glue: list[RRset] = []
        self.ede: list[tuple[int, str]] = []
        self.source = "zone"
        self.upstream = ""
        """Who said it, for the query log."""
        self.share = False
        self.scope = 0
        self.zone: object = None

    def texts(self) -> dict[str, list[str]]:
        """The records of each section as lines of text."""
        return {
            "answer": [line for rrset in self.answer for line in rrset.texts()],
            "authority": [line for rrset in self.authority for line in rrset.texts()],
            "additional": [line for rrset in self.glue + self.additional for line in rrset.texts()],
        }


def error(rcode: int, ede: int | None = None, text: str = "") -> Result:
    """A result without records."""
    made = Result(rcode)
    made.source = "server"
    if ede is not None:
        made.ede.append((ede, text))
    return made
