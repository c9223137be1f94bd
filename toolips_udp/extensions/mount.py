"""mount: a file or a folder tree at a path of HTTP mode. Needs the extra `http`.

Starlette's StaticFiles does the work: it looks at the disk for each request,
never follows a path out of the folder, and answers 304 to who has the file.
Imports handlers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import StartError, missing_extra
from ..handlers import Route


class Mount(Route):
    """A file or folder that is served as it lies on the disk. Made by `mount`."""

    def __init__(self, path: str, source: str | os.PathLike[str]) -> None:
        super().__init__(path, self._serve, methods=("GET", "HEAD"))
        if "{" in path or path == "404":
            raise ValueError(
                f"{path!r} is no place for files. Expected a plain path, as in mount('/files', 'public')"
            )
        self.source = Path(source)
        self.is_async = True
        self._files: Any = None

    @property
    def folder(self) -> bool:
        """Whether a folder is mounted, rather than one file."""
        return self.source.is_dir()

    def check(self) -> None:
        """Raise `StartError` when there is nothing to serve."""
        if not self.source.exists():
            raise StartError(
                f"mount({self.path!r}, {str(self.source)!r}): there is no such file or folder. "
                f"Fix: check the path; it is read from {os.getcwd()}",
                code="no-such-file",
            )
        try:
            from starlette.staticfiles import StaticFiles
        except ImportError:
            raise missing_extra("mount", "http") from None
        root = self.source if self.folder else self.source.parent
        self._files = StaticFiles(directory=root.resolve(), html=self.folder)

    async def _serve(self, c: Any) -> None:
        from starlette.exceptions import HTTPException
        from starlette.responses import RedirectResponse

        name = c.params.get("file") if self.folder else self.source.name
        if name is None and self.path != "/":
            c.respond(RedirectResponse(self.path.rstrip("/") + "/"))
            return
        relative = os.path.normpath(os.path.join(*(name or ".").split("/")))
        if "\0" in relative or "\\" in relative or relative.startswith((os.sep, "..")):
            raise HTTPException(404)
        c.respond(await self._files.get_response(relative, c.scope))


def mount(path: str, source: str | os.PathLike[str]) -> Mount:
    """Serve a file or a folder tree at `path`: `files = mount("/files", "public")`.

    Files are read again when they change. Nothing outside the folder is ever
    served, also not by way of `..` or a symbolic link. A missing source is a
    `StartError` at start. A folder answers with its `index.html`, if it has one.
    """
    return Mount(path, source)
