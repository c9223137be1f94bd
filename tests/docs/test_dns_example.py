"""examples/dns: its configurations load and answer, and its README's commands do what they say."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples/dns/README.md").read_text()
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
LINES = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("toolips-udp dns")]


def run(line, **kw):
    words = shlex.split(line)
    return subprocess.run(
        [sys.executable, "-m", "toolips_udp", *words[1:]],
        cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=30, **kw,
    )  # fmt: skip


@pytest.mark.parametrize("line", [c for c in COMMANDS if " check " in c or " explain " in c])
def test_a_command_that_sends_nothing_succeeds(line):
    found = run(line)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_forwarder_of_the_readme_blocks_what_its_list_says():
    found = run("toolips-udp dns explain examples/dns/forwarder.toml x.ads.example.net A")
    assert "rcode: NXDOMAIN" in found.stdout and "ads.txt:2" in found.stdout
    found = run("toolips-udp dns explain examples/dns/forwarder.toml good.ads.example.net A")
    assert "would ask tls://9.9.9.9#dns.quad9.net" in found.stdout


def test_the_served_example_answers_the_readmes_questions_and_shows_itself(tmp_path):
    port, admin = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "toolips_udp", "dns", "serve", "examples/dns/authoritative.toml",
         "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"],
        cwd=ROOT, env=ENV, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 15
        while run(f"toolips-udp dns query example.test SOA @127.0.0.1:{port} --wait 0.3").returncode:
            assert process.poll() is None and time.monotonic() < deadline
        for line in COMMANDS:
            if " query " in line:
                found = run(line.replace(":5300", f":{port}"))
                assert found.returncode == 0 and ";; answer" in found.stdout, line + found.stderr
        for line in COMMANDS:
            if " ctl " in line:
                found = run(
                    f"{line} --pid {process.pid}".replace("--seconds 5", "--seconds 0.2").replace(
                        " queries", f" {tmp_path}/queries"
                    )
                )
                assert found.returncode == 0, line + found.stderr
        status = run(f"toolips-udp dns ctl status --pid {process.pid}")
        assert '"ready": 1' in status.stdout, status.stdout + status.stderr
        with socket.create_connection(("127.0.0.1", admin), timeout=3) as stream:
            stream.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            page = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
        assert re.search(r'toolips_dns_zone_serial\{zone="example.test."\} \d+', page)
        assert re.search(r'toolips_dns_answers_total\{rcode="NOERROR",source="\w+"\} [1-9]', page)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
