"""B8: every command byte at the edges of channel and number, said to libenet and to us: the same comes back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

from toolips_udp import UDP, serve
from toolips_udp._native import enet as wire
from toolips_udp.game import Game

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/peers"))
from test_enet_bad_input import ack_of, greeting

HERE = Path(__file__).parent
CHANNELS, NUMBERS = (0, 1, 253, 254, 255), (0, 1, 1 << 15, (1 << 16) - 1)
GREETING = "0000 ffff 00000570 00010000 00000002" + "00000000" * 2 + "00001388 00000002 00000002"
BODIES = {
    1: "0001 0000", 2: GREETING + "00000009 00000000", 3: GREETING + "c0ffee01",
    4: "00000007", 5: "", 6: "0003 616263", 7: "0001 0003 616263",
    8: "0001 0003 00000002 00000000 00000006 00000000 616263", 9: "0005 0003 616263", 10: "00000000 00000000",
    11: "00001388 00000002 00000002", 12: "0009 0003 00000002 00000000 00000006 00000000 616263",
}  # fmt: skip
"""What stands behind the four bytes that every command has; unknown types get eight bytes of nothing."""


class Talk:
    """One connection to a server, its datagrams written by hand."""

    def __init__(self, port: int, number: int):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(10)
        self.socket.send(greeting(id=number, connect_id=b"b8" + number.to_bytes(2), channels=254))
        verify = self.socket.recv(4096)
        self.word = int.from_bytes(verify[8:10]) | verify[11] << 12 | 0x8000
        self.time = verify[2:4]
        self.pings = 1
        self.echoes: set[tuple] = set()
        self.socket.send(ack_of(verify))

    def leave(self) -> None:
        """Free the slot: libenet's echo server has 32."""
        self.socket.send(self.word.to_bytes(2) + self.time + bytes.fromhex("44ff 7fff 00000000"))
        self.socket.close()

    def say(self, body: bytes) -> set[tuple]:
        """What the server says to a command: its acks, up to that of a ping that follows. Echoes are kept."""
        self.pings += 1
        leaving = bool(body) and body[0] & 15 == 4
        if leaving and not body[0] & 0x80:
            self.socket.settimeout(0.1)  # a DISCONNECT: silence is what is expected, behind its ack if it wants one
        head = self.word.to_bytes(2) + self.time
        self.socket.send(head + body)
        self.socket.send(head + b"\x85\xff" + (0x4000 + self.pings).to_bytes(2))
        said = set()
        while True:
            try:
                data = self.socket.recv(4096)
            except TimeoutError:
                return said | {"silence"}
            except ConnectionRefusedError:
                continue
            done = False
            for kind, _, channel, number, fields, payload in wire.read(data)[1]:
                done |= kind == 1 and channel == 255 and fields[0] == 0x4000 + self.pings
                if kind in (6, 7, 9):
                    self.echoes.add((kind, channel, number, bytes(payload)))
                elif kind in (1, 4) and not (channel == 255 and fields[0] > 0x4000):
                    said.add((kind, channel, number))
            if done:
                return said
            if leaving and said:
                self.socket.settimeout(0.1)


@pytest.fixture(scope="module")
def libenet(tmp_path_factory):
    """The shortest libenet echo server, compiled; its port."""
    program = tmp_path_factory.mktemp("libenet") / "echo"
    source = HERE / "enet_echo.c"
    compiler = shutil.which("gcc") or shutil.which("cc")
    built = compiler and subprocess.run([compiler, source, "-o", program, "-lenet"], capture_output=True)
    if not built or built.returncode:
        pytest.skip("needs a C compiler and libenet: apt install gcc libenet-dev")
    with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as process:
        yield int(process.stdout.readline().split()[1])
        process.terminate()


@pytest.fixture(scope="module")
def ours():
    game = Game(channels=254, max_malformed=0)

    @game.on_message
    def echo(peer, m):
        peer.send(m.data, m.channel, m.delivery)

    module = types.ModuleType("beside_libenet")
    module.game = game
    with serve(UDP, module, "127.0.0.1:0") as server:
        yield server.address.port


def test_b8_every_command_byte_at_every_edge_of_channel_and_number_is_answered_as_libenet_answers(
    libenet, ours
):
    different = []
    for byte in range(256):
        one, two = Talk(libenet, byte), Talk(ours, byte)
        body = bytes.fromhex(BODIES.get(byte & 15, "00" * 8).replace(" ", ""))
        for channel in CHANNELS:
            for number in NUMBERS:
                command = bytes((byte, channel)) + number.to_bytes(2) + body
                theirs, mine = one.say(command), two.say(command)
                if theirs != mine:
                    different.append((f"{byte:02x}", channel, number, theirs, mine))
                if "silence" in theirs or "silence" in mine:
                    break
            else:
                continue
            break
        for each in (one, two):
            for _ in range(2):  # what was echoed behind the last ack
                each.say(b"")
        if one.echoes != two.echoes:
            different.append((f"{byte:02x}", "echoes", one.echoes ^ two.echoes))
        one.leave()
        two.leave()
    assert not different, "\n".join(map(str, different[:40]))
