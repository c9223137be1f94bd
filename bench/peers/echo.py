"""The Python peers: one echo protocol on asyncio, uvloop or aiofastnet.

    python bench/peers/echo.py asyncio|uvloop|aiofastnet [PORT]

Binds 127.0.0.1 and prints "ready PORT". The protocol is the shortest a user would write.
"""

import asyncio
import socket
import sys


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.sendto = transport.sendto

    def datagram_received(self, data, addr):
        self.sendto(data, addr)


async def main(kind, port):
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", port))
    sock.setblocking(False)
    if kind == "aiofastnet":
        import aiofastnet

        transport, _ = await aiofastnet.create_datagram_endpoint(loop, Echo, sock=sock)
    else:
        transport, _ = await loop.create_datagram_endpoint(Echo, sock=sock)
    print("ready", transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    factory = None
    if kind != "asyncio":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(kind, port))
