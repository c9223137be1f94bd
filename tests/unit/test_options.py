"""The settings of start: where they come from, what is refused."""

import pytest

from toolips_udp import StartError
from toolips_udp.servers.options import read


def test_a_call_wins_over_the_environment_over_the_default():
    found = read({"drain": 1}, {"TOOLIPS_UDP_DRAIN": "2", "TOOLIPS_UDP_MAX_JOBS": "7"})
    assert (found.drain, found.source("drain")) == (1.0, "call")
    assert (found.max_jobs, found.source("max_jobs")) == (7, "environment")
    assert (found.max_async, found.source("max_async")) == (10_000, "default")


def test_an_unknown_setting_gets_a_suggestion():
    with pytest.raises(StartError, match="Did you mean 'multicast'"):
        read({"multycast": []}, {})


@pytest.mark.parametrize(
    "call, environ",
    [
        ({"drain": "soon"}, {}),
        ({"drain": -1}, {}),
        ({"max_jobs": 0}, {}),
        ({"drain": float("nan")}, {}),
        ({}, {"TOOLIPS_UDP_AGE_LIMIT": "nan"}),
        ({"ordered": 7}, {}),
        ({}, {"TOOLIPS_UDP_MAX_JOBS": "many"}),
        ({}, {"TOOLIPS_UDP_ORDERED": "perhaps"}),
    ],
)
def test_a_value_that_does_not_fit_is_a_start_error(call, environ):
    with pytest.raises(StartError, match=r"expected|Expected"):
        read(call, environ)


def test_lists_flags_and_functions_are_read():
    found = read(
        {"on_error": print}, {"TOOLIPS_UDP_MULTICAST": "239.1.1.1,239.1.1.2", "TOOLIPS_UDP_ORDERED": "yes"}
    )
    assert found.multicast == ["239.1.1.1", "239.1.1.2"] and found.ordered is True
    assert found.on_error is print and found.on_drop is None
    assert dict(found)["drain"] == 5.0
    with pytest.raises(AttributeError):
        _ = found.nonsense


def test_tls_and_framing_come_from_a_call_or_the_environment(tmp_path):
    import ssl

    found = read({}, {"TOOLIPS_UDP_TLS": "chain.pem,key.pem", "TOOLIPS_UDP_FRAMING": "2"})
    assert (found.tls, found.framing) == (["chain.pem", "key.pem"], "2")
    assert found.source("tls") == found.source("framing") == "environment"
    found = read({"tls": (tmp_path / "chain.pem", "key.pem"), "framing": 4}, {"TOOLIPS_UDP_FRAMING": "2"})
    assert (found.tls, found.framing) == ([str(tmp_path / "chain.pem"), "key.pem"], "4")
    context = ssl.create_default_context()
    assert read({"tls": context}, {}).tls is context
    assert read({}, {}).tls is None and read({}, {}).framing is None
    with pytest.raises(StartError, match="framing"):
        read({"framing": True}, {})
