# distutils: define_macros=_GNU_SOURCE=1
# distutils: sources = native/dns_message.c native/dns_reply.c native/dns_writer.c native/dns_zone.c native/dns_zone_plan.c native/dns_zone_build.c native/dns_denial.c native/dns_policy.c native/dns_list.c native/dns_cache.c native/dns_stage.c native/dns_tap.c native/dns_proxied.c native/dns_forward.c native/dns_forward_flights.c native/dns_forward_ports.c native/dns_forward_reply.c native/dns_forward_calls.c
"""The native DNS: messages, zone images, answers, lists, and the stage.

Binds native/dns_*.c; imports nothing of ours but errors. Called by toolips_udp.dns.
Everything here is sans-io: bytes and a time in, bytes out.
"""

cimport cython
from cpython.ref cimport Py_REFCNT
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.errno cimport errno
from libc.string cimport memcmp, memcpy, memset

import fcntl
import os
import socket
import sys
import time

cdef extern from "<sys/mman.h>" nogil:
    enum:
        MFD_CLOEXEC, MFD_ALLOW_SEALING, PROT_READ, MAP_SHARED
    void *MAP_FAILED
    int memfd_create(const char *name, unsigned flags)
    void *mmap(void *at, size_t len, int protection, int flags, int fd, long offset)
    int munmap(void *at, size_t len)

cdef extern from "dns_zone.h":
    uint64_t DNS_IMAGE_MAGIC

from toolips_udp.address import Address
from toolips_udp.errors import FormatError

include "dns_message.pxi"
include "dns_zone.pxi"
include "dns_store.pxi"
include "dns_list.pxi"
include "dns_forward.pxi"
include "dns_stage.pxi"
include "dns_dispatch.pxi"
