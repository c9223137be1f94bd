from toolips_udp import UDP, QuickExtension, handler, request, serve

load = QuickExtension("load")
seen = []


@load.on_start
def started(server):
    seen.append("start")


@load.route
def served(c):
    seen.append("packet")
    if c.packet == b"stop here":
        c.respond("stopped")
        return False


@handler
def hello(c):
    c.respond("hello!")


if __name__ == "__main__":
    with serve(UDP, __name__, "127.0.0.1:0") as server:
        assert request("hi", server.address) == b"hello!"
        assert request("stop here", server.address) == b"stopped"
    assert seen == ["start", "packet", "packet"]
