"""Every key of the DNS configuration is a flag and a variable too (spec section 9), and commands say what is not here yet."""

# ruff: noqa: E501

from __future__ import annotations

import argparse
import json

import msgspec
import pytest

from toolips_udp.cli import main
from toolips_udp.cli.dns import _keys, serve
from toolips_udp.dns import settings
from toolips_udp.errors import StartError
from toolips_udp.settings import SettingError

ZONE = "$ORIGIN example.test.\n@ 60 SOA ns h 7 2 3 4 30\n@ 60 NS ns\nns 60 A 127.0.0.1\n"
ELSEWHERE = {"service.tls": "--tls-certificate", "service.access.recursion": "--allow"}
"""Keys whose flag is not at the same place."""
TABLES = {"zone": "--zone", "forward": "--forward", "blocklist": "--blocklist", "key": "", "local": "", "view": ""}
"""Tables with parts of their own: the flags that make simple ones, or none, where only the file has them."""


def parsed(*words):
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(words)


def made(*words, **environ):
    config = settings.Config()
    _keys.put(config, _keys.given(parsed(*words), environ), _keys.Path("/here"))
    return config


def every_key(kind=settings.Config, before=""):
    for name, info in {each.name: each for each in msgspec.structs.fields(kind)}.items():
        place = f"{before}{name}"
        if isinstance(info.type, type) and issubclass(info.type, msgspec.Struct):
            yield from every_key(info.type, f"{place}.")
        elif place not in TABLES:
            yield place


def test_every_key_of_the_configuration_has_a_flag_and_a_variable():
    found = {key.at for key in _keys.KEYS if key.at} | set(ELSEWHERE)
    assert set(every_key()) == found
    tables = {each.name for each in msgspec.structs.fields(settings.Config) if f"{each.name}" in TABLES}
    assert tables == set(TABLES)
    flags = {f"--{key.name}" for key in _keys.KEYS}
    assert {flag for flag in (*ELSEWHERE.values(), *TABLES.values()) if flag} <= flags
    assert len({key.variable for key in _keys.KEYS}) == len(_keys.KEYS)


@pytest.mark.parametrize("key", [key for key in _keys.KEYS if key.at], ids=lambda key: key.name)
def test_a_flag_and_a_variable_put_the_same_at_their_place(key):
    text = {"admin": "unix:some", "any": "all"}.get(key.name) or {int: "3", float: "0.5", bool: "true", str: "some"}[key.kind]
    flag = [f"--{key.name}"] if key.kind is bool else [f"--{key.name}", text]
    by_flag, by_variable = made(*flag), made(**{key.variable: text})
    assert by_flag == by_variable
    value = by_flag
    for part in key.at.split("."):
        value = getattr(value, part)
    one = "/here/some" if key.path else {int: 3, float: 0.5, bool: True, str: text}[key.kind]
    assert value == ([one] if key.many else one)


def test_a_flag_wins_over_the_variable_that_over_the_file_and_lists_have_commas():
    config = made("--id", "flag", TOOLIPS_UDP_DNS_ID="variable", TOOLIPS_UDP_DNS_LISTEN="127.0.0.1:1,tls://127.0.0.1:2")
    assert config.service.id == "flag" and config.service.listen == ["127.0.0.1:1", "tls://127.0.0.1:2"]
    config = made("--zone", "a=x,y.zone", "--zone", "b=z", "--no-minimal", "--tls-certificate", "c", "--tls-key", "k")
    assert [zone.file for zone in config.zone] == ["/here/x,y.zone", "/here/z"] and not config.service.minimal
    assert config.service.tls == settings.Tls(certificate="/here/c", key="/here/k")
    with pytest.raises(StartError, match="go together"):
        made("--tls-key", "k")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TOOLIPS_UDP_DNS_ZOEN": "x"}, "Did you mean 'TOOLIPS_UDP_DNS_ZONE'"),
        ({"TOOLIPS_UDP_DNS_WORKERS": "two"}, "workers from TOOLIPS_UDP_DNS_WORKERS is 'two'"),
        ({"TOOLIPS_UDP_DNS_WORKERS": "0"}, "service.workers: expected `int` >= 1"),
        ({"TOOLIPS_UDP_DNS_ECS": "perhaps"}, "expected true or false"),
    ],
)
def test_a_variable_that_is_wrong_is_named(environ, said):
    with pytest.raises(SettingError, match=said):
        made(**environ)


def test_variables_of_dns_are_known_to_other_commands(monkeypatch, capsys):
    monkeypatch.setenv("TOOLIPS_UDP_DNS_ID", "ns1")
    assert main(["run", "nosuch.py"]) == 3 and "TOOLIPS_UDP_DNS_ID" not in capsys.readouterr().err
    monkeypatch.setenv("TOOLIPS_UDP_DNS_IDD", "ns1")
    assert main(["run", "nosuch.py"]) == 2 and "TOOLIPS_UDP_DNS_IDD" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "--recursive"], "needs the resolver, which is not here yet. Use --forward"),
        (["serve", "--zone", "a=b", "--listen", "quic://127.0.0.1:853"], "DNS over QUIC is not here yet. Use tls://"),
        (["zone", "sign", "a.zone"], "zone sign is not here yet. Sign the file with dnssec-signzone"),
        (["ctl", "zone", "sign", "a.test"], "is not here yet: sign the file"),
        (["ctl", "anchor", "list"], "comes with the resolver"),
        (["ctl", "anchor", "add", "x"], "comes with the resolver"),
        (["ctl", "anchor", "remove", "x"], "comes with the resolver"),
    ],
)
def test_o6_what_is_not_here_yet_says_so_in_one_line(words, said, capsys):
    assert main(["dns", *words]) in (1, 2, 3)
    out = capsys.readouterr()
    assert said in out.err and out.err.count("\n") == 1 and not out.out


def test_o6_every_zone_tool_speaks_json(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.zone").write_text(ZONE)
    (tmp_path / "b.zone").write_text(ZONE.replace(" 7 ", " 8 "))
    (tmp_path / "zones").mkdir()

    def said(*words):
        main(["dns", "zone", *words, "--json"])
        return json.loads(capsys.readouterr().out)

    assert said("check", "a.zone")[0]["serial"] == 7
    assert said("format", "a.zone")["records"][-1] == "ns.example.test. 60 IN A 127.0.0.1"
    assert said("serial", "a.zone") == {"zone": "example.test.", "serial": 7}
    assert said("diff", "a.zone", "b.zone")["new"] == 8
    assert said("digest", "a.zone")["held"] is None
    assert said("add", "zones", "a.zone")["file"] == "zones/example.test.zone"
    assert said("list", "zones")["zones"][0]["records"] == 3
    assert said("remove", "zones", "example.test") == {"zone": "example.test", "removed": True}


def test_o1_explain_knows_which_names_and_clients_a_forwarder_serves(tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text('[[forward]]\nzone = "corp.test"\nto = ["192.0.2.1"]\n[[forward]]\nto = ["192.0.2.2"]\n')

    def steps(name, *words):
        assert main(["dns", "explain", str(config), name, "--json", *words]) == 0
        found = json.loads(capsys.readouterr().out)
        return found["steps"], found.get("rcode")

    assert steps("a.corp.test") == (["Forward corp.test.: not cached here; would ask 192.0.2.1"], None)
    assert steps("a.test")[0] == [
        "Forward corp.test.: passes, the name is outside", "Forward .: not cached here; would ask 192.0.2.2",
    ]  # fmt: skip
    assert steps("a.corp.test", "--client", "192.0.2.9")[1] == "REFUSED"


def test_the_schema_has_every_table(capsys):
    assert main(["dns", "serve", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["$defs"]["Config"]["properties"]) == set(settings.Config.__struct_fields__)


def test_what_is_given_by_keys_alone_is_served(tmp_path, monkeypatch):
    (tmp_path / "a.zone").write_text(ZONE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLIPS_UDP_DNS_ZONE", "example.test=a.zone")
    config, folder = serve.configuration(parsed("--query-log", "q", "--limit-rate", "0"))
    assert config.zone[0].file == str(tmp_path / "a.zone") and config.service.query_log == str(tmp_path / "q")
    from toolips_udp.dns.building import build

    assert build((config, folder)).limit is None
