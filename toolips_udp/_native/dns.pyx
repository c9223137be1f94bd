# distutils: sources = native/dns_message.c native/dns_reply.c native/dns_writer.c
# cython: freethreading_compatible=False
"""The native DNS: messages, zone images, answers, lists, and the stage.

Binds native/dns_*.c; imports nothing of ours but errors. Called by toolips_udp.dns.
Everything here is sans-io: bytes and a time in, bytes out.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

import os

from toolips_udp.errors import FormatError

include "dns_message.pxi"
