"""Standing orders: control commands that workers which begin later are told too. Below group.py; imports process."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .process import Process


class Order(NamedTuple):
    """A control command, and what goes with it."""

    number: int
    message: dict[str, Any]
    content: bytes | None


class Orders:
    """The last command of each kind, in the order in which the kinds came up."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}
        self._numbers = itertools.count(1)

    def keep(
        self,
        kind: str,
        name: str,
        arguments: Mapping[str, Any],
        content: bytes | None = None,
        *,
        known: Iterable[Process] = (),
    ) -> None:
        """Tell it to who begins later, in place of the last one of that kind. Who knows it already is not told."""
        number = next(self._numbers)
        message = {"do": "command", "number": 0, "name": name, "arguments": dict(arguments)}
        self._orders[kind] = Order(number, message, content)
        for process in known:
            process.orders_told.add(number)

    def tell(self, process: Process) -> None:
        """All that it has not been told yet."""
        for order in self._orders.values():
            if order.number not in process.orders_told:
                process.orders_told.add(order.number)
                process.tell(order.message, order.content)
