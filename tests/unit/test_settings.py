"""Settings: flag over environment over file over default, each with its source."""

from __future__ import annotations

import pytest

from toolips_udp.settings import Setting, SettingError, Value, read_table, resolve, unknown_variables

PORT = Setting("recv-buffer", "bytes", int, 4096)
LIST = Setting("udp", "addresses", str, (), many=True)
FLAG = Setting("pin", "one core each", bool, False)


def test_a_flag_wins_over_the_environment_that_over_a_file_that_over_the_default():
    environ, table = {"TOOLIPS_UDP_RECV_BUFFER": "2"}, {"recv_buffer": 3}
    assert resolve([PORT], {"recv_buffer": 1}, environ, table, "x.toml")["recv_buffer"] == Value(1, "flag")
    assert resolve([PORT], {}, environ, table, "x.toml")["recv_buffer"] == Value(2, "environment")
    assert resolve([PORT], {}, {}, table, "x.toml")["recv_buffer"] == Value(3, "x.toml")
    assert resolve([PORT], {}, {}, {})["recv_buffer"] == Value(4096, "default")


def test_a_list_is_separated_by_commas_in_the_environment():
    assert resolve([LIST], {}, {"TOOLIPS_UDP_UDP": "a:1,b:2"}, {})["udp"].value == ["a:1", "b:2"]
    assert resolve([LIST], {}, {}, {"udp": ["a:1"]}, "x.toml")["udp"].value == ["a:1"]


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("off", False), ("", False)])
def test_a_switch_reads_the_usual_words(text, value):
    assert resolve([FLAG], {}, {"TOOLIPS_UDP_PIN": text}, {})["pin"].value is value


@pytest.mark.parametrize(
    ("setting", "environ", "table", "says"),
    [
        (
            PORT,
            {"TOOLIPS_UDP_RECV_BUFFER": "many"},
            {},
            "from TOOLIPS_UDP_RECV_BUFFER is 'many', expected a whole number",
        ),
        (PORT, {}, {"recv_buffer": True}, "from x.toml is True, expected a whole number"),
        (PORT, {}, {"recv_buffer": 1.5}, "from x.toml is 1.5, expected a whole number"),
        (FLAG, {"TOOLIPS_UDP_PIN": "perhaps"}, {}, "expected true or false"),
        (FLAG, {}, {"pin": 1}, "expected true or false"),
        (LIST, {}, {"udp": 5}, "expected a list"),
        (PORT, {}, {"recv_bufer": 1}, "unknown setting 'recv_bufer'. Did you mean 'recv_buffer'?"),
    ],
)
def test_a_wrong_value_or_key_says_where_it_stands_and_what_is_expected(setting, environ, table, says):
    with pytest.raises(SettingError) as caught:
        resolve([setting], {}, environ, table, "x.toml")
    assert says in str(caught.value)


def test_an_unknown_variable_gets_a_suggestion():
    found = unknown_variables([PORT], {"TOOLIPS_UDP_RECV_BUFER": "1", "TOOLIPS_UDP_PURE": "1", "HOME": "x"})
    assert found == [
        "unknown setting TOOLIPS_UDP_RECV_BUFER in the environment. Did you mean 'TOOLIPS_UDP_RECV_BUFFER'?"
    ]


def test_a_file_is_read_by_its_table(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[run]\nrecv_buffer = 7\n[other]\nx = 1\n")
    assert read_table(path, "run") == {"recv_buffer": 7}
    assert read_table(path, "dev") == {}
    path.write_text("run = 3\n")
    with pytest.raises(SettingError, match="expected a table"):
        read_table(path, "run")
    path.write_text("[run\n")
    with pytest.raises(SettingError, match="is no TOML"):
        read_table(path, "run")
    with pytest.raises(SettingError, match="does not exist"):
        read_table(tmp_path / "absent.toml", "run")
