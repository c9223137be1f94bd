"""What Python may see of the native DNS."""

from collections.abc import Iterable, Sequence
from typing import Any

from _typeshed import ReadableBuffer as Buffer

DROP: int
COOKIE_ONLY: int

def name_text(name: bytes) -> str: ...
def write_answer(
    q: Question,
    rcode: int,
    flags: int,
    answer: Iterable[Record] = (),
    authority: Iterable[Record] = (),
    additional: Iterable[Record] = (),
    *,
    ede: int | None = None,
    text: bytes = b"",
    expire: int | None = None,
) -> bytes: ...
def read_message(data: Buffer) -> list[tuple[int, bytes, int, int, int, bytes]]: ...

class Server:
    def __init__(
        self,
        *,
        id: bytes = b"",
        secrets: Sequence[bytes] | None = None,
        udp_max: int = 1232,
        key: bytes | None = None,
    ) -> None: ...
    def roll(self, secrets: Iterable[bytes]) -> None: ...

class Record:
    owner: bytes | None
    type: int
    ttl: int
    rdata: bytes
    def __init__(self, owner: bytes | None, type: int, ttl: int, rdata: bytes) -> None: ...

class Question:
    client: Any
    transport: Any
    view: Any
    now: Any
    deadline: Any
    server: Any
    connection: Any
    service: Any
    verified: bool
    @staticmethod
    def parse(
        server: Server,
        data: Buffer,
        ip: bytes = b"\x7f\0\0\1",
        *,
        stream: bool = False,
        encrypted: bool = False,
        wall: int = 0,
        idle: int = 0,
    ) -> Question: ...
    @property
    def verdict(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def wire_name(self) -> bytes: ...
    @property
    def folded(self) -> bytes: ...
    @property
    def head(self) -> bytes: ...
    @property
    def id(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def opcode(self) -> int: ...
    @property
    def type(self) -> int: ...
    @property
    def klass(self) -> int: ...
    @property
    def has_edns(self) -> bool: ...
    @property
    def wants_dnssec(self) -> bool: ...
    @property
    def recursion_desired(self) -> bool: ...
    @property
    def checking_disabled(self) -> bool: ...
    @property
    def authentic_data(self) -> bool: ...
    @property
    def udp_size(self) -> int: ...
    @property
    def cookie(self) -> int: ...
    @property
    def wants_expire(self) -> bool: ...
    @property
    def tsig_at(self) -> int: ...
    @property
    def serial(self) -> int | None: ...
    @property
    def ede(self) -> int | None: ...
    @property
    def work(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def stream(self) -> bool: ...
    def error(self, rcode: int, flags: int = 0, ede: int | None = None, text: bytes = b"") -> bytes: ...
    def refuse(self) -> bytes | None: ...
