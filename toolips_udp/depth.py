"""How deep JSON and msgpack nest, in Python: for builds without the native core, and its oracle.

Ground floor: imports nothing. Called by `typed` and `messages`; native/depth.c is the same in C.
"""

from __future__ import annotations

# Every byte that can open a msgpack container, deleted from what remains: their number bounds the depth from above.
_NOT_MSGPACK_OPEN = bytes(b for b in range(256) if not (0x80 <= b <= 0x9F or 0xDC <= b <= 0xDF))


def json_is_deeper(packet: bytes, most: int) -> bool:
    """Whether JSON nests deeper than `most`; malformed text is left to the decoder."""
    if packet.count(b"{") + packet.count(b"[") <= most:
        return False
    depth, at, end = 0, 0, len(packet)
    while at < end:
        byte = packet[at]
        if byte == 0x22:  # a string: skip to its end
            at += 1
            while at < end and packet[at] != 0x22:
                at += 2 if packet[at] == 0x5C else 1
        elif byte in b"{[":
            depth += 1
            if depth > most:
                return True
        elif byte in b"}]":
            depth -= depth > 0
        at += 1
    return False


def msgpack_is_deeper(packet: bytes, most: int) -> bool:
    """Whether msgpack nests deeper than `most`; what is cut off is left to the decoder."""
    if len(packet.translate(None, _NOT_MSGPACK_OPEN)) <= most:
        return False
    open_items: list[int] = []  # items still missing in each open container
    at, end = 0, len(packet)
    while at < end:
        while open_items and open_items[-1] == 0:
            open_items.pop()
        if open_items:
            open_items[-1] -= 1
        at, items = step(packet, at)
        if items:
            if len(open_items) == most:
                return True
            open_items.append(items)
    return False


# Bytes that follow a type byte from 0xc0 on; negative: that many bytes hold a length, to which `extra` is added.
_FIXED = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC3), 0), 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_SIZED = {
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),
    0xC7: (1, 1),
    0xC8: (2, 1),
    0xC9: (4, 1),
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),
}
_CONTAINER = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def step(packet: bytes, at: int) -> tuple[int, int]:
    """Past one item: where the next one starts, and how many items this one holds."""
    byte = packet[at]
    at += 1
    if byte <= 0x7F or byte >= 0xE0:
        return at, 0
    if byte <= 0x8F:
        return at, (byte & 0x0F) * 2
    if byte <= 0x9F:
        return at, byte & 0x0F
    if byte <= 0xBF:
        return at + (byte & 0x1F), 0
    if byte in _FIXED:
        return at + _FIXED[byte], 0
    width, extra = _SIZED.get(byte) or _CONTAINER[byte]
    if width > len(packet) - at:
        return len(packet), 0
    number = int.from_bytes(packet[at : at + width], "big")
    if byte in _SIZED:
        return at + width + extra + number, 0
    return at + width, number * extra
