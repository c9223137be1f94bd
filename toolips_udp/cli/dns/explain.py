"""Explain how a configuration answers a question: view, list and rule, zone or upstream, RCODE.

    toolips-udp dns explain server.toml www.example.test A --client 192.0.2.7
    toolips-udp dns explain example.test.zone www.example.test A

Nothing is sent: handlers and upstreams are named, not asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from ...address import Address
from ...dns import rrtypes
from ...dns.message import ask
from ...dns.names import encloses, to_text
from ...dns.query import parse_query
from ...dns.question import Question
from ...dns.service import Service
from ...dns.zone import Zone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a configuration or a zone file")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("type", metavar="TYPE", nargs="?", default="A")
    parser.add_argument("--client", metavar="IP", default="127.0.0.1", help="who asks [127.0.0.1]")
    parser.add_argument("--transport", default="udp", choices=("udp", "tcp", "tls", "https"))
    parser.add_argument("--json", action="store_true", help="JSON instead of text")


def service_of(file: str) -> Service:
    if file.endswith(".toml"):
        from ...dns.building import add_handlers, build
        from ...dns.settings import read

        given = read(Path(file))
        service = build(given, file=Path(file))
        if given[0].service.handlers:
            add_handlers(service, given[1] / given[0].service.handlers)
        return service
    return Service(Zone.load(file))


async def steps_of(service: Service, q: Question) -> tuple[list[str], Any]:
    """What each step said, in order, and the answer. Forwarders are named, not asked."""
    told: list[str] = []
    for handler in service.handlers.find(q.query.key, q.query.qtype)[0]:
        told.append(f"Handler {handler.name}: would be called")
        return told, None
    waiting = list(service.steps)
    while waiting:
        step = waiting.pop(0)
        kind = type(step).__name__
        if hasattr(step, "group"):
            line, given = forwarded(step, q)
            told.append(f"{kind} {to_text(step.zone)}: {line}")
            if given is not None or "would" in line:
                return told, given
            continue
        if hasattr(step, "fits"):
            fitting = step.fits(q)
            told.append(f"{kind} {step.name}: {'fits' if fitting else 'does not fit'} client {q.client.host}")
            if fitting:
                waiting = list(step.steps)
            continue
        if hasattr(step, "prefix"):
            waiting = list(step.steps) + waiting
            told.append(f"{kind}: with prefix {step.prefix}")
            continue
        given = step.ask(q)
        zone = getattr(given, "zone", None)
        detail = q.log.get("blocked") or q.log.get("allowed") or (f"zone {zone.name}" if zone else "")
        told.append(f"{kind}: {'passes' if given is None else 'answers'}{', ' + detail if detail else ''}")
        if given is not None:
            return told, given
    told.append("no step answers")
    return told, None


def forwarded(step: Any, q: Question) -> tuple[str, Any]:
    """What a forwarder would do: pass, refuse, give what it has, or ask. Here it has nothing yet."""
    if not encloses(step.zone, q.query.key):
        return "passes, the name is outside", None
    given = step.ask(q) if q.client.host not in q.service.may_recurse or not q.query.rd else None
    if given is not None:
        return f"answers, {q.client.host} may not recurse", given
    return f"not cached here; would ask {', '.join(u.url for u in step.group.upstreams)}", None


def by(service: Service, packet: bytes, q: Question) -> str:
    """Who would answer: C alone, or Python."""
    service.stages()
    said = service.half.answer(packet, q.client, q.transport) if service.half is not None else None
    return "Python" if said is None else "C"


def run(options: argparse.Namespace) -> int:
    service = service_of(options.file)
    query = parse_query(ask(options.name, options.type).encode())
    q = Question(query, Address(options.client, 5353), options.transport, 0.0, service)
    told, result = asyncio.run(steps_of(service, q))
    facts: dict[str, Any] = {
        "question": f"{q.name} {q.type}",
        "steps": told,
        "answered by": by(service, query.packet, q),
    }
    if result == "drop":
        facts["reply"] = "none"
    elif result is not None:
        facts |= {
            "rcode": rrtypes.rcode_name(result.rcode),
            "aa": result.aa,
            "ede": result.ede,
            **result.texts(),
        }
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    for key, value in facts.items():
        if isinstance(value, list):
            for line in value:
                print(f"{key}: {line}")
        else:
            print(f"{key}: {value}")
    return 0
