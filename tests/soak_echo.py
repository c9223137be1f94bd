"""What tests/soak.py attacks besides the examples: a typed handler, named ones, sessions, a thread."""

import msgspec

from toolips_udp import MultiHandler, handler


class Said(msgspec.Struct, forbid_unknown_fields=True):
    text: str


@handler
def main(c, said: Said):
    c.session["seen"] = c.session.get("seen", 0) + 1
    if said.text != "canary":
        c.set_handler("other")
    c.respond(said)


@handler("other")
def other(c):
    c.remove_handler()
    if len(c.packet) % 7 == 0:
        raise ValueError(c.text)
    c.respond(c.packet[:100])


multi = MultiHandler(main)
