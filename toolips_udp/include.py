"""Where the C headers are, for those who write a native stage. Ground floor."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def get_include() -> str:
    """The folder of `tudp.h`, to be given to a C compiler or to a setuptools `Extension`.

    In Cython, `cimport` the same declarations from `toolips_udp._native.tudp`.
    A FileNotFoundError says that the package was installed without its headers.

    >>> Extension("stage", ["stage.pyx"], include_dirs=[toolips_udp.get_include()])
    """
    for folder in (_HERE / "_native/include", _HERE.parent / "native"):
        if (folder / "tudp.h").exists():
            return str(folder)
    raise FileNotFoundError(
        f"tudp.h is neither in {_HERE / '_native/include'} nor beside the package. "
        "Fix: pip install --force-reinstall toolips_udp"
    )
