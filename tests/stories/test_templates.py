"""Projects made by new_app: they start, pass their own test, and are clean under mypy --strict."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolips_udp import HTTP, TCP, UDP, new_app
from toolips_udp.templates import TemplateError, kinds, module_name

ROOT = Path(__file__).parents[2]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
MODES = {"dns": ["udp", "tcp"], "game": ["udp"]}
"""The flags that say where a project of a kind serves, where they are not the kind's own name."""


def run(folder, *words):
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=folder, env=ENVIRON, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr, "a new project begins without warnings"
    return done.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", kinds())
def test_a_tc12_a_generated_project_starts_passes_its_own_test_and_stops(kind, tmp_path):
    if kind == "http":
        pytest.importorskip("htpy", reason="needs the extra http: pip install 'toolips_udp[http]'")
    folder = new_app(kind, "NewServer", into=tmp_path)
    names = {"README.md", "pyproject.toml", "toolips_udp.toml"}
    assert names <= {path.name for path in folder.iterdir()}
    assert not [path for path in folder.rglob("*") if path.is_file() and "$" in path.read_text()]
    assert "passed" in run(folder, "pytest", "-q", "-p", "no:cacheprovider")
    run(folder, "mypy", "--no-incremental", "--cache-dir", os.devnull)
    run(folder, "ruff", "check", "--isolated", "--line-length", "110", ".")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = [word for mode in MODES.get(kind, [kind]) for word in (f"--{mode}", address)]
    command = [sys.executable, "-m", "toolips_udp", "run", "new_server", *flags]
    with subprocess.Popen(command, cwd=folder, env=ENVIRON, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = server.stderr.readline()
            while "serves" not in line:
                assert line, "it did not start"
                line = server.stderr.readline()
            assert address in line
            time.sleep(0.1)
        finally:
            server.terminate()
            rest = server.stderr.read()
        assert server.wait(60) == 0, rest


def test_tc_17_one_argument_means_udp_and_modes_or_names_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "UDP" in (new_app("first-app") / "first_app.py").read_text()
    assert "TCP" in (new_app(TCP, "Second") / "second.py").read_text()
    assert "HTTP" in (new_app("HTTP", "third") / "third.py").read_text()
    assert new_app(UDP, "fourth").name == "fourth" and new_app(HTTP, "fifth").name == "fifth"


def test_tc_17_an_existing_folder_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("kept")
    with pytest.raises(TemplateError, match="nothing is ever written over"):
        new_app("udp", "mine", into=tmp_path)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kept.txt"]


@pytest.mark.parametrize("name", ["", "1st", "../out", "a/b", "a b", "class", "json", "ToolipsUdp\0"])
def test_a_name_that_is_no_module_is_refused(name, tmp_path):
    with pytest.raises(TemplateError):
        new_app("udp", name, into=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_template_names_the_known_ones():
    with pytest.raises(TemplateError, match=r"Did you mean 'udp'\? Found: .*http"):
        new_app("upd", "x")


def test_module_names():
    assert [module_name(n) for n in ("NewServer", "new-server", "DNSServer", "a1B2")] == [
        "new_server",
        "new_server",
        "dnsserver",
        "a1_b2",
    ]


def test_the_command_makes_a_project_and_says_what_is_next(tmp_path):
    said = run(tmp_path, "toolips_udp", "new", "NewServer", "--template", "tcp")
    assert "cd NewServer" in said and (tmp_path / "NewServer/new_server.py").exists()
