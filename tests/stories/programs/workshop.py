"""A module for servers with workers: handlers that tell and change things, by the text of the packet."""

import os
import time

from toolips_udp import Extension, handler


class Counter(Extension):
    def on_start(self, server):
        server.data["peers"] = 0

    def route(self, c):
        if c.text == "count me":
            c["peers"] += 1


counter = Counter()


@handler
def main(c):
    verb, _, rest = c.text.partition(" ")
    if verb == "worker":
        c.respond(f"{c.worker} {os.getpid()} {type(c).__name__}")
    elif verb == "effects":
        host, _, port = rest.rpartition(":")
        c.respond("first")
        c.send("to a third party", (host, int(port)))
        c["seen"] = c.data.get("seen", 0) + 1
        c.session["name"] = "Ada"
        c.set_handler("second")
        c.respond(f"second {c['seen']} {'seen' in c}")
    elif verb == "count":
        c.respond(str(c["peers"]))
    elif verb == "boom":
        raise ValueError(f"boom in {rest}")
    elif verb == "die":
        os._exit(3)
    elif verb == "sleep":
        time.sleep(float(rest))
        c.respond(rest)
    elif verb == "kept":
        c["kept"] = c.worker
        c.respond("kept")
    elif verb == "number":
        time.sleep(int(rest) % 3 / 1000)
        c.respond(rest)
    elif verb == "unknown":
        c.set_handler("nobody")
    elif verb == "hasty":
        c.set_handler("hasty")
        c.respond("hasty now")
    elif verb == "object":
        c["object"] = object()
    else:
        c.respond(c.packet)


@handler("second")
def second(c):
    c.remove_handler()
    c.respond(f"{c.session['name']} was on second")


@handler("hasty", timeout=0.3)
def hasty(c):
    if c.packet == b"hang":
        time.sleep(2)
    c.respond(c.packet)
