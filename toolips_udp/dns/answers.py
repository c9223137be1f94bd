"""What a handler returns: records, an `Answer`, or a verdict.

`A("192.0.2.1", ttl=60)`, `TXT("some text")` and so on for every RR type hold
RDATA that is ready for the wire. Imports rdata, names, rrtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from ..errors import FormatError
from . import names, rdata, rrtypes
from .fields import Quoted
from .scanner import words_of

DEFAULT_TTL = 300
"""Seconds, where a handler gives none."""


class RR:
    """One record of an answer: type, TTL and RDATA; the owner is the question's name unless given.

    >>> RR("MX", "10 mail.example.org.", ttl=60).type
    15
    """

    __slots__ = ("data", "owner", "ttl", "type")

    def __init__(
        self, rtype: str | int, text: str | bytes, *, ttl: int = DEFAULT_TTL, name: str | bytes | None = None
    ) -> None:
        self.type = rrtypes.type_number(rtype)
        self.data = text if isinstance(text, bytes) else _parsed(self.type, text)
        if not 0 <= ttl <= 0x7FFFFFFF:
            raise FormatError(f"ttl is {ttl}: expected 0 to 2147483647 seconds.")
        self.ttl = ttl
        self.owner = names.from_text(name) if isinstance(name, str) else name

    def __repr__(self) -> str:
        return f"<{rrtypes.type_name(self.type)} {rdata.show(self.type, self.data)} ttl={self.ttl}>"


@lru_cache(maxsize=4096)
def _parsed(rtype: int, text: str) -> bytes:
    return rdata.parse(rtype, words_of(text))


def maker(rtype: str) -> Callable[..., RR]:
    """The function that makes records of a type: fields as arguments, or one string as in a zone file."""
    number = rrtypes.type_number(rtype)

    if rtype in ("TXT", "SPF", "AVC", "NINFO", "RESINFO", "WALLET"):

        def make(*strings: str | bytes, ttl: int = DEFAULT_TTL, name: str | None = None) -> RR:
            octets = [s.encode() if isinstance(s, str) else s for s in strings]
            if not octets or any(len(s) > 255 for s in octets):
                raise FormatError(
                    f"{rtype} takes strings of at most 255 octets. Give a longer text in several."
                )
            return RR(number, b"".join([bytes((len(s),)) + s for s in octets]), ttl=ttl, name=name)

    else:

        def make(*fields: object, ttl: int = DEFAULT_TTL, name: str | None = None) -> RR:  # type: ignore[misc]
            if len(fields) == 1:
                return RR(number, str(fields[0]), ttl=ttl, name=name)
            words = [Quoted(f) if isinstance(f, str) and " " in f else str(f) for f in fields]
            return RR(number, rdata.parse(number, words), ttl=ttl, name=name)

    make.__name__ = make.__qualname__ = rtype
    make.__doc__ = f"A record of type {rtype}; `ttl` in seconds, `name` when it is not the question's."
    return make


class Verdict:
    """A way to answer without records."""

    __slots__ = ("name", "rcode")

    def __init__(self, name: str, rcode: int) -> None:
        self.name = name
        self.rcode = rcode

    def __repr__(self) -> str:
        return f"dns.{self.name}"


NXDOMAIN = Verdict("NXDOMAIN", rrtypes.NXDOMAIN)
"""The name does not exist."""
NODATA = Verdict("NODATA", rrtypes.NOERROR)
"""The name exists, without records of the type."""
REFUSED = Verdict("REFUSED", rrtypes.REFUSED)
SERVFAIL = Verdict("SERVFAIL", rrtypes.SERVFAIL)
DROP = Verdict("DROP", -1)
"""No reply at all."""
PASS = Verdict("PASS", -2)
"""The next step is asked."""


class Answer:
    """Records with everything that can be said about them.

    `share=True` lets the answer be given to others from C, for its TTL and in its
    view, until it is flushed; answers with `ede` or `scope` are not kept. `rcode` is
    a number or a name; `ede` a number, or a number and a text.
    `soa` (an RR) goes with a negative answer in place of the one made up. `scope` is the
    length of the prefix that the answer is for, where it depends on `q.subnet`.
    """

    __slots__ = ("additional", "authority", "ede", "rcode", "records", "scope", "share", "soa")

    def __init__(
        self,
        *records: RR,
        share: bool = False,
        rcode: int | str = rrtypes.NOERROR,
        ede: int | tuple[int, str] | None = None,
        authority: Iterable[RR] = (),
        additional: Iterable[RR] = (),
        soa: RR | None = None,
        scope: int = 0,
    ) -> None:
        self.records = records
        self.share = share
        self.rcode = rrtypes.RCODES[rcode.upper()] if isinstance(rcode, str) else rcode
        self.ede = (ede, "") if isinstance(ede, int) else ede
        self.authority = tuple(authority)
        self.additional = tuple(additional)
        self.soa = soa
        self.scope = scope


Returned = RR | Answer | Verdict | Iterable[RR]
