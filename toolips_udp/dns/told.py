"""One answer of what several processes said to the same command of `dns ctl`.

Each function takes the answers of all workers, or the one of a server without any.
Plain data in and out; imports nothing of ours. Called by `control` and `metrics`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

SHOWN = 10
"""Texts of each field that `dns ctl top` shows."""


def added(parts: list[Any]) -> Any:
    """Numbers added up, maps and lists place by place; of anything else the first."""
    first = parts[0]
    if isinstance(first, dict):
        keys = list(dict.fromkeys(key for part in parts for key in part))
        return {key: added([part[key] for part in parts if key in part]) for key in keys}
    if isinstance(first, list):
        longest = max(map(len, parts))
        return [added([part[i] for part in parts if i < len(part)]) for i in range(longest)]
    if isinstance(first, int | float) and not isinstance(first, bool):
        return sum(parts)
    return first


def first(parts: list[Any]) -> Any:
    """What one of them said, where all say the same."""
    return parts[0]


def lines(parts: list[Any]) -> list[str]:
    """Every line that somebody said, once."""
    found = dict.fromkeys(line for part in parts for line in ([part] if isinstance(part, str) else part))
    return list(found)


def every_line(parts: list[list[str]]) -> list[str]:
    """What all said, one after the other: caches are each worker's own."""
    return [line for part in parts for line in part]


def flushed(parts: list[int]) -> str:
    return f"{sum(parts)} entries forgotten"


def reloaded(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "reloaded": all(part["reloaded"] for part in parts),
        "problems": {name: text for part in parts for name, text in part["problems"].items()},
    }


def log(parts: list[dict[str, Any]]) -> str:
    on = [part for part in parts if part["path"] is not None]
    if not on:
        return "off"
    lost = sum(part["lost"] for part in parts)
    return f"{on[0]['path']}, {on[0]['sample']:.0%} of the answers, {lost} lost"


def upstreams(parts: list[list[dict[str, Any]]]) -> list[str]:
    """One line for each upstream: down when somebody finds it down, the slowest time."""
    found = []
    for same in zip(*parts, strict=False):
        held = ", taken out by hand" if all(u["held"] for u in same) else ""
        times = [u["rtt"] for u in same if u["rtt"] is not None]
        rtt = f"{max(times) * 1000:.1f} ms" if times else "not asked yet"
        down = sum(u["down"] for u in same)
        state = (
            "up" if not down else "down" if down == len(same) else f"down for {down} of {len(same)} workers"
        )
        asked, failed = sum(u["asked"] for u in same), sum(u["failed"] for u in same)
        found.append(f"{same[0]['url']} {state}, {rtt}, {asked} asked, {failed} failed{held}")
    return found


def status(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Counters of all workers added up; of zones and reloads, what all of them have."""
    return {
        **added(parts),
        "zones": {
            "ready": min(part["zones"]["ready"] for part in parts),
            "all": max(part["zones"]["all"] for part in parts),
        },
        "handlers": parts[0]["handlers"],
        "lists": parts[0]["lists"],
        "reloads": min(part["reloads"] for part in parts),
        "query_log": log([part["query_log"] for part in parts]),
        "dnstap": log([part["dnstap"] for part in parts]),
        "upstreams": upstreams([part["upstreams"] for part in parts]),
    }


def top(parts: list[dict[str, Any]]) -> list[str]:
    answers = sum(part["answers"] for part in parts)
    rate = sum(part["answers"] / part["seconds"] / part["sample"] for part in parts)
    found = [f"{rate:.0f} answers a second"]
    for field in parts[0]["counts"]:
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part["counts"][field])
        for text, count in counts.most_common(SHOWN):
            found.append(f"{field:9} {count / max(answers, 1):6.1%} {text}")
    return found
