"""The command line as such: finding commands, help, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from toolips_udp import cli


def test_without_a_command_the_overview_is_printed_and_the_code_is_usage(capsys):
    assert cli.main([]) == 2
    assert "doctor" in capsys.readouterr().out
    assert cli.main(["--help"]) == 0


def test_a_misspelt_command_gets_a_suggestion(capsys):
    assert cli.main(["doktor"]) == 2
    assert "Did you mean 'doctor'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.names())
def test_every_command_has_a_summary_and_help_with_an_example(name):
    assert 10 < len(cli.summary(name)) < 110
    text = cli.parser_of(name, cli.command(name)).format_help()
    assert f"toolips-udp {name}" in text


def test_an_unknown_flag_is_a_usage_error():
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", "--nonsense"])
    assert caught.value.code == 2


def test_only_the_asked_command_is_imported():
    code = (
        "import sys; from toolips_udp.cli import main; main(['doctor', '--json']);"
        "print([m for m in sys.modules if m.startswith('toolips_udp.cli.')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "toolips_udp.cli.doctor" in done.stderr and "toolips_udp.cli.run" not in done.stderr


def test_python_m_toolips_udp_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "toolips_udp", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("toolips_udp ")
