"""Are known peers served while strangers flood the port at five times the peak?

Two classes of generator on one port of an ENet server whose handler takes some 20 us. The known ones
are 100 connected peers, which together ask at half of the peak (unsequenced, never sent again). The
strangers send CONNECTs, taken from a real client, at five times the peak from 4,000 addresses and never answer
what they get, so none of them proves its address. Knob: whether the strangers are there. Service is answers over
questions of the known ones, answers that come up to 100 ms after the last question included; the strangers' rate is
their own count. What the clients' own throttle kept back (it follows the round trip) counts as not served.

On two cores both generators share one, and over loopback that core also does the kernel's part of receiving at the
server, the filter that drops strangers included. Answers wait for their turn on it in the clients' sockets: they are
told apart as late.

    python bench/known.py [--rounds 5] [--seconds 2]
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import enet
import harness as h

TRAIN, SOCKETS = 16, 4000
FACTOR, SHARE, TARGET = 5, 0.5, 0.99
PEERS = 100
GUARDED = h.Contender("toolips_udp", (*enet.WORKING.command, "guarded"))
"""Addresses without proof are limited to 1,000 a second each, and their /24 to 4,000, as on any other network."""
SOL_UDP, UDP_SEGMENT = 17, 103


def connect_request() -> bytes:
    """The first datagram of a real client."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trap:
        trap.bind(("127.0.0.1", 0))
        trap.settimeout(5)
        port = str(trap.getsockname()[1])
        client = subprocess.Popen(
            [str(h.BUILD / "enet_load"), port, str(os.getpid()), "1", "1", "0.1", "idle"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return trap.recv(2000)
        finally:
            client.kill()
            client.wait()


def flood(port: int, rate: float, seconds: float, data: bytes) -> None:
    """The strangers: trains of one datagram from address after address. Prints how many left, and in what time."""
    sockets = []
    for number in range(SOCKETS):
        each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        each.bind((f"127.1.{number >> 8}.{number & 255}", 0))
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # what it gets nobody reads
        sockets.append(each)
    train, size = [data * TRAIN], [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", len(data)))]
    sent, began = 0, time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        if sent > spent * rate:
            time.sleep(0.0005)
            continue
        sockets[sent // TRAIN % SOCKETS].sendmsg(train, size, 0, ("127.0.0.1", port))
        sent += TRAIN
    print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}))


def service(sample: enet.Sample) -> float:
    return (enet.number(sample, "messages") + enet.number(sample, "late")) / enet.number(sample, "asked")


def one_round(seconds: float, data: bytes) -> dict[str, object]:
    with h.Served(GUARDED) as served:
        peak = enet.number(enet.load(served, "peak", f"{PEERS} 8 {min(seconds, 1)} echo"), "rate")
        asked = f"{PEERS} {max(1, round(SHARE * peak / 1000))} {seconds} open"
        alone = enet.load(served, "alone", asked)
        words = [str(served.port), str(FACTOR * peak), str(seconds + 1.5), data.hex()]
        strangers = subprocess.Popen(
            h.pinned(h.CLIENT_CORE, [sys.executable, __file__, "--strangers", *words]),
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.5)
        beside = enet.load(served, "beside a flood", asked)
        told = json.loads(strangers.communicate(timeout=60)[0])
    found = {
        "peak": peak,
        "alone": service(alone),
        "beside": service(beside),
        "late": enet.number(beside, "late") / enet.number(beside, "asked"),
        "throttled": enet.number(beside, "throttled") / enet.number(beside, "asked"),
        "flood": told["sent"] / told["seconds"] / peak,
        "core": enet.number(beside, "core"),
        "ledger": json.loads(served.last_words),
    }
    print(f"  {found}", file=sys.stderr)
    return found


def main() -> None:
    options = h.arguments(__doc__).parse_args()
    h.quiet_warning()
    h.build()
    enet.build()
    data = connect_request()
    raw = [one_round(options.seconds, data) for _ in range(options.rounds)]
    names = [name for name in raw[0] if name != "ledger"]
    columns = {name: h.Spread.of(float(row[name]) for row in raw) for name in names}  # type: ignore[arg-type]
    good = columns["beside"].median >= TARGET
    table = [
        ["what", "found", "target", ""],
        ["peak of the known peers, messages/s", f"{columns['peak'].median:,.0f}", "", ""],
        ["strangers offered, times the peak", str(columns["flood"]), "5", ""],
        ["service of the known peers, alone", str(columns["alone"]), "", ""],
        ["service beside the strangers", str(columns["beside"]), ">= 0.99", "met" if good else "missed"],
        ["of it late: after the last question", str(columns["late"]), "", ""],
        ["kept back by the clients' throttle", str(columns["throttled"]), "", ""],
        ["server's share of its core meanwhile", str(columns["core"]), "", ""],
    ]
    if options.dry:
        print(h.markdown(table))
    else:
        settings = {"rounds": options.rounds, "seconds": options.seconds, "share": SHARE, "factor": FACTOR}
        h.save("known", "Known peers beside a flood of strangers", table, raw, settings)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--strangers"]:
        where, rate, length, request = sys.argv[2:]
        flood(int(where), float(rate), float(length), bytes.fromhex(request))
    else:
        main()
