"""doctor: every probe is live, every weakness comes with what mends it."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from toolips_udp import cli
from toolips_udp.cli import _probes, doctor

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="probes are of the Linux kernel")


@linux
@pytest.mark.parametrize("probe", _probes.KERNEL, ids=lambda p: p.__name__)
def test_a_probe_tells_what_it_found_and_how_to_mend_a_weakness(probe):
    finding = probe()
    assert finding.found
    if finding.fine is False:
        assert finding.fix


def test_json_holds_every_finding_and_the_number_of_weaknesses(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["weak"] == sum(f["fine"] is False for f in told["findings"])
    assert {"core", "event loop", "platform"} <= {f["name"] for f in told["findings"]}


def test_strict_exits_1_when_there_is_a_weakness(monkeypatch, capsys):
    monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")
    assert cli.main(["doctor", "--strict"]) == 1
    assert "unset TOOLIPS_UDP_PURE" in capsys.readouterr().out


@linux
def test_a_small_receive_buffer_is_a_weakness_with_its_sysctl(monkeypatch):
    class Capped(socket.socket):
        def getsockopt(self, level, name, *rest):
            return 425_984 if name == socket.SO_RCVBUF else super().getsockopt(level, name, *rest)

    monkeypatch.setattr(_probes.socket, "socket", Capped)
    finding = _probes.receive_buffer()
    assert finding.fine is False
    assert finding.fix == "sudo sysctl -w net.core.rmem_max=4194304"
    assert "512 small datagrams" in finding.found


@linux
def test_a_kernel_without_segmentation_is_a_weakness(monkeypatch):
    monkeypatch.setattr(_probes, "segments", lambda most: False)
    assert _probes.send_offload().fine is False


@linux
def test_a_low_limit_of_open_files_names_the_command(monkeypatch):
    monkeypatch.setattr(_probes.resource, "getrlimit", lambda _: (1024, 20000))
    assert _probes.descriptors().fix == "ulimit -n 20000"
    monkeypatch.setattr(_probes.resource, "getrlimit", lambda _: (256, 256))
    assert "LimitNOFILE" in _probes.descriptors().fix


def test_a_source_newer_than_the_core_is_told(monkeypatch, tmp_path):
    import os

    package = tmp_path / "toolips_udp/_native"
    package.mkdir(parents=True)
    (tmp_path / "native").mkdir()
    (package / "endpoint.x.so").touch()
    (tmp_path / "native/batch.c").touch()
    os.utime(package / "endpoint.x.so", (1, 1))
    monkeypatch.setattr(doctor, "NATIVE", package)
    assert doctor.stale_sources() == ["batch.c"]
