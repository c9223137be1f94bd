"""Turns ChiNS's JSON zones into zones (`dns zone import`).

The form: `origin`, `ttl`, `soa` with its seven fields, `ns` and `a` lists, and
any other lower-case type as a list. Relative names, `@` and wildcards work.
Imports zone and errors.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ..errors import FormatError
from . import rrtypes
from .zone import Zone

_SOA = (("mname", "ns1"), ("rname", "hostmaster"), ("serial", None), ("refresh", 7200), ("retry", 900),
        ("expire", 1209600), ("minimum", 300))  # fmt: skip
_VALUES = ("value", "host", "ip", "address", "target", "data", "text")


def from_chins(text: str | bytes, name: str | None = None) -> Zone:
    """The zone that a ChiNS file describes. `FormatError` names the key that is wrong.

    A missing serial, or the placeholder `{time}`, becomes the current time.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FormatError(
            f"this is no JSON zone ({error}). Expected an object with origin, soa, ns and a."
        ) from None
    if not isinstance(found, dict):
        raise FormatError("this JSON is no zone: expected an object with origin, soa, ns and a.")
    known = {key.lstrip("$").lower(): value for key, value in found.items()}
    origin = known.pop("origin", None) or name
    if not isinstance(origin, str):
        raise FormatError('origin is missing: expected the zone\'s name, as in "example.org.".')
    if not origin.endswith("."):
        origin += "."
    ttl = known.pop("ttl", 3600)
    if not isinstance(ttl, int) or isinstance(ttl, bool):
        raise FormatError(f"ttl is {ttl!r}: expected seconds.")
    lines = [f"$ORIGIN {origin}", f"$TTL {ttl}", _soa(known.pop("soa", {}))]
    for key, records in known.items():
        rtype = key.upper()
        if rtype not in rrtypes.TYPES:
            raise FormatError(f"{key!r} is neither origin, ttl, soa nor an RR type.")
        if not isinstance(records, list):
            raise FormatError(f"{key} is {type(records).__name__}: expected a list of records.")
        lines += [_record(rtype, record, f"{key}[{index}]") for index, record in enumerate(records)]
    return Zone.from_text("\n".join(lines) + "\n", origin)


def _soa(soa: Any) -> str:
    if not isinstance(soa, dict):
        raise FormatError(f"soa is {soa!r}: expected an object with mname, rname and five numbers.")
    words = []
    for key, default in _SOA:
        value = soa.get(key, default)
        if key == "serial" and (value is None or not str(value).isdigit()):
            value = int(time.time())
        words.append(str(value))
    return f"@ SOA {' '.join(words)}"


def _record(rtype: str, record: Any, where: str) -> str:
    if not isinstance(record, dict):
        raise FormatError(f"{where} is {record!r}: expected an object with name and value.")
    value = next((record[key] for key in _VALUES if key in record), None)
    if value is None:
        raise FormatError(f"{where} has no value: expected one of {', '.join(_VALUES)}.")
    owner = str(record.get("name", "@")) or "@"
    data = str(value)
    if rtype in ("TXT", "SPF") and not data.startswith('"'):
        escaped = data.replace("\\", "\\\\").replace('"', '\\"')
        data = " ".join(f'"{escaped[i : i + 250]}"' for i in range(0, max(len(escaped), 1), 250))
    if rtype == "MX" and "preference" in record:
        data = f"{record['preference']} {data}"
    for part in (owner, data):
        if "\n" in part:
            raise FormatError(f"{where} holds a line break: expected one line.")
    ttl = record.get("ttl")
    return f"{owner} {ttl if ttl is not None else ''} {rtype} {data}"
