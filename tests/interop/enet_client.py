"""A client of pyenet. usage: python enet_client.py PORT. Says "ok" when every echo came back as sent."""

from __future__ import annotations

import sys

import enet

RELIABLE, UNSEQUENCED = enet.PACKET_FLAG_RELIABLE, enet.PACKET_FLAG_UNSEQUENCED


def main(port: int) -> None:
    host = enet.Host(None, 1, 255, 0, 0)
    peer = host.connect(enet.Address(b"127.0.0.1", port), 255, 77)

    def await_event(kind: int) -> object:
        for _ in range(500):
            event = host.service(10)
            if event.type == kind:
                return event
        raise SystemExit(f"no event of type {kind}")

    await_event(enet.EVENT_TYPE_CONNECT)
    # unreliable ones first: after a burst libenet's own throttle may drop them
    script = [(300, 0, 3), (300, UNSEQUENCED, 4), (50_000, enet.PACKET_FLAG_UNRELIABLE_FRAGMENT, 5)]
    script += [(n, RELIABLE, n % 255) for n in (1, 500, 1372, 1373, 100_000, 1 << 20)]
    script += [(40, RELIABLE, channel) for channel in range(255)]
    for size, flags, channel in script:
        data = bytes((i * 3 + size) & 255 for i in range(size))
        peer.send(channel, enet.Packet(data, flags))
        event = await_event(enet.EVENT_TYPE_RECEIVE)
        if event.packet.data != data or event.channelID != channel:
            raise SystemExit(f"the echo of {size} bytes on channel {channel} differs")
    peer.disconnect(31)
    await_event(enet.EVENT_TYPE_DISCONNECT)
    print("ok")


if __name__ == "__main__":
    main(int(sys.argv[1]))
