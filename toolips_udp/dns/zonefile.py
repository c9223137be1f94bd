"""Reads master files: all of RFC 1035 section 5, `$TTL`, `$INCLUDE`, `$GENERATE`, RFC 3597.

A line without quotes, parentheses, comments, escapes and directives takes a
short way (split at blanks, caches for names and times); anything else goes
through `scanner`. Every finding has file, line and column; reading goes on
after one, so that a check reports them all. Imports zone, rdata, scanner.
"""

from __future__ import annotations

import gc
import re
import socket
from collections.abc import Callable
from pathlib import Path

from ..errors import FormatError
from . import names, rdata, rrtypes
from .check import check
from .fields import parse_ttl
from .scanner import MOST_OCTETS, SPECIAL, Entry, scan
from .zone import Problem, RRset, Zone, ZoneError

MOST_INCLUDES = 8
MOST_GENERATED = 65_536
MOST_PROBLEMS = 100
"""Errors after which reading stops."""
MOST_WARNINGS = 1000
MOST_RECORDS_PER_RRSET = 100
MOST_TYPES_PER_NAME = 100
_NAME_CACHE = 65_536

_LENGTHS = [b"", *(bytes((n,)) for n in range(1, 64))]
_SAME_WHEN_FOLDED = frozenset((rrtypes.NS, rrtypes.CNAME, rrtypes.PTR, rrtypes.DNAME))


def load(
    path: Path, origin: str | None, *, strict: bool = False, progress: Callable[[int], None] | None = None
) -> Zone:
    """See `Zone.load`."""
    text = path.read_bytes().decode("latin-1")
    fallback = path.name.removesuffix(".zone").removesuffix(".txt").removesuffix(".db")
    reader = Reader(str(path), path.parent, progress)
    zone = reader.zone(text, origin, fallback or ".", strict)
    zone.path = path
    zone.files = tuple(reader.files)
    return zone


def read(text: str, origin: str | None, *, strict: bool = False, fallback: str | None = None) -> Zone:
    """See `Zone.from_text`. `fallback` completes names where neither `origin` nor `$ORIGIN` does."""
    return Reader("", None, None).zone(text, origin, fallback, strict)


class Reader:
    """One reading of one zone, with its includes."""

    def __init__(self, file: str, directory: Path | None, progress: Callable[[int], None] | None) -> None:
        self.file = file
        self.directory = directory.resolve() if directory else None
        self.progress = progress
        self.files: list[Path] = [Path(file)] if file else []
        self.file_names = [file]
        self.nodes: dict[bytes, dict[int, RRset]] = {}
        self.problems: list[Problem] = []
        self.errors = self.unsaid = 0
        self.records = 0
        self.ttl: int | None = None
        self.last_ttl: int | None = None
        self.origin: bytes | None = None
        self.owner: bytes | None = None
        self.cache: dict[str, bytes] = {}
        self.ttls: dict[str, int] = {}
        self.depth = 0
        self.next_report = 100_000
        self.soa: RRset | None = None

    def zone(self, text: str, origin: str | None, fallback: str | None, strict: bool) -> Zone:
        """Read the text and make the zone of it; `ZoneError` with every finding when it cannot be."""
        given = names.from_text(origin) if origin is not None else None
        self.origin = given or (names.from_text(fallback) if fallback else None)
        self.apex = names.fold(given) if given else None
        running = gc.isenabled()
        gc.disable()  # a million small objects and no cycles among them
        try:
            self.lines(text)
            zone = self.finish(given)
        finally:
            if running:
                gc.enable()
        if self.unsaid:
            self.problems.append(Problem(f"{self.unsaid} more warnings.", self.file, error=False))
        check(zone, self.problems, self.where)
        if strict:
            for problem in self.problems:
                problem.error = True
        if any(problem.error for problem in self.problems):
            raise ZoneError(self.problems)
        zone.warnings = self.problems
        return zone

    def where(self, rrset: RRset) -> tuple[str, int]:
        """File and line of an RRset's first record."""
        return self.file_names[rrset.place >> 40], rrset.place & 0xFFFFFFFFFF

    def finish(self, given: bytes | None) -> Zone:
        if given is None:
            if self.soa is None:
                self.problem("no SOA record. A zone has exactly one, at its own name; add it.")
                given = self.origin or names.ROOT
            else:
                given = self.soa.owner
        apex = names.fold(given)
        outside = [key for key in self.nodes if not names.encloses(apex, key)]
        for key in outside:
            for rrset in self.nodes.pop(key).values():
                file, line = self.where(rrset)
                text = (
                    f"{names.to_text(rrset.owner)} is outside the zone {names.to_text(given)} and is ignored."
                )
                self.found(Problem(text, file, line, error=False))
        zone = Zone(self.nodes[apex][rrtypes.SOA].owner if rrtypes.SOA in self.nodes.get(apex, {}) else given)
        zone.nodes = nodes = self.nodes
        nodes.setdefault(apex, {})
        for key in list(nodes):
            if key != apex and key[1 + key[0] :] not in nodes:
                zone.fill(key)
        return zone

    # -- findings

    def problem(self, text: str, line: int = 0, column: int = 0, error: bool = True) -> None:
        self.found(Problem(text, self.file, line, column, error))

    def found(self, problem: Problem) -> None:
        """Keep a finding: of errors as many as are told, of warnings so many and how many more there were."""
        if problem.error:
            self.errors += 1
        elif len(self.problems) - self.errors >= MOST_WARNINGS:
            self.unsaid += 1
            return
        self.problems.append(problem)
        if self.errors >= MOST_PROBLEMS:
            raise ZoneError(self.problems)

    # -- lines

    def lines(self, text: str) -> None:
        lines = text.split("\n")
        count, at = len(lines), 0
        while at < count:
            line = lines[at]
            at += 1
            try:
                if len(line) > MOST_OCTETS:
                    raise FormatError(f"a line of {len(line)} octets: expected at most {MOST_OCTETS}.")
                if SPECIAL(line):
                    at = self.special(lines, at)
                    continue
                words = line.split()
                if not words:
                    continue
                if line[0] in " \t":
                    self.record(words, 0, at)
                else:
                    self.owner = self.name(words[0])
                    self.record(words, 1, at)
            except rdata.WordError as error:
                self.problem(str(error), at, _column(line, error.at))
            except FormatError as error:
                if isinstance(error, ZoneError):
                    raise
                self.problem(str(error), at, 1)

    def special(self, lines: list[str], at: int) -> int:
        """One entry that needs the scanner; returns the index of the line after it."""
        first = at
        text = lines[at - 1]
        try:
            entry = scan(text)
            size = len(text)
            gathered = [text]
            while not entry.closed:
                if at >= len(lines) or size > MOST_OCTETS:
                    end = "the file ends" if at >= len(lines) else f"the record is over {MOST_OCTETS} octets"
                    raise FormatError(f"'(' is not closed before {end}. Add ')'.")
                step = min(
                    len(lines), at + len(gathered)
                )  # doubling, so that a long record is not scanned in squares
                gathered += lines[at:step]
                size += sum(len(line) + 1 for line in lines[at:step])
                at = step
                entry = scan("\n".join(gathered))
            at = first + self._lines_used(gathered, entry)
            entry = scan("\n".join(gathered[: at - first + 1])) if at - first + 1 < len(gathered) else entry
        except FormatError as error:
            self.problem(str(error), first, 1)
            return at
        if entry.words:
            self.entry(entry, text[0] in " \t", first)
        return at

    @staticmethod
    def _lines_used(gathered: list[str], entry: Entry) -> int:
        """How many lines after the first belong to the entry (doubling may have taken too many)."""
        low, high = 0, len(gathered) - 1
        while low < high:
            middle = (low + high) // 2
            if _closed(gathered[: middle + 1]):
                high = middle
            else:
                low = middle + 1
        return low

    def entry(self, entry: Entry, blank: bool, line: int) -> None:
        words = entry.words
        try:
            if words[0][0:1] == "$" and type(words[0]) is str:
                self.directive(words, line)
            elif blank:
                self.record(words, 0, line)
            else:
                self.owner = self.name(words[0])
                self.record(words, 1, line)
        except rdata.WordError as error:
            below, column = entry.places[max(0, min(error.at, len(words) - 1))]
            self.problem(str(error), line + below, column + 1)
        except FormatError as error:
            if isinstance(error, ZoneError):
                raise
            self.problem(str(error), line, 1)

    # -- parts of a record

    def name(self, word: str) -> bytes:
        found = self.cache.get(word)
        if found is None:
            found = self.make_name(word)
            if len(self.cache) >= _NAME_CACHE:
                self.cache.clear()
            self.cache[word] = found
        return found

    def make_name(self, word: str) -> bytes:
        try:
            body, tail = (word[:-1], names.ROOT) if word[-1] == "." else (word, self.origin)
            if "\\" not in word and tail is not None and word != "@":
                parts = body.encode("latin-1").split(b".")
                made = b"".join([_LENGTHS[len(part)] + part for part in parts]) + tail
                if b"" not in parts and len(made) <= names.MOST_OCTETS:
                    return made
        except IndexError:
            pass
        return names.from_text(word, self.origin)

    def time(self, word: str) -> int:
        found = self.ttls.get(word)
        if found is None:
            found = parse_ttl(word)
            if len(self.ttls) < 1000:
                self.ttls[word] = found
        return found

    def header(self, words: list[str], at: int) -> tuple[int, int | None, int]:
        """TTL, class and type in any order that RFC 1035 allows: type, TTL or None, index after them."""
        ttl: int | None = None
        classed = False
        while True:
            if at >= len(words):
                raise rdata.WordError("a type is missing. Expected: name [TTL] [class] type data.", at - 1)
            word = words[at]
            at += 1
            rtype = rrtypes.TYPES.get(word)
            if rtype is not None:
                return rtype, ttl, at
            if word == "IN" and not classed:
                classed = True
            elif word[0:1].isdigit() and ttl is None:
                try:
                    ttl = self.time(word)
                except FormatError as error:
                    raise rdata.WordError(str(error), at - 1) from None
            else:
                upper = word.upper()
                if not classed and (upper in rrtypes.CLASSES or upper.startswith("CLASS")):
                    if rrtypes.class_number(upper) != rrtypes.IN:
                        raise rdata.WordError(f"class {word}: only IN is served.", at - 1)
                    classed = True
                    continue
                try:
                    return rrtypes.type_number(word), ttl, at
                except FormatError as error:
                    raise rdata.WordError(str(error), at - 1) from None

    def record(self, words: list[str], at: int, line: int) -> None:
        owner = self.owner
        if owner is None:
            raise FormatError("the first record has no owner. Begin the line with a name.")
        rtype = rrtypes.TYPES.get(words[at]) if at < len(words) else None
        if rtype is None:
            rtype, ttl, at = self.header(words, at)
        else:
            ttl, at = None, at + 1
        if rtype in rrtypes.META:
            raise FormatError(
                f"type {rrtypes.type_name(rtype)} is a question type and cannot stand in a zone."
            )
        if rtype == 1 and len(words) == at + 1:
            try:
                data = socket.inet_pton(socket.AF_INET, words[at])
            except (OSError, ValueError):
                data = rdata.parse(rtype, words, self.origin, at)
        elif rtype in _SAME_WHEN_FOLDED and len(words) == at + 1:
            data = self.name(words[at])
        else:
            data = rdata.parse(rtype, words, self.origin, at)
        if ttl is None:
            ttl = self.default_ttl(rtype, data)
        else:
            self.last_ttl = ttl
        self.put(owner, rtype, ttl, data, line)

    def default_ttl(self, rtype: int, data: bytes) -> int:
        if self.ttl is not None:
            return self.ttl
        if self.last_ttl is not None:
            return self.last_ttl
        if rtype == rrtypes.SOA:  # the first record: its MINIMUM was the default before RFC 2308
            self.last_ttl = int.from_bytes(data[-4:], "big")
            return self.last_ttl
        raise FormatError(
            "no TTL: the record has none, and there is neither $TTL nor an earlier one. Add $TTL 3600."
        )

    def put(self, owner: bytes, rtype: int, ttl: int, data: bytes, line: int) -> None:
        self.records += 1
        if self.records >= self.next_report:
            self.next_report += 100_000
            if self.progress:
                self.progress(self.records)
        key = owner.lower()
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = {}
        found = node.get(rtype)
        if found is None:
            if len(node) >= MOST_TYPES_PER_NAME:
                raise FormatError(f"{names.to_text(owner)} has over {MOST_TYPES_PER_NAME} types.")
            found = node[rtype] = RRset(owner, rtype, ttl, [data], (len(self.file_names) - 1) << 40 | line)
            if rtype == rrtypes.SOA and self.soa is None:
                self.soa = found
            return
        if found.ttl != ttl and rtype != rrtypes.RRSIG:
            self.problem(
                f"{names.to_text(owner)} {rrtypes.type_name(rtype)} has TTLs {found.ttl} and {ttl}; "
                "one RRset has one TTL, the lowest is used.", line, 1, error=False)  # fmt: skip
            found.ttl = min(found.ttl, ttl)
        if data in found.rdatas or (
            rtype in _SAME_WHEN_FOLDED and data.lower() in [other.lower() for other in found.rdatas]
        ):
            text = f"{names.to_text(owner)} {rrtypes.type_name(rtype)} stands twice; one is kept."
            self.problem(text, line, 1, error=False)
            return
        if len(found.rdatas) >= MOST_RECORDS_PER_RRSET:
            raise FormatError(
                f"{names.to_text(owner)} {rrtypes.type_name(rtype)}: over {MOST_RECORDS_PER_RRSET} records."
            )
        found.rdatas.append(data)

    # -- directives

    def directive(self, words: list[str], line: int) -> None:
        word = words[0].upper()
        if word == "$ORIGIN" and len(words) == 2:
            self.origin = names.from_text(words[1], self.origin)
            self.cache.clear()
        elif word == "$TTL" and len(words) == 2:
            self.ttl = self.time(words[1])
        elif word == "$INCLUDE" and len(words) in (2, 3):
            self.include(words[1], words[2] if len(words) == 3 else None, line)
        elif word == "$GENERATE" and len(words) >= 4:
            self.generate(words, line)
        elif word in ("$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE"):
            form = {"$ORIGIN": "name", "$TTL": "time", "$INCLUDE": "file [origin]"}.get(
                word, "from-to[/step] name type data"
            )
            raise FormatError(f"{word} has {len(words) - 1} words. Expected: {word} {form}.")
        else:
            raise FormatError(f"unknown directive {words[0]}. Expected $ORIGIN, $TTL, $INCLUDE or $GENERATE.")

    def include(self, target: str, origin: str | None, line: int) -> None:
        if self.directory is None:
            raise FormatError("$INCLUDE is allowed only in a zone that was read from a file.")
        if self.depth >= MOST_INCLUDES:
            raise FormatError(f"$INCLUDE is deeper than {MOST_INCLUDES} files. Does {target} include itself?")
        path = (Path(self.file).parent / names.unescape(target).decode("utf-8", "replace")).resolve()
        if not path.is_relative_to(self.directory):
            raise FormatError(f"$INCLUDE {target} is outside the zone's folder {self.directory}.")
        try:
            text = path.read_bytes().decode("latin-1")
        except OSError as error:
            raise FormatError(f"$INCLUDE {target} cannot be read: {error.strerror}.") from None
        saved = self.file, self.origin, self.owner
        self.file = str(path)
        self.files.append(path)
        self.file_names.append(self.file)
        self.depth += 1
        if origin is not None:
            self.origin = names.from_text(origin, self.origin)
        self.cache.clear()
        try:
            self.lines(text)
        finally:
            self.file, self.origin, self.owner = saved
            self.file_names.append(self.file)
            self.depth -= 1
            self.cache.clear()

    def generate(self, words: list[str], line: int) -> None:
        match = re.fullmatch(r"(\d{1,10})-(\d{1,10})(?:/(\d{1,10}))?", words[1])
        if not match or int(match[2]) < int(match[1]) or match[3] == "0":
            raise FormatError(f"$GENERATE range is {words[1]!r}: expected from-to[/step], as in 1-254.")
        steps = range(int(match[1]), int(match[2]) + 1, int(match[3] or 1))
        if len(steps) > MOST_GENERATED:
            raise FormatError(f"$GENERATE makes {len(steps)} records: at most {MOST_GENERATED}.")
        owner = self.owner
        for number in steps:
            made = [type(word)(_substitute(word, number)) for word in words[2:]]
            self.owner = self.make_name(made[0])
            try:
                self.record(made, 1, line)
            except rdata.WordError as error:
                raise rdata.WordError(f"{error} ($GENERATE at {number})", error.at + 2) from None
        self.owner = owner


def _closed(lines: list[str]) -> bool:
    try:
        return scan("\n".join(lines)).closed
    except FormatError:
        return True


def _column(line: str, word: int) -> int:
    """Where the word with this index begins, from 1."""
    found = [match.start() for match in re.finditer(r"\S+", line)]
    return found[max(0, min(word, len(found) - 1))] + 1 if found else 1


_PLACE = re.compile(r"\\\$|\$\$|\$(?:\{(-?\d+)(?:,(\d{1,3})(?:,([doxXnN]))?)?\})?")


def _substitute(word: str, number: int) -> str:
    """`$` in a $GENERATE template: plain, `${offset,width,base}`, and `\\$` for itself."""

    def one(match: re.Match[str]) -> str:
        if match[0] in ("\\$", "$$"):
            return "$"
        value, width, base = number + int(match[1] or 0), int(match[2] or 0), match[3] or "d"
        if value < 0:
            raise FormatError(f"$GENERATE offset {match[1]} makes {value}, which is below 0.")
        if base in "nN":
            digits = format(value, "x")
            nibbles = ".".join(reversed(digits.rjust((width + 1) // 2, "0")))
            return nibbles.upper() if base == "N" else nibbles
        return format(value, base).rjust(width, "0")

    return _PLACE.sub(one, word)
