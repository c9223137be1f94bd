"""Stream servers for the benches: `python bench/peers/streams.py KIND` prints `ready PORT`.

Line echo: `streams` (asyncio streams on uvloop), `raw` (a bare uvloop Protocol that
knows nothing of lines), `ours`. HTTP: `starlette` (on uvicorn, as it comes), `ours-http`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from types import SimpleNamespace


def listening() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    return sock


def ready(port: int) -> None:
    print(f"ready {port}", flush=True)


class Raw(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def echo_lines(reader, writer):
    with contextlib.suppress(ConnectionError):  # the generator leaves without a word
        while line := await reader.readline():
            writer.write(line)


async def serve_asyncio(kind: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    sock = listening()
    if kind == "raw":
        await loop.create_server(Raw, sock=sock)
    else:
        await asyncio.start_server(echo_lines, sock=sock)
    ready(sock.getsockname()[1])
    await stop.wait()


def serve_starlette() -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(request):
        return PlainTextResponse("hello")

    sock = listening()
    app = Starlette(routes=[Route("/", hello)])
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", loop="uvloop", http="httptools"
    )
    ready(sock.getsockname()[1])
    uvicorn.Server(config).run([sock])


def serve_ours(kind: str) -> None:
    from toolips_udp import HTTP, TCP, handler, route, start

    if kind == "ours":

        @handler
        async def main(c):
            async for line in c.lines():
                c.respond(line + b"\n")

        module, mode = SimpleNamespace(main=main), TCP
    else:

        @route("/")
        async def hello(c):
            c.respond("hello")

        module, mode = SimpleNamespace(hello=hello), HTTP
    server = start(mode, module, "127.0.0.1:0", max_connections=20_000, control=False)
    ready(server.address.port)


if __name__ == "__main__":
    kind = sys.argv[1]
    if kind.startswith("ours"):
        serve_ours(kind)
    elif kind == "starlette":
        serve_starlette()
    else:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_asyncio(kind))
