"""What `dns serve` can be told without a file: each key of the configuration that is one value or
a list of texts, as a flag and as an environment variable (spec section 9). Tables with parts of
their own ([[local]], [[view]], [[key]], a zone's transfers) need the file. Called by `serve`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ...dns import settings
from ...errors import StartError
from ...settings import PREFIX, Setting, SettingError, resolve, unknown_variables

DNS = "DNS_"


@dataclass(frozen=True)
class Key(Setting):
    """A setting whose variable begins with `TOOLIPS_UDP_DNS_`. `at` is its place in the configuration."""

    at: str = ""
    path: bool = False

    @property
    def variable(self) -> str:
        return PREFIX + DNS + self.key.upper()


KEYS = (
    Key("zone", "a zone; repeatable", many=True, unit="NAME=FILE"),
    Key("zones-dir", "every *.zone file in it; repeatable", many=True, unit="DIR"),
    Key("forward", "an upstream: address, tls://, https://; repeatable", many=True, unit="ADDR"),
    Key("blocklist", "a list of names to block; repeatable", many=True, unit="FILE"),
    Key(
        "listen", "repeatable; without scheme UDP and TCP; udp://, tcp://, tls://, https:// [127.0.0.1:5300]",
        many=True, unit="ADDR", at="service.listen",
    ),
    Key("allow", "who may have questions forwarded; repeatable [loopback]", many=True, unit="PREFIX"),
    Key("access-query", "who may ask at all; repeatable [any]", many=True, unit="PREFIX", at="service.access.query"),
    Key("silent", "no answer for those who may not ask, in place of REFUSED", bool, at="service.access.silent"),
    Key("id", "told to clients that ask for NSID or id.server", unit="TEXT", at="service.id"),
    Key("workers", "processes that serve [1]", int, at="service.workers"),
    Key("admin", "health and Prometheus metrics, on loopback or unix:PATH", unit="ADDR", at="service.admin"),
    Key("tls-certificate", "for tls:// and https://, with --tls-key", unit="FILE", path=True),
    Key("tls-key", "the certificate's key", unit="FILE", path=True),
    Key("handlers", "a module of Python functions that answer", unit="FILE", path=True, at="service.handlers"),
    Key("proxies", "load balancers that send PROXYv2 headers; repeatable", many=True, unit="PREFIX",
        at="service.proxies"),
    Key("query-log", "a line of JSON for each answer", unit="FILE", path=True, at="service.query_log"),
    Key("query-log-sample", "the share of answers in it [1.0]", float, unit="SHARE", at="service.query_log_sample"),
    Key("dnstap", "the unix socket of a reader of dnstap", unit="SOCKET", path=True, at="service.dnstap"),
    Key("dnstap-sample", "the share of messages it is told of [1.0]", float, unit="SHARE",
        at="service.dnstap_sample"),
    Key("cache-size", "octets of a worker's cache [8MiB]", unit="SIZE", at="service.cache.size"),
    Key("cache-stale", "how long expired answers help out [1d]", unit="TIME", at="service.cache.stale"),
    Key("any", "what ANY is answered with: minimal or all [minimal]", unit="HOW", at="service.any"),
    Key("minimal", "no addresses added to MX and SRV [on]", bool, at="service.minimal"),
    Key("ecs", "read client subnets", bool, at="service.ecs"),
    Key("rebinding", "take private addresses out of answers for public names", bool, at="rebinding"),
    Key("limit-rate", "replies a second to an address that may be forged; 0: no limit [50]", float, unit="N",
        at="limit.rate"),
    Key("limit-burst", "how many at once [125]", float, unit="N", at="limit.burst"),
    Key("limit-slip", "every so many-th reply over the rate is TC [2]", int, at="limit.slip"),
    Key("limit-trusted", "who has no limit; repeatable [loopback]", many=True, unit="PREFIX", at="limit.trusted"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for each key; what is not given is not there."""
    for key in KEYS:
        text = f"{key.help} ({key.variable})"
        more: dict[str, Any] = {"dest": key.key, "default": argparse.SUPPRESS, "help": text}
        if key.kind is bool:
            more["action"] = argparse.BooleanOptionalAction
        else:
            more["action"] = "append" if key.many else "store"
            more["metavar"] = key.unit or "N"
        parser.add_argument(f"--{key.name}", **more)


def given(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    """What flags and variables say, by key: a flag wins. A variable has several values with commas.

    `SettingError` names a value of the wrong kind, and a variable that there is not.
    """
    mine = {name: text for name, text in environ.items() if name.startswith(PREFIX + DNS)}
    strangers = unknown_variables(KEYS, mine)
    if strangers:
        raise SettingError(strangers[0], code="unknown-setting")
    found = resolve(KEYS, vars(options), mine, {})
    return {key: value.value for key, value in found.items() if value.source != "default"}


def put(config: settings.Config, found: dict[str, Any], here: Path) -> None:
    """Put them into a configuration; files are relative to `here`."""
    for key in KEYS:
        if key.key not in found:
            continue
        value = str(here / found[key.key]) if key.path else found[key.key]
        if key.at:
            *parts, last = key.at.split(".")
            owner: Any = config
            for part in parts:
                owner = getattr(owner, part)
            setattr(owner, last, value)
    _tables(config, found, here)
    try:
        msgspec.convert(msgspec.to_builtins(config), settings.Config)
    except msgspec.ValidationError as wrong:
        said, _, at = str(wrong).partition(" - at `$.")
        raise SettingError(f"{at.rstrip('`')}: {said[0].lower()}{said[1:]}") from None


def _tables(config: settings.Config, found: dict[str, Any], here: Path) -> None:
    """What adds to the file's tables."""
    for text in found.get("zone", ()):
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise StartError(
                f"--zone {text!r}: expected NAME=FILE, as in example.test=example.test.zone.",
                code="bad-dns-setting",
            )
        config.zone.append(settings.ZoneTable(name=name, file=str(here / path)))
    config.zone += [settings.ZoneTable(folder=str(here / text)) for text in found.get("zones_dir", ())]
    if found.get("forward"):
        config.forward.append(settings.ForwardTable(to=found["forward"]))
    if found.get("blocklist"):
        config.blocklist.append(
            settings.BlocklistTable(file=[str(here / path) for path in found["blocklist"]])
        )
    config.service.access.recursion += found.get("allow", ())
    pair = [found.get("tls_certificate"), found.get("tls_key")]
    if any(pair):
        if not all(pair):
            raise StartError("--tls-certificate and --tls-key go together.", code="bad-dns-setting")
        config.service.tls = settings.Tls(certificate=str(here / str(pair[0])), key=str(here / str(pair[1])))
