"""EDNS options and server cookies (spec E6, E7; vectors of RFC 9018 appendix A)."""

import pytest

from toolips_udp.dns.edns import Cookies, Rolling, parse_ecs, parse_options, siphash24
from toolips_udp.errors import FormatError

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
CLIENT = bytes.fromhex("2464c4abcf10c957")


def test_siphash_gives_the_value_of_its_paper():
    assert siphash24(bytes(range(16)), bytes(range(15))) == (0xA129CA6149BE45E5).to_bytes(8, "little")


def test_e7_a_cookie_is_that_of_rfc_9018():
    made = Cookies(SECRET).make(CLIENT, "198.51.100.100", 1559731985)
    assert made.hex() == "2464c4abcf10c957010000005cf79f111f8130c3eee29480"


def test_e7_a_cookie_holds_for_its_address_and_its_hour_only():
    cookies = Cookies(SECRET)
    cookie = cookies.make(CLIENT, "127.0.0.2", 1000)
    assert cookies.check(cookie, "127.0.0.2", 1000) and cookies.check(cookie, "::ffff:127.0.0.2", 4600)
    assert not cookies.check(cookie, "127.0.0.3", 1000)
    assert not cookies.check(cookie, "127.0.0.2", 4601)
    assert cookies.check(cookie, "127.0.0.2", 700) and not cookies.check(cookie, "127.0.0.2", 699)
    for at in range(8, 24):
        forged = bytearray(cookie)
        forged[at] ^= 1
        # the time may be changed only together with the hash
        assert not cookies.check(bytes(forged), "127.0.0.2", 1000)


def test_e7_an_old_cookie_is_renewed_and_the_previous_secret_still_counts():
    cookies = Cookies(SECRET)
    cookie = cookies.make(CLIENT, "::1", 1000)
    assert cookies.answer(cookie, "::1", 2800) == (cookie, True)
    fresh, valid = cookies.answer(cookie, "::1", 2801)
    assert valid and fresh != cookie
    cookies.roll(b"x" * 16)
    assert cookies.check(cookie, "::1", 1000)
    cookies.roll(b"y" * 16)
    assert not cookies.check(cookie, "::1", 1000)


def test_e6_each_option_is_read_once_and_unknown_ones_ignored():
    assert parse_options(b"\0\3\0\1a\0\3\0\1b\xff\0\0\0") == {3: b"a"}


@pytest.mark.parametrize("size", [0, 7, 9, 15, 41])
def test_a_cookie_of_a_wrong_length_is_a_format_error(size):
    with pytest.raises(FormatError):
        parse_options(b"\0\x0a" + size.to_bytes(2, "big") + bytes(size))


def test_client_subnets_are_checked_to_the_bit():
    assert parse_ecs(bytes.fromhex("0001180001020300"[:14])) == (1, 24, 0, b"\1\2\3")
    for wrong in ("00", "0001190001020301", "00012100" + "01020304", "0001180101020300"[:14]):
        with pytest.raises(FormatError):
            parse_ecs(bytes.fromhex(wrong))


def test_rolling_secrets_agree_by_the_master_and_last_into_the_next_day():
    master, midnight = bytes(32), 86_400 * 20_000
    one, other = Rolling(master, midnight - 600), Rolling(master, midnight + 300)
    cookie, _ = one.answer(bytes(8), "192.0.2.1", midnight - 600)
    assert other.answer(cookie, "192.0.2.1", midnight + 300) == (cookie, True)
    assert one.answer(cookie, "192.0.2.1", midnight + 300) == (cookie, True)  # rolled by itself
    assert one.secrets == other.secrets and one.secrets[0] != one.secrets[1]
    assert not Rolling(bytes(31) + b"x", midnight).check(cookie, "192.0.2.1", midnight)
    before = one.secrets[0]
    one.follow(midnight + 86_400 + 1)
    assert one.secrets[1] == before
    one.follow(midnight + 2 * 86_400 + 1)
    assert before not in one.secrets
