"""ENet's range coder in plain Python: the oracle of native/enet_range.c.

Imports nothing of ours. Called by the Python ENet host and by tests. The model is
written as the protocol describes it, with dictionaries and sums, not as the C
does it: two ways to the same bits.

Source: ENet 1.3, `enet_host_compress_with_range_coder`.
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
_NODES = 4094
_MOST_TOTAL = 65_280


class _Context:
    """Counts of the values seen after the same one or two values."""

    __slots__ = ("child", "count", "escape", "parent", "total")

    def __init__(self, escape: int = 0, total: int = 0) -> None:
        self.escape = escape
        self.total = total
        self.count: dict[int, int] = {}
        self.child: dict[int, _Context] = {}
        self.parent: _Context | None = None

    def below(self, value: int) -> int:
        return sum(n for v, n in self.count.items() if v < value)

    def halve(self, base: int) -> None:
        for v, n in self.count.items():
            self.count[v] = n - n // 2
        self.escape -= self.escape // 2
        self.total = self.escape + sum(self.count.values()) + base


class _Model:
    __slots__ = ("made", "now", "order", "root")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.root = self.now = _Context(1, 257)
        self.order = 0
        self.made = 1

    def _add(self, context: _Context, value: int, step: int) -> _Context:
        if value not in context.count:
            context.count[value] = 0
            context.child[value] = _Context()
            self.made += 1
        context.count[value] += step
        return context.child[value]

    def update(self, context: _Context, value: int) -> _Context:
        """Step 1: one more `value` in a context that is not the root."""
        before = context.count.get(value, 0)
        child = self._add(context, value, 2)
        if before == 0:
            context.escape += 5
            context.total += 5
        context.total += 2
        if before > 251 or context.total > _MOST_TOTAL:
            context.halve(0)
        return child

    def update_root(self, value: int) -> _Context:
        """Step 2."""
        before = self.root.count.get(value, 0)
        child = self._add(self.root, value, 3)
        self.root.total += 3
        if before + 1 > 250 or self.root.total > _MOST_TOTAL:
            self.root.halve(256)
        return child

    def advance(self, children: list[_Context]) -> None:
        """Steps 3 to 5."""
        for child, shorter in zip(children, [*children[1:], self.root], strict=True):
            if child.parent is None or shorter is not self.root:
                child.parent = shorter
        self.now = children[0]
        if self.order < 2:
            self.order += 1
        else:
            self.now = self.now.parent or self.root
        if self.made >= _NODES:
            self.forget()


class _Range:
    __slots__ = ("low", "range")

    def __init__(self) -> None:
        self.low = 0
        self.range = _MASK

    def take(self, start: int, size: int) -> list[int]:
        """Narrow to (start, size) of the total that `range` was divided by; the bytes that are settled."""
        self.low = (self.low + start * self.range) & _MASK
        self.range = (self.range * size) & _MASK
        settled: list[int] = []
        while True:
            if (self.low ^ (self.low + self.range) & _MASK) >= 1 << 24:
                if self.range >= 1 << 16:
                    return settled
                self.range = -self.low & 0xFFFF
            settled.append(self.low >> 24)
            self.low = self.low << 8 & _MASK
            self.range = self.range << 8 & _MASK


def _root_value(root: _Context, place: int) -> int:
    """The value at a place of the root, where each weighs 1 + count."""
    for value in range(255):
        weight = 1 + root.count.get(value, 0)
        if place < weight:
            return value
        place -= weight
    return 255


def compress(data: bytes) -> bytes:
    """Code `data`. The result may be longer than `data`; senders then send it plain.

    >>> compress(b"hello").hex()
    '68fbe0c33d21e0'
    """
    model, coder, out = _Model(), _Range(), bytearray()

    def code(start: int, size: int, total: int) -> None:
        coder.range //= total
        out.extend(coder.take(start, size))

    for value in data:
        children, context = [], model.now
        while context is not model.root:
            known, total, escape = context.count.get(value, 0), context.total, context.escape
            if known:
                code(escape + context.below(value), known, total)
            elif 0 < escape < total:
                code(0, escape, total)
            children.append(model.update(context, value))
            if known:
                break
            assert context.parent is not None
            context = context.parent
        else:
            root = model.root
            code(root.escape + value + root.below(value), root.count.get(value, 0) + 1, root.total)
            children.append(model.update_root(value))
        model.advance(children)
    while coder.low:
        out.append(coder.low >> 24)
        coder.low = coder.low << 8 & _MASK
    return bytes(out)


def decompress(data: bytes, most: int) -> bytes | None:
    """Undo `compress`. None when `data` is corrupt or gives more than `most` bytes.

    >>> decompress(bytes.fromhex("68fbe0c33d21e0"), 4092)
    b'hello'
    """
    model, coder, out = _Model(), _Range(), bytearray()
    code = int.from_bytes(data[:4].ljust(4, b"\0"))
    rest = iter(data[4:])

    def read(total: int) -> int:
        coder.range //= total
        return total if coder.range == 0 else (code - coder.low & _MASK) // coder.range

    def take(start: int, size: int) -> None:
        nonlocal code
        for _ in coder.take(start, size):
            code = (code << 8 | next(rest, 0)) & _MASK

    def find(context: _Context, place: int) -> int | None:
        for value in sorted(context.count):
            if place < context.count[value]:
                return value
            place -= context.count[value]
        return None

    while True:
        passed: list[_Context] = []
        context, value = model.now, 0
        found: _Context | None = None
        while context is not model.root:
            if 0 <= context.escape < context.total:
                place = read(context.total)
                if place >= context.total:
                    return None
                if place >= context.escape:
                    known = find(context, place - context.escape)
                    if known is None:
                        return None
                    value = known
                    take(context.escape + context.below(value), context.count[value])
                    found = model.update(context, value)
                    break
                take(0, context.escape)
            passed.append(context)
            assert context.parent is not None
            context = context.parent
        else:
            root = model.root
            place = read(root.total)
            if place >= root.total:
                return None
            if place < root.escape:
                return bytes(out)
            place -= root.escape
            value = _root_value(root, place)
            take(root.escape + value + root.below(value), root.count.get(value, 0) + 1)
            found = model.update_root(value)
        assert found is not None
        if len(out) == most:
            return None
        children = []
        for context in passed:
            if value in context.count:
                return None
            children.append(model.update(context, value))
        out.append(value)
        model.advance([*children, found])
