"""An endpoint on a memory wire: the C that ships, no socket, a clock set by hand."""

from types import SimpleNamespace

import pytest

from toolips_udp import handler as make_handler


class NoTasks:
    """Stands for the Stepper where no handler waits."""


@pytest.fixture
def wired():
    from toolips_udp.manifest import read
    from toolips_udp.pipeline import Pipeline
    from toolips_udp.transports.native import Endpoint, MemoryWire, connection_class

    def make(*exports, wire=None, calls=None, address="192.0.2.1:53", sock=None, stages=(), stepper=None, **limits):
        if not exports and not stages:
            exports = (make_handler(lambda c: c.respond(c.packet)),)
        wire = wire if wire is not None or sock is not None else MemoryWire(address)
        failed = []
        journal = SimpleNamespace(event=lambda *a: failed.append(a), say=lambda *a: failed.append(a))
        server = SimpleNamespace(journal=journal, data={})
        if exports:
            module = SimpleNamespace(**{f"export_{n}": e for n, e in enumerate(exports)})
            pipeline = Pipeline(read(module), server, with_stages=True)
        else:
            pipeline = Pipeline(SimpleNamespace(extensions=(), main=None, handlers={}, chooser=None), server)
        pipeline.stages += stages
        pipeline.connection_class = connection_class
        pipeline.stepper = stepper
        endpoint = Endpoint(sock or wire, pipeline, server=server, calls=calls, **limits)
        pipeline.endpoint = endpoint
        return SimpleNamespace(
            wire=wire, endpoint=endpoint, failed=failed, counters=endpoint.counters, pipeline=pipeline
        )

    return make
