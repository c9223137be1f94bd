import socket

from toolips_udp import TCP, handler, is_connected, serve

@handler
async def main_handler(c):
    async for line in c.lines(end=b"!\n"):
        if line.text == "password":
            break
        c.respond("thanks for sending!")
    c.respond("welcome")
    while is_connected(c):  # the second loop
        c.respond((await c.read()).upper())

if __name__ == "__main__":
    with serve(TCP, __name__, "127.0.0.1:0") as server:
        place = (server.address.host, server.address.port)
        with socket.create_connection(place, timeout=2) as client, client.makefile("rb") as answer:
            client.sendall(b"one!\ntw")
            assert answer.read(19) == b"thanks for sending!"
            client.sendall(b"o!\n")
            assert answer.read(19) == b"thanks for sending!"
            client.sendall(b"password!\nabc")
            assert answer.read(10) == b"welcomeABC"
