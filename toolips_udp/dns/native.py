"""The native half of a service: what C answers of its steps, kept in step with them.

Zones become images, names with Python handlers become rules that let their
questions through, prefixes become ranges; the stage answers from these before
Python runs. Where the steps are views of clients, each is a view of the stage,
found by the client's range. Everything it cannot say goes to the service's own trip. Made by
`service` where the native core is there; imports the native DNS, question,
answers, zone, access.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

from .._native import dns as native
from ..address import Address
from . import lookup, names
from .access import NOBODY, Prefixes
from .answering import RECURSERS
from .answers import RR, Answer
from .cache import Key
from .forward_native import Forwarders
from .handlers import Handler, HandlerFailed
from .policy import ANYTHING, Local
from .query import Query, parse_query
from .question import QuestionVerbs
from .result import Result
from .views import View
from .zone import Zone

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("toolips_udp.dns")
TELL_AGAIN = 30.0
"""Seconds between two lines about one limited prefix."""
MOST_TOLD = 1000
WATCH = 0.5
"""Seconds between looks at zones that changed without saying so (an expired secondary)."""
SWAP = 1.0
WATCH_MANY = 10.0
MANY = 2000
VIEWS = 16
"""Views that the stage answers for; a service with more of them is Python's."""
NOBODYS = 65_534
"""The number of rules for names that no function has which C could call."""
LISTS = 32
"""Lists that a view of the stage holds; steps with more are Python's."""
ANSWERS = {
    "nxdomain": native.NXDOMAIN,
    "nodata": native.NODATA,
    "zero": native.ZERO,
    "refused": native.REFUSED,
    "drop": native.DROP_IT,
}
TRANSPORTS = {"udp": 0, "tcp": 1, "tls": 2, "https": 3}
LOOPBACK = Address("127.0.0.1", 0)
_EDE = {"loading": 14, "expired": 24}


class AskedQuestion(native.Question, QuestionVerbs):
    """A question parsed in C. Lives as long as somebody holds it."""

    __slots__ = ()

    service: Any = None
    transport = "udp"
    stream = False
    encrypted = False

    @property
    def query(self) -> Query:
        """The message taken apart in Python, made when asked for."""
        return parse_query(self.connection.packet)

    @property
    def client(self) -> Any:
        return self.connection.address

    @property
    def now(self) -> float:
        return float(self.connection.now)

    @property
    def deadline(self) -> float:
        return self.now + 5.0

    @property
    def server(self) -> Any:
        return self.service.server

    @property
    def log(self) -> dict[str, Any]:
        if self.log_notes is None:
            self.log_notes = {}
        return self.log_notes  # type: ignore[no-any-return]


class NativeHalf:
    """The stage of one service, and what it answers from."""

    def __init__(self, service: Service) -> None:
        self.service = service
        secrets = tuple(service.cookies.secrets) if service.cookies else ()
        self.server = native.Server(
            id=(service.id or "").encode()[:64], secrets=secrets, udp_max=service.udp_size, ecs=service.ecs
        )
        limit, times = service.limit, round(1 / RECURSERS) if service.recursive else 1
        made = native.RateLimit(limit.rate * times, limit.burst * times, slip=limit.slip) if limit else None
        trusted = limit.trusted if limit is not None else Prefixes()
        self.views = views_of(service)
        clients = [view.clients for view in self.views]
        self.stage = native.Stage(
            self.server,
            ranges(service.may_query, service.may_recurse, trusted, clients, service.silent, service.proxies),
        )
        self.stage.set_limit(made, times)
        kind = type("AskedQuestion", (AskedQuestion,), {"__slots__": (), "service": service})
        self.dispatcher = native.Dispatcher(
            self.stage,
            fallback=service._serve,
            passed=service._passed,
            finish=service._finish,
            failed=_failed,
            question=kind,
            record=RR,
            answer=Answer,
        )
        self.forwards = cacheable(service)
        self.cache: Any = native.Cache(service.cache_size) if self.forwards else None
        self._rules: native.Rules | None = None
        self._limited = 0
        self._told: dict[str, float] = {}
        self._sharing = bytearray()
        self.forwarders = Forwarders(self)
        self.stage.prefetch = self._prefetch
        self._again: set[asyncio.Task[None]] = set()
        self._secrets = secrets
        self._images: dict[int, tuple[Zone, int, native.Image]] = {}
        self._seen: object = None
        self._lock = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self.refresh()

    # -- keeping up

    def start(self) -> None:
        """On the server's loop: look for changes from now on."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        for step in self.service.every_step():
            touched = getattr(step, "touched", None)
            changed = getattr(step, "changed", None)
            again = self._listed if hasattr(step, "lists") else self.refresh
            if touched is not None and again not in touched:
                touched.append(again)
            elif touched is None and changed is not None and self._changed not in changed:
                changed.append(self._changed)
        self.watch()
        self.forwarders.start(self._loop)

    def _listed(self) -> None:
        """Rules have come from elsewhere: what is cached went by the old ones."""
        self.refresh()
        self.flush()

    def stop(self) -> None:
        self.forwarders.stop(self._loop)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None
        for task in self._again:
            task.cancel()

    def watch(self) -> None:
        if self.service.cookies is not None:
            self.service.cookies.follow(int(self.service.wall()))
        self.tell_limited()
        self.refresh()
        if self._loop is not None:
            self._timer = self._loop.call_later(WATCH if len(self._images) < MANY else WATCH_MANY, self.watch)

    def tell_limited(self) -> None:
        """One line in the log for a prefix that the rate limit holds back, at most every 30 s."""
        count, last = self.stage.limited
        if count == self._limited or not last:
            return
        before, self._limited = self._limited, count
        prefix = str(ipaddress.ip_network((last, 24 if len(last) == 4 else 56), strict=False))
        now = self.service.clock()
        if now < self._told.get(prefix, -TELL_AGAIN) + TELL_AGAIN:
            return
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told[prefix] = now
        log.warning(
            "the rate limit holds back %s: %d replies lately, %d in all", prefix, count - before, count
        )

    def _changed(self, zone: Zone, before: Zone | None) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Build what changed and swap it in. From any thread; the swap happens on the loop."""
        with self._lock:
            chains = [self._steps(chain) for chain in self._chains()]
            steps = [step for chain in chains for step in chain]
            zones = [zone for chain in chains for zone in _reachable(chain)]
            seen = (
                tuple(id(one) for step in steps for one in getattr(step, "lists", ())),
                [id(step.nodes) for step in steps if isinstance(step, Local)],
                bool(self.service.blocked),
                tuple((id(z), z.state, z.version) for z in zones),
                tuple(id(s) for s in self.service.steps),
                sum(map(len, [*self.service.handlers.exact.values(), *self.service.handlers.wild.values()])),
                bool(self.service.watchers),
                id(self.service.query_log),
                id(self.service.dnstap),
                tuple(self.service.cookies.secrets) if self.service.cookies else (),
            )
            if seen == self._seen:
                return
            self._seen = seen
            install = self._prepare(chains)
        loop = self._loop
        if loop is not None and threading.get_ident() != self._thread:
            done = threading.Event()
            loop.call_soon_threadsafe(install)
            loop.call_soon_threadsafe(done.set)
            done.wait(SWAP)  # whoever reloads finds the new zones served
        else:
            install()

    def _chains(self) -> list[list[Any]]:
        """The steps of each view of the stage: those of the service, or of its views, and none for who fits no view."""
        return [*(view.steps for view in self.views), []] if self.views else [self.service.steps]

    def _steps(self, given: list[Any]) -> list[Any]:
        """The first steps, as far as C can answer for them: zones and lists, either before the other.

        Local data in front of them is Python's, by its names.
        """
        found = list(takewhile(lambda step: isinstance(step, Local), given))
        kinds: list[bool] = []
        for step in given[len(found) :]:
            is_zones = isinstance(getattr(step, "zones", None), lookup.Zones)
            turned = sum(a != b for a, b in pairwise([*kinds, is_zones]))
            if turned > 1 or (not is_zones and _group(step) is None):
                break
            found.append(step)
            kinds.append(is_zones)
        while sum(len(_group(step) or ()) for step in found) > LISTS:
            found.pop()
        return found

    def _prepare(self, chains: list[list[Any]]) -> Any:
        service = self.service
        images: dict[int, tuple[Zone, int, native.Image]] = {}
        names_of, groups = _handlers(service.handlers)
        if names_of and self.cache is None:
            self.cache = native.Cache(service.cache_size)
        rules = native.Rules(names_of) if names_of else None
        sharing = bytearray(1 << 16)
        closed = not service.native or bool(service.watchers)
        views = [
            {
                "zones": self._zones(_reachable(steps), images),
                "lists": [group for step in steps if (group := _group(step))],
                "zones_first": any(hasattr(step, "zones") for step in _own(steps)[:1]),
                "final": len(steps) == len(whole),
                "cache": self.cache if self.forwards else None,
                "forwards": self.forwarders.behind(steps, whole),
                "python": self._python(steps, names_of, rules),
                "shared": self.cache if rules is not None else None,
                "sharing": sharing if rules is not None else None,
                "id": number,
                "whole_any": service.whole_any,
                "generous": not service.minimal,
                "recursive": any(getattr(step, "recursive", False) for step in whole),
                "closed": closed,
                "note_blocked": bool(service.blocked),
            }
            for number, (steps, whole) in enumerate(zip(chains, self._chains(), strict=True))
        ]
        secrets = tuple(service.cookies.secrets) if service.cookies else ()

        def install() -> None:
            self._images = images
            self._rules, self._sharing = rules, sharing
            log = service.query_log
            if log is not None:
                log.upstreams = self.forwarders.urls()
            self.stage.set_log(
                log.ring if log is not None else None,
                service.dnstap.ring if service.dnstap is not None else None,
            )
            if secrets != self._secrets:
                self._secrets = secrets
                self.server.roll(secrets[:2])
                self.stage.set_server(self.server)
            self.dispatcher.plain = not closed
            self.dispatcher.set_groups(groups, service.recursive)
            for number, view in enumerate(views):
                self.stage.set_view(number, **view)

        return install

    def _python(
        self, steps: list[Any], names_of: list[Any], rules: native.Rules | None
    ) -> native.Rules | None:
        """The names of a view that Python answers first: of functions, and of its local data."""
        local = [rule for step in steps if isinstance(step, Local) for rule in _local(step)]
        return native.Rules([*names_of, *local]) if local else rules

    def _zones(self, zones: list[Zone], images: dict[int, tuple[Zone, int, native.Image]]) -> Any:
        """The zones of a view with their images; those that did not change keep theirs."""
        parts: list[Any] = []
        for zone in zones:
            if zone.state != "ready" or zone.soa is None:
                parts.append((zone.key, _EDE.get(zone.state, 14)))
                continue
            kept = images.get(id(zone)) or self._images.get(id(zone))
            if kept is None or kept[0] is not zone or kept[1] != zone.version:
                kept = (zone, zone.version, native.build_image(zone.key, zone.rrsets()))
            images[id(zone)] = kept
            parts.append(kept[2])
        return native.Zones(parts) if parts else None

    # -- answers that others may have

    def keep(self, packet: bytes, reply: bytes) -> None:
        """Put the answer of a forwarder into the stage's cache; `reply` is the whole of it, without OPT."""
        self.cache.put(native.Question.parse(self.server, packet), reply, self.service.clock())

    def share(self, q: Any, packet: bytes, reply: bytes) -> None:
        """Put the answer of a handler there for all clients of the view (spec section 10)."""
        found = self._rules.find(q.query.key) if self._rules is not None else None
        question = native.Question.parse(self.server, packet)
        if found is None or found[2] >= len(self._sharing) or question.verdict:
            return
        host = q.client.host
        view = next((i for i, view in enumerate(self.views) if host in view.clients), len(self.views))
        self.cache.put(question, reply, self.service.clock(), view=view + native.SHARED)
        self._sharing[found[2]] = 1

    def flush(self, name: bytes | None = None, *, tree: bool = False, rtype: int = 0) -> None:
        """Forget cached answers. Loop thread only."""
        if self.cache is not None:
            self.cache.flush(name, tree=tree, type=rtype)

    def _prefetch(self, packet: bytes) -> None:
        """The stage answered from the last tenth of a life: ask upstream behind it (C9)."""
        if self._loop is not None:
            task = self._loop.create_task(self._ask_again(packet))
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    async def _ask_again(self, packet: bytes) -> None:
        query = parse_query(packet)
        key = Key(query.key, query.qtype, query.do, query.cd, "")
        for step in self.service.steps:
            if not hasattr(step, "flights") or not names.encloses(step.zone, query.key):
                continue
            if key not in step.flights:
                landed: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
                step._fly(key, landed)
                await landed
                await self.service.trip(packet, LOOPBACK, "prefetch")
            return

    # -- streams

    def answer(self, packet: bytes, client: Any, transport: str) -> bytes | int | None:
        """One message of a stream: the reply, None to go on in Python, a negative word for silence."""
        host = client.host.partition("%")[0]
        try:
            ip = ipaddress.ip_address(host).packed
        except ValueError:
            return None
        if len(ip) == 16 and ip[:12] == bytes(10) + b"\xff\xff":
            ip = ip[12:]
        idle = 100 if transport in ("tcp", "tls") else 0
        encrypted = transport in ("tls", "https", "quic")
        return self.stage.answer(
            packet,
            ip,
            now=self.service.clock(),
            wall=self.service.wall(),
            stream=transport != "udp",
            encrypted=encrypted,
            idle=idle,
            port=client.port,
            transport=TRANSPORTS.get(transport, 3),
        )


def cacheable(service: Service) -> bool:
    """Whether answers of forwarders may be kept in C: nothing in the chain looks at the client."""
    if not service.recursive or any(hasattr(step, "steps") for step in service.steps):
        return False
    lists = [one for step in service.steps for one in getattr(step, "lists", ())]
    return not any(one.names_clients for one in lists)


def available() -> bool:
    """Whether the native half may be used: not under `TOOLIPS_UDP_PURE=1`."""
    return os.environ.get("TOOLIPS_UDP_PURE") != "1"


def views_of(service: Service) -> list[View]:
    """The views of a service that has nothing else, each for some clients on any transport; else none."""
    views = [
        step
        for step in service.steps
        if isinstance(step, View) and not (step.transports or step.keys or step.listeners)
    ]
    return views if len(views) == len(service.steps) and len(views) < VIEWS else []


def ranges(
    query: Prefixes,
    recursion: Prefixes,
    trusted: Prefixes,
    views: Sequence[Prefixes] = (),
    silent: bool = False,
    proxies: Prefixes = NOBODY,
) -> list[tuple[bytes, int]]:
    """The ranges of addresses between which the meaning changes, IPv4 as ::ffff:a.b.c.d.

    A client's view is the first it is in, or one past the last.
    """
    mapped = 0xFFFF << 32
    edges = {0, mapped, mapped + (1 << 32)}
    for text in (
        text for prefixes in (query, recursion, trusted, proxies, *views) for text in prefixes.texts
    ):
        if text == "any":
            continue
        network = ipaddress.ip_network(text, strict=False)
        base = mapped if network.version == 4 else 0
        edges.add(base + int(network.network_address))
        edges.add(base + int(network.broadcast_address) + 1)
    found: list[tuple[bytes, int]] = []
    for edge in sorted(e for e in edges if e < 1 << 128):
        host = str(ipaddress.IPv6Address(edge))
        if mapped <= edge < mapped + (1 << 32):
            host = str(ipaddress.IPv4Address(edge - mapped))
        meaning = next((number for number, clients in enumerate(views) if host in clients), len(views))
        meaning |= native.MAY_QUERY if host in query else native.SILENT if silent else 0
        meaning |= native.MAY_RECURSE if host in recursion else 0
        meaning |= native.TRUSTED if host in trusted else 0
        meaning |= native.PROXY if host in proxies else 0
        if not found or found[-1][1] != meaning:
            found.append((edge.to_bytes(16, "big"), meaning))
    return found


def _group(step: Any) -> list[tuple[native.Rules, int, int]] | None:
    """The lists of a blocklist as the stage wants them; None when Python must look at the client too."""
    if not hasattr(step, "lists") or not hasattr(step, "answer"):
        return None
    if any(one.rules is None or one.client_addresses for one in (step.allow, *step.lists)):
        return None
    action = native.ASK_PYTHON if step.address is not None else ANSWERS[step.answer]
    return [(one.rules, action, step.ede) for one in (step.allow, *step.lists)]


def _reachable(steps: Iterable[Any]) -> list[Zone]:
    """The zones of steps in order, without those that an earlier step hides."""
    found: list[Zone] = []
    before: list[lookup.Zones] = []
    for step in steps:
        if not hasattr(step, "zones"):
            continue
        found += [zone for zone in step.zones if not any(z.find(zone.key) for z in before)]
        before.append(step.zones)
    return found


def _handlers(handlers: Any) -> tuple[list[Any], list[tuple[int, dict[int, Any], dict[int, Any]]]]:
    """Rules that let the names of handlers through, and for each base name those that C calls, by type."""
    bases = list(dict.fromkeys([*handlers.exact, *handlers.wild]))
    rules, groups = [], []
    for number, base in enumerate(bases[:65_000]):
        exact, wild = handlers.exact.get(base, []), handlers.wild.get(base, [])
        scope = (native.EXACT if exact else 0) | (native.BELOW if wild else 0)
        rules.append((base, scope, native.ASK_PYTHON, number))
        groups.append((_labels(base), _plain(exact), _plain(wild)))
    for base in bases[65_000:]:
        scope = (native.EXACT if base in handlers.exact else 0) | (
            native.BELOW if base in handlers.wild else 0
        )
        rules.append((base, scope, native.ASK_PYTHON, NOBODYS))
    return rules, groups


def _local(step: Local) -> list[tuple[bytes, int, int, int]]:
    """Rules that let the names of local data through."""
    return [
        (key[2:], native.BELOW, native.ASK_PYTHON, NOBODYS)
        if key[:2] == ANYTHING
        else (key, native.EXACT, native.ASK_PYTHON, NOBODYS)
        for key in step.nodes
    ]


def _own(steps: Sequence[Any]) -> list[Any]:
    """The steps that C answers for itself."""
    return [step for step in steps if not isinstance(step, Local)]


def _plain(handlers: list[Handler]) -> dict[int, Any]:
    """The first handler for each type, False if that is threaded; 0 stands for all types."""
    found: dict[int, Any] = {}
    for handler in handlers:
        for rtype in handler.types:
            number = 0 if rtype == 255 else rtype
            if number not in found and 0 not in found:
                found[number] = False if handler.threaded else handler
    return found


def _labels(name: bytes) -> int:
    count = at = 0
    while name[at]:
        at += 1 + name[at]
        count += 1
    return count


def _failed(handler: Handler, q: Any, raised: Exception) -> Exception:
    if isinstance(raised, HandlerFailed):
        return raised
    if isinstance(raised, TimeoutError) and handler.is_async:
        return HandlerFailed(str(raised) or f"{handler.name} raised TimeoutError at {q.name} {q.type}")
    return HandlerFailed(f"{handler.name} raised {type(raised).__name__} at {q.name} {q.type}")
