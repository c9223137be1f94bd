"""A store of zones: files in a folder, or single files; saved whole, reloaded without a gap.

A file that cannot be read keeps the zone that was served before and says why. A
zone that never loaded is answered SERVFAIL (not ready). Imports zone, lookup.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FormatError
from . import lookup, names
from .lookup import Zones
from .question import Question
from .result import Result
from .zone import Zone, ZoneError

_FILE_NAME = re.compile(r"(?!-)[A-Za-z0-9_*-]{1,63}(\.[A-Za-z0-9_*-]{1,63})*\Z")
SUFFIX = ".zone"


@dataclass
class Reloaded:
    """What a reload did: names of zones read anew, kept as they are, and gone; and what was wrong, by name."""

    loaded: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def file_name(name: str) -> str:
    """The file of a zone: its name without the final dot, and `.zone`; `root.zone` for the root.

    Raises `FormatError` for a name with anything but letters, digits, `-`, `_`, `*`
    and dots between labels, so that no name reaches another folder.
    """
    plain = name.rstrip(".") if name not in (".", "") else "root"
    if not _FILE_NAME.match(plain) or len(plain) > 200:
        raise FormatError(
            f"zone name {name!r} cannot be a file name: expected labels of letters, digits, '-' and '_' with dots."
        )
    return plain.lower() + SUFFIX


class ZoneStore:
    """Zones from a folder (every `*.zone` in it) and from single files; a step of a service.

    Nothing is read before `load`, which returns what happened. `reload` reads
    only files that changed. All of it may be called from any thread; questions
    see either the old zone or the new one.

    >>> store = ZoneStore("zones")
    >>> store.load().loaded
    ['example.org.']
    """

    recursive = False

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        files: Mapping[str, str | os.PathLike[str]] | None = None,
        *,
        strict: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.folder = Path(folder) if folder is not None else None
        self.single = {names.to_text(names.from_text(n)).lower(): Path(p) for n, p in (files or {}).items()}
        self.strict = strict
        self.progress = progress
        self.zones = Zones()
        self.problems: dict[str, str] = {}
        self._stamps: dict[Path, tuple[object, ...]] = {}
        self._owners: dict[Path, str] = {}
        self.changed: list[Callable[[Zone, Zone | None], None]] = []
        self.touched: list[Callable[[], None]] = []

    def ask(self, q: Question) -> Result | None:
        return lookup.asked(self.zones, q)

    # -- reading

    def load(self) -> Reloaded:
        """Read everything for the first time."""
        return self.reload()

    def reload(self, everything: bool = False) -> Reloaded:
        """Read what changed on disk; a bad file keeps its old zone."""
        report = Reloaded()
        wanted = self._wanted()
        for path, name in wanted.items():
            stamp = self._stamp(path)
            known = self._owners.get(path)
            if (
                not everything
                and stamp == self._stamps.get(path)
                and known is not None
                and known not in self.problems
            ):
                report.kept.append(known)
                continue
            self._read(path, name, report)
        for path in [p for p in self._owners if p not in wanted]:
            gone = self._owners.pop(path)
            self._stamps.pop(path, None)
            self.zones.drop(names.fold(names.from_text(gone)))
            self.problems.pop(gone, None)
            report.removed.append(gone)
        report.problems = dict(self.problems)
        self._touch()
        return report

    def _touch(self) -> None:
        """Zones were read, saved or removed: tell those who keep something made of them."""
        for tell in self.touched:
            tell()

    def _wanted(self) -> dict[Path, str | None]:
        found: dict[Path, str | None] = {path: name for name, path in self.single.items()}
        if self.folder is not None:
            for path in sorted(self.folder.glob("*" + SUFFIX)):
                found.setdefault(path, None)
        return found

    def _read(self, path: Path, name: str | None, report: Reloaded) -> None:
        called = name or self._owners.get(path) or names.to_text(_guess(path))
        try:
            zone = Zone.load(path, name, strict=self.strict, progress=self.progress)
        except (ZoneError, FormatError, OSError) as error:
            text = str(error) if not isinstance(error, OSError) else f"{path}: {error.strerror}"
            self.problems[called] = text
            self._owners.setdefault(path, called)
            key = names.fold(names.from_text(called))
            if key not in self.zones.by_key:
                waiting = Zone(names.from_text(called))
                waiting.state = "loading"
                self.zones.put(waiting)
            return
        self.problems.pop(called, None)
        self.problems.pop(zone.name.lower(), None)
        self._owners[path] = zone.name.lower()
        self._stamps[path] = self._stamp(path, zone.files)
        before = self.zones.by_key.get(zone.key)
        self.zones.put(zone)
        report.loaded.append(zone.name.lower())
        for tell in self.changed:
            tell(zone, before)

    def _stamp(self, path: Path, files: Iterable[Path] | None = None) -> tuple[object, ...]:
        """What tells that a zone's files have changed: size, time and inode of each."""
        if files is None:
            zone = self.zones.by_key.get(names.fold(names.from_text(self._owners.get(path, "."))))
            files = zone.files if zone is not None and zone.files else (path,)
        made: list[object] = []
        for each in files:
            try:
                stat = each.stat()
                made.append((str(each), stat.st_size, stat.st_mtime_ns, stat.st_ino))
            except OSError:
                made.append((str(each), None))
        return tuple(made)

    def is_as_read(self, zone: Zone) -> bool:
        """Whether this zone is ours and its files are still what they were when it was read or saved."""
        path = zone.path
        return (
            path is not None
            and path in self._owners
            and self._stamps.get(path) == self._stamp(path, zone.files)
        )

    # -- one zone

    def names(self) -> list[str]:
        """The names of all zones, sorted."""
        return sorted(zone.name for zone in self.zones)

    def get(self, name: str) -> Zone | None:
        """The zone of this very name."""
        return self.zones.by_key.get(names.fold(names.from_text(name)))

    def add(self, zone: Zone | str, name: str | None = None) -> Zone:
        """Take in a zone, or one made of master-file text, and save it."""
        made = Zone.from_text(zone, name) if isinstance(zone, str) else zone
        self.save(made)
        return made

    def save(self, zone: Zone) -> Path:
        """Write a zone to its file, whole or not at all, and serve it."""
        path = self._path(zone.name)
        write_whole(path, zone.to_text())
        zone.path, zone.files = path, (path,)
        before = self.zones.by_key.get(zone.key)
        self.zones.put(zone)
        self._owners[path] = zone.name.lower()
        self._stamps[path] = self._stamp(path, zone.files)
        for tell in self.changed:
            tell(zone, before)
        self._touch()
        return path

    def remove(self, name: str) -> None:
        """Delete a zone and its file. `LookupError` when there is none."""
        path = self._path(name)
        zone = self.get(name)
        if zone is None:
            raise LookupError(f"there is no zone {name!r}. Zones: {', '.join(self.names()) or 'none'}.")
        path.unlink(missing_ok=True)
        self.zones.drop(zone.key)
        self._owners.pop(path, None)
        self._stamps.pop(path, None)
        self._touch()

    def _path(self, name: str) -> Path:
        given = self.single.get(names.to_text(names.from_text(name)).lower())
        if given is not None:
            return given
        if self.folder is None:
            raise FormatError("this store has no folder to save zones in. Give it one: ZoneStore('zones').")
        return self.folder / file_name(name)


def _guess(path: Path) -> bytes:
    try:
        plain = path.name.removesuffix(SUFFIX)
        return names.ROOT if plain == "root" else names.from_text(plain)
    except FormatError:
        return names.from_text("invalid")


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: what reads it sees the old text or the new, also after a crash."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="latin-1") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
