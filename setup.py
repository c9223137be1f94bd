"""Builds the native core: plain C kernels in native/, bound by Cython.

Every `toolips_udp/_native/*.pyx` is one extension module; the C files that
belong to it stand in its first lines as `# distutils: sources = ...`. A C file
is linked into one module only. Without a compiler the install goes on and the
portable transport serves, unless TOOLIPS_UDP_REQUIRE_NATIVE=1.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
REQUIRED = os.environ.get("TOOLIPS_UDP_REQUIRE_NATIVE") == "1"
PURE = os.environ.get("TOOLIPS_UDP_PURE") == "1" or sys.platform == "win32"
# -ffp-contract=off: the C code rounds as Python does, on machines that multiply and add in one step too
FLAGS = ["-O2", "-g0", "-std=gnu11", "-fno-strict-aliasing", "-fvisibility=hidden", "-ffp-contract=off"]
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]


def extensions():
    if PURE:
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if REQUIRED:
            raise
        return []
    from setuptools import Extension

    found = []
    for pyx in sorted((ROOT / "toolips_udp/_native").glob("*.pyx")):
        found.append(
            Extension(
                f"toolips_udp._native.{pyx.stem}",
                [f"toolips_udp/_native/{pyx.name}"],
                include_dirs=["native"],
                extra_compile_args=[*FLAGS, *WARNINGS, *os.environ.get("TOOLIPS_UDP_CFLAGS", "").split()],
                extra_link_args=os.environ.get("TOOLIPS_UDP_LDFLAGS", "").split(),
                depends=[str(p) for p in (ROOT / "native").glob("*.h")],
            )
        )
    return cythonize(
        found,
        language_level=3,
        compiler_directives={"binding": True, "embedsignature": False},
        quiet=True,
    )


class Build(build_ext):
    """A failed build leaves the portable transport, with one line that says so."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        try:
            super().run()
        except Exception as error:
            self.give_up(error)

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except Exception as error:
            self.give_up(error)

    def give_up(self, error):
        if REQUIRED:
            raise error
        if not self.gave_up:
            why = re.sub(r"Command '\['([^']+)'.*\]'", r"\1", str(error)).rstrip(".")  # without its forty flags
            print(f"toolips_udp: no native core ({why}); the portable transport will serve.", file=sys.stderr)
        self.gave_up = True

    gave_up = False


class Headers(build_py):
    """The C headers go into the wheel, where get_include() finds them."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "toolips_udp/_native/include")
        target.mkdir(parents=True, exist_ok=True)
        for header in (ROOT / "native").glob("*.h"):
            shutil.copy(header, target)


class Sdist(sdist):
    """The same files make the same archive, byte by byte: in order, of one time, and nobody's."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        if format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)
        epoch, name = time_of_the_sources(), f"{base_name}.tar.gz"
        with open(name, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, epoch) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for path in sorted(Path(base_dir).rglob("*"), key=str):
                    if path.is_file():
                        archive.add(path, filter=lambda entry: anonymous(entry, epoch))
        return name


def anonymous(entry, epoch):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime, entry.mode = epoch, 0o755 if entry.mode & 0o100 else 0o644
    return entry


def time_of_the_sources():
    """SOURCE_DATE_EPOCH, else when the last commit was made, else the first day of this project's year."""
    if os.environ.get("SOURCE_DATE_EPOCH"):
        return int(os.environ["SOURCE_DATE_EPOCH"])
    words = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(words, capture_output=True, check=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return 1_767_225_600


setup(ext_modules=extensions(), cmdclass={"build_ext": Build, "build_py": Headers, "sdist": Sdist})
