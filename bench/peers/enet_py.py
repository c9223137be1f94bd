"""The shortest pyenet server: echoes, or broadcasts 200 bytes for each message that begins with B.

usage: python enet_py.py [PEERS]. Prints "ready PORT".
"""

from __future__ import annotations

import socket
import sys

import enet


def main(peers: int) -> None:
    free = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # pyenet does not tell a port that it chose
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    host = enet.Host(enet.Address(b"127.0.0.1", port), peers, 2, 0, 0)
    print(f"ready {port}", flush=True)
    news = bytes(200)
    while True:
        event = host.service(1000)
        if event.type != enet.EVENT_TYPE_RECEIVE:
            continue
        data = event.packet.data
        if data[:1] == b"B":
            host.broadcast(1, enet.Packet(news, 0))
        else:
            event.peer.send(
                event.channelID, enet.Packet(data, event.packet.flags & enet.PACKET_FLAG_RELIABLE)
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4095)
