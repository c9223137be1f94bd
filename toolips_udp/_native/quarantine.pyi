"""What Python may see of the quarantine stage."""

from collections.abc import Iterable

from typing_extensions import disjoint_base

@disjoint_base
class Quarantine:
    def __tudp_stage__(self) -> object: ...
    def set(self, packets: Iterable[bytes]) -> None: ...
