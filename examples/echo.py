"""Sends every datagram back.

    python -m toolips_udp run examples/echo.py --udp 127.0.0.1:2000
    python -m toolips_udp send 127.0.0.1:2000 hello --wait 1
"""

from toolips_udp import handler


@handler
def main(c):
    c.respond(c.packet)
