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
    assert cli.summary(name)[0].isupper() and cli.summary(name).endswith(".")
    parser = cli.parser_of(name, cli.command(name))
    assert f"\n    toolips-udp {name}" in parser.description, "an example, set off from the text"


def test_help_of_a_command_can_be_asked_for_in_words(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["help", "doctor"])
    assert caught.value.code == 0 and "toolips-udp doctor --json" in capsys.readouterr().out


def test_an_unknown_flag_is_a_usage_error_of_one_line_with_a_suggestion(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", "--strickt"])
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert "there is no flag --strickt. Did you mean '--strict'?" in said and said.count("\n") == 1


def test_a_list_on_the_command_line_is_repeated_or_parted_by_commas():
    parser = cli.parser_of("run", cli.command("run"))
    given = parser.parse_args(["echo.py", "--pin", "0,1", "--pin", "2", "--tls", "a.pem,a.key"])
    assert given.pin == ["0", "1", "2"] and given.tls == ["a.pem", "a.key"]


@pytest.mark.parametrize(
    "words",
    [
        ["send", "127.0.0.1:99999", "x"],
        ["send", "127.0.0.1", "x"],
        ["send", "nobody.invalid:2000", "x"],
        ["lag", "--to", "127.0.0.1"],
        ["lag", "--to", "127.0.0.1:9", "--up", "terrible"],
        ["dns", "query", "a.test", "@127.0.0.1:99999"],
        ["dns", "query"],
        ["dns", "ctl", "frobnicate"],
    ],
    ids=" ".join,
)
def test_words_that_make_no_sense_are_one_line_and_a_usage_error(words, capsys):
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("toolips-udp: [") and said.count("\n") == 1 and "Traceback" not in said


@pytest.mark.parametrize("words", [["dns", "explain", "nofile", "a.test"], ["dns", "zone", "list", "nofolder"]])
def test_a_file_that_is_not_there_is_named_without_a_traceback(words, capsys):
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert "] nof" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "line", "what"),
    [
        ("import os\n1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("def main(c)\n    pass\n", 1, "SyntaxError: expected ':'"),
        ("import no_such_thing_at_all\n", 1, "No module named 'no_such_thing_at_all'"),
    ],
)
def test_a_module_that_raises_is_told_with_its_own_file_and_line(source, line, what, tmp_path, capsys):
    path = tmp_path / "broken_one.py"
    path.write_text(source)
    for command in ("run", "routes"):
        assert cli.main([command, str(path)]) == 3
        said = capsys.readouterr().err
        last = said.splitlines()[-1]
        assert last.startswith("toolips-udp: [broken-module] broken_one.py cannot be loaded: ")
        assert f"{path}:{line}" in last and what in last
        assert "toolips_udp/cli" not in said and "importlib" not in said


@pytest.mark.parametrize("given", ["{folder}", "./{folder}"])
@pytest.mark.parametrize("command", ["run", "routes"])
def test_a_folder_is_told_from_a_module_and_its_files_are_named(command, given, tmp_path, capsys, monkeypatch):
    folder = tmp_path / f"a_project_{command}_{len(given)}"
    folder.mkdir()
    (folder / "hello.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, given.format(folder=folder.name)]) == 3
    said = capsys.readouterr().err
    assert f"[no-such-module] {str(folder)!r} is a folder" in said and "Found in it: hello.py" in said


@pytest.mark.parametrize(
    "flag", ["--token=x", "--secure", "--max-message=9", "--minimum-version=9", "--hide-token", "--log-level=error"]
)
def test_a_flag_that_a_module_with_its_own_server_would_ignore_is_refused(flag, tmp_path, capsys):
    path = tmp_path / "control_of_its_own.py"
    path.write_text("from toolips_udp import messages\nserver = messages.Server('test')\n")
    assert cli.main(["messages", "serve", str(path), flag]) == 2
    assert f"says its {flag.partition('=')[0]} itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--token-length", "0"],
        ["serve", "--token-choices", "aaa"],
        ["serve", "--log-level", "loud"],
        ["serve", "--max-message", "0"],
        ["serve", "--minimum-version", "new"],
        ["connect", "-t", "x", "add", "--timeout", "0"],
        ["connect", "-t", "x", "add", "--minimum-version", "new"],
        ["connect", "-t", "x", "add", "-a", "127.0.0.1:99999"],
        ["connect", "-t", "x", "add", "-a", "127.0.0.1"],
    ],
    ids=" ".join,
)
def test_a_setting_of_messages_that_cannot_be_is_one_line_and_a_usage_error(words, capsys):
    assert cli.main(["messages", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("toolips-udp: [") and said.count("\n") == 1 and "Traceback" not in said


@pytest.mark.parametrize("core", ["-1", "100000", str(2**70)])
def test_a_core_that_there_is_not_is_told_in_one_line(core, tmp_path, capsys):
    path = tmp_path / "pinned_echo.py"
    path.write_text("from toolips_udp import handler\n@handler\ndef main(c): ...\n")
    assert cli.main(["run", str(path), "--udp", "127.0.0.1:0", f"--pin={core}"]) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"[bad-setting] pin={core}: this thread cannot be kept on that core" in said


def test_sealing_without_its_extra_names_the_fix(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert cli.main(["messages", "serve", "--secure"]) == 1
    assert "Fix: pip install 'toolips_udp[secure]'" in capsys.readouterr().err


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


def test_new_tells_the_command_that_serves_what_it_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "NewServer"]) == 0
    module = capsys.readouterr().out.partition("toolips-udp run ")[2].partition(".")[0]
    assert (tmp_path / "NewServer" / f"{module}.py").is_file()
    monkeypatch.chdir(tmp_path / "NewServer")
    assert cli.main(["routes", f"{module}.py"]) == 0
