"""What an Address costs: made, parsed, printed, looked up."""

import ipaddress

import pytest

from toolips_udp import Address

PLACES = {Address("127.0.0.1", port): port for port in range(1000, 2000)}
KEY = Address("127.0.0.1", 1500)
WORK = {
    "made": lambda: Address("127.0.0.1", 2000),
    "parsed": lambda: Address.parse("127.0.0.1:2000"),
    "parsed v6": lambda: Address.parse("[2001:db8::1]:2000"),
    "printed": lambda: str(KEY),
    "looked up": lambda: PLACES[KEY],
    "ipaddress, for comparison": lambda: ipaddress.ip_address("127.0.0.1"),
}


@pytest.mark.benchmark(group="address")
@pytest.mark.parametrize("name", WORK)
def test_address(benchmark, name):
    assert benchmark(WORK[name])
