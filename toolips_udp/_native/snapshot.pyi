"""What Python may see of the native snapshots."""

from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class Plan:
    def __init__(
        self, fields: dict[str, Any], get: Callable[[Any], tuple[Any, ...]], near: Any, budget: int
    ) -> None: ...
    @property
    def made(self) -> Any: ...

@disjoint_base
class Made:
    def __init__(self, plan: Plan, entities: list[Any]) -> None: ...
    @property
    def now(self) -> bytes: ...
    def body(self, urgent: bytes, base: bytes, own: Any) -> tuple[bytes, bytes, bytes] | None: ...
