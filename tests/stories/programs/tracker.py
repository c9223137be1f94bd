from toolips_udp import UDP, Extension, Logger, get_ip4, handler, log, request, send, serve


class ClientTracker(Extension):
    def __init__(self):
        self.clients = set()

    def on_start(self, server):
        self.clients.clear()  # a restart begins at none

    def route(self, c):
        client = get_ip4(c)
        if client not in self.clients:
            log(c, f"registering client: {client}")
            self.clients.add(client)


logger = Logger()
tracker = ClientTracker()


@handler
def count(c):
    c.respond(str(len(tracker.clients)))


if __name__ == "__main__":
    for _ in range(2):
        with serve(UDP, __name__, "127.0.0.1:0") as server:
            assert tracker.clients == set()
            with send("how many?", server.address, keep_open=True) as first:
                assert first.recv(100) == b"1"
                assert request("how many?", server.address) == b"2"
                first.send(b"how many?")
                assert first.recv(100) == b"2"
