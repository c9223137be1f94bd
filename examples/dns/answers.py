"""A small zone from a file, and answers made by Python functions.

python -m toolips_udp run examples/dns/answers.py --udp 127.0.0.1:5300 --tcp 127.0.0.1:5300
dig @127.0.0.1 -p 5300 www.example.test
dig @127.0.0.1 -p 5300 time.example.test TXT
"""

import asyncio
import time
from pathlib import Path

from toolips_udp import dns

service = dns.Service(dns.Zone.load(Path(__file__).parent / "example.test.zone"), id="ns1")


@service.answers("time.example.test", "TXT")
def now(q):
    return dns.TXT(time.strftime("%H:%M:%S"), ttl=0)


@service.answers("ip.example.test", "TXT")
def who_am_i(q):
    return dns.TXT(q.client.host, ttl=0)


@service.answers("*.sum.example.test", "A")
def add(q):
    """3.4.sum.example.test is 127.0.0.7."""
    digits = q.labels[:-3]
    if not all(digit.isdigit() for digit in digits):
        return dns.NXDOMAIN
    return dns.Answer(dns.A(f"127.0.0.{sum(map(int, digits)) % 256}", ttl=60), share=True)


@service.answers("slow.example.test", "A", timeout=1.0)
async def slow(q):
    await asyncio.sleep(0.1)
    return dns.A("192.0.2.100", ttl=0)
