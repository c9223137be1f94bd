"""Steps that decide by lists: Blocklist, Hosts, Local, Rebinding (spec section 7.1).

Imports lists, result, question, zone, answers.
"""

from __future__ import annotations

import glob
import ipaddress
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import FormatError, StartError
from . import names, rrtypes
from .access import Prefixes
from .answers import RR
from .lists import ALLOW, NameList, Rule, stamp
from .question import Question
from .result import Result, error
from .zone import RRset

ANSWERS = ("nxdomain", "nodata", "zero", "refused", "drop")
BLOCK_TTL = 60
ASKED = ("forward", "cache", "stale", "recursion")
"""Sources of answers that came from other servers."""
MOST_SERVERS = 4
"""Name servers of a zone that RPZ rules look at."""


class Blocklist:
    """Answers names on lists itself, before anything is resolved.

    `files` are paths, globs allowed, in hosts, plain, adblock or RPZ form,
    detected per file. `answer` is `"nxdomain"`, `"nodata"`, `"zero"` (0.0.0.0 and
    ::), `"refused"`, `"drop"`, or an address. Names under `allow` are never
    blocked. Targets of CNAMEs in answers are checked too (cloaking), and RPZ
    address rules against the addresses. `ede` is 15 (ours), 16 (law) or 17 (asked
    by the client). `reload()` reads the files again; on an error the old rules stay.

    >>> Blocklist("ads.txt", "lists/*.txt", answer="zero", allow=["cdn.example.net"])
    """

    recursive = False

    def __init__(
        self,
        *files: str | os.PathLike[str],
        answer: str = "nxdomain",
        allow: Iterable[str] = (),
        ede: int = 15,
    ) -> None:
        self.patterns = [os.fspath(file) for file in files]
        self.address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
        if answer not in ANSWERS:
            try:
                self.address = ipaddress.ip_address(answer)
            except ValueError:
                raise StartError(
                    f"blocklist answer {answer!r}: expected {', '.join(ANSWERS)} or an address.",
                    code="bad-dns-setting",
                ) from None
        self.answer = answer
        self.ede = ede
        self.allow = NameList.read("\n".join(f"@@||{name}^" for name in allow), "allow")
        self.lists: list[NameList] = []
        self.counters = {"blocked": 0, "allowed": 0}
        self.copied: dict[Any, NameList] = {}
        self.touched: list[Callable[[], None]] = []
        """Called when rules have come from elsewhere."""
        self._hits: Counter[str] = Counter()
        self.reload()

    def follow(self, copy: Any) -> None:
        """Take the rules of a secondary zone, which is an RPZ, as well: now and whenever it has changed (P4)."""
        copy.changed.append(lambda zone, before: self._follow(copy))
        self._follow(copy)

    def _follow(self, copy: Any) -> None:
        if copy.zone.soa is None:
            return  # nothing has come yet
        self.copied[copy] = NameList.of_zone(copy.zone)
        self.reload()
        for tell in self.touched:
            tell()

    def reload(self) -> list[str]:
        """Read all files again that changed. Returns one line for each; raises `OSError` and keeps the old rules."""
        known = {one.file: one for one in self.lists}
        made = []
        for path in self.files():
            old = known.get(str(path))
            made.append(old if old is not None and old.stamp == stamp(path) else NameList.load(path))
        made += self.copied.values()
        for one in self.lists:
            if one not in made:
                self._hits[one.file] += one.rules.hits if one.rules is not None else 0
        self.lists = made
        return self.told()

    def told(self) -> list[str]:
        """A line for each list: what kind it is, how many rules it has, and how many were not understood."""
        return [
            f"{one.file}: {one.kind}, {one.count} rules, {one.unsupported} not supported"
            for one in self.lists
        ]

    def files(self) -> list[Path]:
        """The files that there are now."""
        return [
            Path(path)
            for pattern in self.patterns
            for path in (sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern])
        ]

    def hits(self) -> dict[str, int]:
        """How often each list has blocked, by file; C's answers too."""
        found = Counter(self._hits)
        for one in self.lists:
            found[one.file] += one.rules.hits if one.rules is not None else 0
        return dict(found)

    def find(self, key: bytes, qtype: int, client: str) -> Rule | None:
        """The rule for a name; an allow rule of any list beats a block rule."""
        blocked: Rule | None = None
        for one in (self.allow, *self.lists):
            rule = one.match(key, qtype, client)
            if rule is None:
                continue
            if rule.action == ALLOW:
                return rule
            blocked = blocked or rule
        return blocked

    def ask(self, q: Question) -> Any:
        if "walled" in q.log:
            return None
        host = q.client.host
        for one in self.lists:
            rule = one.match_address(host, "client")
            if rule is not None:
                return self._blocked(q, rule) if rule.action != ALLOW else None
        rule = self.find(q.query.key, q.query.qtype, host)
        if rule is None:
            return None
        if rule.action == ALLOW:
            self.counters["allowed"] += 1
            q.log["allowed"] = str(rule)
            return None
        return self._blocked(q, rule)

    def check(self, q: Question, result: Result) -> Any:
        """Look at an answer: CNAME targets, addresses on RPZ lists, the servers of the zone."""
        if "allowed" in q.log or "walled" in q.log:
            return None
        found = self._check(q, result)
        if found is None and result.source in ASKED and any(one.names_servers for one in self.lists):
            return self._servers(q)
        return found

    async def _servers(self, q: Question) -> Any:
        """RPZ rules about the name servers of the zone that a name is in, which are asked for (P4)."""
        if "servers" in q.log or not any(one.names_servers for one in self.lists):
            return None  # a question about servers, asked from here
        q.log["servers"] = True
        try:
            async for rule in self._server_rules(q):
                return self._blocked(q, rule) if rule.action != ALLOW else None
        except RecursionError:
            pass  # the work for this question is used up: what was seen counts
        finally:
            del q.log["servers"]
        return None

    async def _server_rules(self, q: Question) -> AsyncIterator[Rule]:
        at, key = 0, q.query.key
        servers: list[bytes] = []
        while key[at] and not servers:
            found = await q.resolve(names.to_text(key[at:]), "NS")
            servers = [data for rrset in found.answer if rrset.type == rrtypes.NS for data in rrset.rdatas]
            at += 1 + key[at]
        for target in servers[:MOST_SERVERS]:
            for one in self.lists:
                rule = one.match_server(target.lower())
                if rule is not None:
                    yield rule
        if not any(one.server_addresses for one in self.lists):
            return
        for target in servers[:MOST_SERVERS]:
            for rtype in ("A", "AAAA"):
                found = await q.resolve(names.to_text(target), rtype)
                for rrset in found.answer:
                    for data in rrset.rdatas if rrset.type in (rrtypes.A, rrtypes.AAAA) else ():
                        for one in self.lists:
                            rule = one.match_address(str(ipaddress.ip_address(data)), "server")
                            if rule is not None:
                                yield rule

    def _check(self, q: Question, result: Result) -> Any:
        host = q.client.host
        for rrset in result.answer:
            if rrset.type == rrtypes.CNAME:
                rule = self.find(rrset.rdatas[0].lower(), q.query.qtype, host)
                if rule is not None and rule.action != ALLOW:
                    return self._blocked(q, rule)
            elif rrset.type in (rrtypes.A, rrtypes.AAAA):
                for one in self.lists:
                    for data in rrset.rdatas if one.addresses else ():
                        rule = one.match_address(str(ipaddress.ip_address(data)))
                        if rule is not None and rule.action != ALLOW:
                            return self._blocked(q, rule)
        return None

    def _blocked(self, q: Question, rule: Rule) -> Any:
        self.counters["blocked"] += 1
        self._hits[rule.file] += 1
        q.log["blocked"] = str(rule)
        for tell in q.service.blocked:
            tell(q, rule)
        found = self._answer(q, rule)
        if rule.answer == "records" and isinstance(found, Result) and q.query.qtype != rrtypes.CNAME:
            target = next((r.rdatas[0] for r in found.answer if r.type == rrtypes.CNAME), None)
            if target is not None and "walled" not in q.log:
                return self._walled(q, found, target)
        return found

    async def _walled(self, q: Question, found: Result, target: bytes) -> Result:
        """An RPZ rule leads to another name (a walled garden): clients want what that has."""
        q.log["walled"] = True  # where it leads is not looked at again
        inner = await q.resolve(names.to_text(target), q.type)
        found.answer += inner.answer
        return found

    def _answer(self, q: Question, rule: Rule) -> Result | str | None:
        kind = rule.answer or ("address" if self.address else self.answer)
        if kind == "drop":
            return "drop"
        if kind == "tcp":
            if q.stream:
                return None
            truncated = Result()
            truncated.tc = True
            return truncated
        rcode = {"nxdomain": rrtypes.NXDOMAIN, "refused": rrtypes.REFUSED}.get(kind, rrtypes.NOERROR)
        result = error(rcode, self.ede)
        result.source = "policy"
        name, qtype = q.query.name, q.query.qtype
        if kind == "records":
            for rrset in rule.records:
                if rrset.type in (qtype, rrtypes.CNAME) or qtype == rrtypes.ANY:
                    result.answer.append(rrset.at(name))
        elif kind in ("zero", "address"):
            octets = self.address.packed if self.address else (bytes(4) if qtype == rrtypes.A else bytes(16))
            if qtype == {4: rrtypes.A, 16: rrtypes.AAAA}[len(octets)]:
                result.answer.append(RRset(name, qtype, BLOCK_TTL, [octets]))
        if not result.answer and rcode in (rrtypes.NOERROR, rrtypes.NXDOMAIN):
            result.authority.append(block_soa())
        return result


def block_soa() -> RRset:
    """The SOA that lets clients keep a blocked answer for a minute."""
    numbers = b"".join(n.to_bytes(4, "big") for n in (1, 3600, 600, 86400, BLOCK_TTL))
    return RRset(names.ROOT, rrtypes.SOA, BLOCK_TTL, [names.ROOT * 2 + numbers])


class Local:
    """Records of one's own: from a mapping of name to records, and from hosts files (spec P2).

    A hosts file gives A, AAAA and PTR. `"*.lan"` stands for all names below `lan` that have no records of
    their own or a closer `*`. Other types of a name that is here are NODATA, unless `transparent=True` lets them
    go on to the next step.

    >>> Local({"nas.lan": [dns.A("192.168.1.5")]}, hosts=["/etc/hosts"])
    """

    recursive = False

    def __init__(
        self,
        records: dict[str, RR | list[RR]] | None = None,
        *,
        hosts: Iterable[str | os.PathLike[str]] = (),
        transparent: bool = False,
    ) -> None:
        self.given = dict(records or {})
        self.hosts = [Path(path) for path in hosts]
        self.transparent = transparent
        self.nodes: dict[bytes, dict[int, RRset]] = {}
        self.stamps: list[tuple[int, ...]] | None = None
        self.reload()

    def files(self) -> list[Path]:
        """The hosts files."""
        return self.hosts

    def reload(self) -> list[str]:
        """Read the hosts files again if one changed; raises `OSError` and keeps the old records."""
        stamps = [stamp(path) for path in self.hosts]
        if stamps == self.stamps:
            return [f"{len(self.nodes)} local names"]
        nodes: dict[bytes, dict[int, RRset]] = {}
        for text, given in self.given.items():
            for record in given if isinstance(given, list) else [given]:
                _put(nodes, names.from_text(text), record.type, record.ttl, record.data)
        for path in self.hosts:
            for line in path.read_text("utf-8", "replace").splitlines():
                words = line.partition("#")[0].split()
                if len(words) < 2:
                    continue
                try:
                    address = ipaddress.ip_address(words[0].partition("%")[0])
                    owners = [names.from_text(word) for word in words[1:]]
                except (ValueError, FormatError):
                    continue
                rtype = rrtypes.A if address.version == 4 else rrtypes.AAAA
                for owner in owners:
                    _put(nodes, owner, rtype, BLOCK_TTL, address.packed)
                _put(nodes, names.from_text(address.reverse_pointer), rrtypes.PTR, BLOCK_TTL, owners[0])
        self.nodes, self.stamps = nodes, stamps
        return [f"{len(nodes)} local names"]

    def find(self, key: bytes) -> dict[int, RRset] | None:
        """The records of a folded name, or of the closest `*` above it."""
        node = self.nodes.get(key)
        at = 0
        while node is None and key[at]:
            at += 1 + key[at]
            node = self.nodes.get(ANYTHING + key[at:])
        return node

    def ask(self, q: Question) -> Result | None:
        node = self.find(q.query.key)
        if node is None:
            return None
        found = node.get(q.query.qtype) or node.get(rrtypes.CNAME)
        if found is None and self.transparent:
            return None
        result = Result(aa=True)
        result.source = "policy"
        if found is not None:
            result.answer.append(found.at(q.query.name))
        else:
            result.authority.append(block_soa())
        return result


ANYTHING = b"\1*"


def _put(nodes: dict[bytes, dict[int, RRset]], owner: bytes, rtype: int, ttl: int, data: bytes) -> None:
    node = nodes.setdefault(names.fold(owner), {})
    rrset = node.get(rtype)
    if rrset is None:
        node[rtype] = RRset(owner, rtype, ttl, [data])
    elif data not in rrset.rdatas:
        rrset.rdatas.append(data)


PRIVATE = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    "::/128", "::1/128", "fc00::/7", "fe80::/10",
)  # fmt: skip


class Rebinding:
    """Takes private addresses out of answers for public names (spec P7); `allow` names may have them.

    >>> Service(Rebinding(allow=["lan.example.org"]), Forward("192.0.2.1"))
    """

    recursive = False

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self.allow = [names.fold(names.from_text(name)) for name in allow]
        self.private = Prefixes(PRIVATE)

    def ask(self, q: Question) -> None:
        return None

    def check(self, q: Question, result: Result) -> Result | None:
        if result.source == "policy" or any(names.encloses(name, q.query.key) for name in self.allow):
            return None
        removed = False
        kept: list[RRset] = []
        for rrset in result.answer:
            if rrset.type in (rrtypes.A, rrtypes.AAAA):
                good = [d for d in rrset.rdatas if str(ipaddress.ip_address(d)) not in self.private]
                removed = removed or len(good) < len(rrset.rdatas)
                if good:
                    kept.append(RRset(rrset.owner, rrset.type, rrset.ttl, good))
            else:
                kept.append(rrset)
        if not removed:
            return None
        made = Result(result.rcode, result.aa)
        made.answer, made.authority, made.source = kept, list(result.authority), "policy"
        made.ede.append((17, ""))
        return made
