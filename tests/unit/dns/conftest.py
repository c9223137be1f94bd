"""The plugin's fixtures, also where the package is not installed and its entry point unknown."""

from toolips_udp.testing.plugin import clock, dns_net

__all__ = ["clock", "dns_net"]
