"""The sockets of a group: bound in order, exclusive, steered."""

import socket
import struct

import pytest

from toolips_udp.address import Address
from toolips_udp.errors import StartError
from toolips_udp.supervisor.sockets import open_group
from toolips_udp.supervisor.steering import program, steer


@pytest.fixture
def group():
    made = []

    def make(*args, **kwargs):
        found = open_group(*args, **kwargs)
        made.extend(found)
        return found

    yield make
    for each in made:
        each.close()


def test_all_members_have_the_same_port_and_do_not_block(group):
    members = group(Address("127.0.0.1", 0), 3)
    assert len({member.getsockname() for member in members}) == 1
    assert not any(member.getblocking() for member in members)


def test_a_port_that_is_held_is_neither_shared_nor_stolen(group):
    members = group(Address("127.0.0.1", 0), 2)
    with pytest.raises(OSError, match="in use"):
        open_group(Address(*members[0].getsockname()), 2)


def test_a_group_of_streams_listens(group):
    members = group(Address("127.0.0.1", 0), 2, socket.SOCK_STREAM)
    with socket.create_connection(members[0].getsockname(), timeout=2):
        pass


def test_a_payload_byte_chooses_the_member(group):
    members = group(Address("127.0.0.1", 0), 3, steer=2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(members[0].getsockname())
        for byte in range(9):
            client.send(bytes([0, 0, byte]))
        client.send(b"")  # too short: the first
    for at, member in enumerate(members):
        member.settimeout(1)
        for n in range(3):
            assert member.recv(10)[2] == at + 3 * n
    assert members[0].recv(10) == b""


def test_the_steering_program_is_three_instructions():
    assert [struct.unpack("=HBBI", program(7, 4)[i : i + 8]) for i in (0, 8, 16)] == [
        (0x30, 0, 0, 7),
        (0x94, 0, 0, 4),
        (0x16, 0, 0, 0),
    ]


def test_an_offset_that_no_datagram_has_is_a_start_error():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for offset in (-1, 70_000):
            with pytest.raises(StartError, match="offset of a payload byte"):
                steer(sock, offset, 2)
