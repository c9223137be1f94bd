"""What tests/leaks.py serves: every kind of handler, one that passes its deadline, a session, a timer."""

import asyncio
import threading

from toolips_udp import QuickExtension, UDPConnection, handler

chooses = QuickExtension("chooses")


@chooses.route
def route(c):
    if not isinstance(c, UDPConnection):
        return
    word = c.text
    if word in ("async", "threaded", "hang", "hang async"):
        c.set_handler(word)
    else:
        c.remove_handler()


@handler
def main(c):
    if not isinstance(c, UDPConnection):
        c.write(c.read(100))
        return
    if c.text == "session":
        c.session["seen"] = c.session.get("seen", 0) + 1
    if c.text == "timer":
        c.after(0.001, lambda: None)
        c.after(60, lambda: None)
    c.respond(c.packet)


@handler("async")
async def later(c):
    await asyncio.sleep(0.001)
    c.respond(c.packet)


@handler("threaded", threaded=True)
def threaded(c):
    c.session["threaded"] = True
    c.respond(c.packet)


@handler("hang", threaded=True, timeout=0.02)
def hang(c):
    threading.Event().wait(0.2)
    c.respond("nobody hears this")


@handler("hang async", timeout=0.02)
async def hang_async(c):
    await asyncio.sleep(60)
