"""Make a project in a new folder: module, settings, test, README. Works offline.

    toolips-udp new NewServer
    toolips-udp new NewServer --template tcp

An existing folder is refused.
"""

from __future__ import annotations

import argparse

from ..templates import kinds, module_name, new_app


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the folder to make, as NewServer")
    parser.add_argument(
        "--template", metavar="KIND", default="udp", help=f"one of {', '.join(kinds())} [udp]"
    )


def run(options: argparse.Namespace) -> int:
    folder = new_app(options.template, options.name)
    module = module_name(options.name)
    print(
        f"{folder} is there. Next: cd {folder} && toolips-udp run {module}. "
        "Its test: pip install -e '.[test]' && python -m pytest"
    )
    return 0
