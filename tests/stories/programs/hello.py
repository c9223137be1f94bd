from toolips_udp import UDP, handler, request, respond, send, serve


@handler
def main_handler(c):
    print("new client sent us... " + c.text)
    respond(c, "hello")


if __name__ == "__main__":
    with serve(UDP, __name__, "127.0.0.1:0") as server:
        assert request("hello friend", server.address) == b"hello"
        send("nobody waits for this answer", server.address)
