import socket

from toolips_udp import UDP, MultiHandler, handler, serve


@handler
def main_handler(c):
    c.respond("response 1")
    c.set_handler("second")


@handler("second")
def second_step(c):
    c.respond("response 2")
    c.remove_handler()


multi_handler = MultiHandler(main_handler)

__all__ = ["multi_handler", "main_handler", "second_step", "serve", "UDP"]


def answers(address, count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(2)
        peer.connect((address.host, address.port))
        for _ in range(count):
            peer.send(b"next")
            yield peer.recv(2048)


if __name__ == "__main__":
    with serve(UDP, __name__, "127.0.0.1:0") as server:
        assert list(answers(server.address, 4)) == [b"response 1", b"response 2"] * 2
        assert list(answers(server.address, 1)) == [b"response 1"]
