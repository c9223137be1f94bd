"""The worked datagrams of the ENet 1.3 wire, E1 to E11, as bytes."""

from __future__ import annotations


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


GREETING = "000005700001000000000002 00000000 00000000 00001388 00000002 00000002 c0ffee01"
EXAMPLES: dict[str, bytes] = {
    "E1 connect": _hex("8fff1000 82ff0001 02030102" + GREETING + "0000002a"),
    "E2 verify": _hex("a2034c57 83ff0001 00050203" + GREETING),
    "E3 ack and ping": _hex("b0051010 01ff000100014c57 85ff0002"),
    "E3 reply": _hex("2203 01ff000200021010"),
    "E4 reliable": _hex("b0051020 860000010005 68656c6c6f"),
    "E4 ack": _hex("2203 0100000100011020"),
    "E5 two kinds": _hex("3005 0701000000010004706f7331 49010000000100026678"),
    "E6 first fragment": _hex("b0051030 88000002000200060000000200000000 0000000a00000000 303132333435"),
    "E6 second fragment": _hex("b0051031 88000003000200040000000200000001 0000000a00000006 36373839"),
    "E7 unreliable fragments": _hex(
        "3005 0c010000000200030000000200000001 0000000600000003 646566"
        "     0c010000000200030000000200000000 0000000600000000 616263"
    ),
    "E8 six": _hex("b0051070 860000060003 736978"),
    "E8 after six": _hex("3005 0700000600010009 616674657220736978"),
    "E8 five": _hex("b0051080 860000050004 66697665"),
    "E9 disconnect": _hex("b00510d0 84ff000700000009"),
    "E9 ack": _hex("2203 01ff0007000710d0"),
    "E9 refusal": _hex("0203 44ff0001000004d2"),
}
CHECKED_CONNECT = _hex("8fff1000 9f548047") + EXAMPLES["E1 connect"][4:]
CHECKED_PING = _hex("b0001010 ce18dc91 01ff0001 00019ff0 85ff0002")
COMPRESSED = _hex("f0001020 867a8296 694be790 30aa2116 1f3b841a b4d9")
OPENED = _hex("86000001 0017") + b"hello hello hello hello"
CHECKED_COMPRESSED = _hex("f0001020 693f9df4") + COMPRESSED[4:]
