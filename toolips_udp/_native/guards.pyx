# distutils: sources = native/limiter.c native/access.c
"""Guards: the rate limit and the access list as native stages.

Called by `toolips_udp/extensions/limits.py` and `access.py`; houses call the C
functions after their own parse.
"""

import ipaddress
import os

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .tudp cimport *


cdef extern from "Python.h":
    void *PyMem_RawCalloc(size_t n, size_t size) nogil
    void PyMem_RawFree(void *memory) nogil

cdef extern from "netinet/in.h" nogil:
    const int AF_INET
    const int AF_INET6

cdef extern from "limiter.h" nogil:
    ctypedef struct tudp_limiter:
        uint32_t loopback
    size_t tudp_limiter_size(uint32_t bits)
    tudp_limiter *tudp_limiter_init(void *memory, uint32_t bits, double rate, double burst, const uint64_t *seed)
    int tudp_limiter_level(tudp_limiter *l, int family, uint32_t bits, uint32_t times)
    int tudp_limiter_take(tudp_limiter *l, const tudp_key *key, uint64_t now, uint32_t weight)

cdef extern from "access.h" nogil:
    ctypedef struct tudp_range:
        uint8_t *start "from"
        uint8_t allowed
    ctypedef struct tudp_access:
        uint32_t count
        tudp_range *range
    int tudp_access_check(const tudp_access *a, const uint8_t *ip)

cdef enum:
    BUCKETS = 17  # 2^17 buckets, 1 MiB


cdef int take_limited(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot) noexcept nogil:
    cdef tudp_key key
    tudp_key_of(&slot.from_, &key)
    if tudp_limiter_take(<tudp_limiter *>stage.self, &key, turn.now, 1):
        return TUDP_PASS
    return TUDP_DROP(TUDP_LIMITED)


cdef int take_access(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot) noexcept nogil:
    cdef tudp_key key
    tudp_key_of(&slot.from_, &key)
    if tudp_access_check(<tudp_access *>stage.self, key.ip):
        return TUDP_PASS
    return TUDP_DROP(TUDP_DENIED)


cdef class Limiter:
    """A rate per prefix of address, in 1 MiB that does not grow.

    `rate` datagrams a second and bursts of `burst`, times the multiplier of each
    level; `levels` are (family, bits, multiplier). A datagram passes when all
    levels of its family let it.
    """

    cdef tudp_limiter *limiter
    cdef tudp_stage stage

    def __cinit__(self, double rate, double burst, levels, bint loopback=False):
        cdef uint64_t seed[2]
        random = os.urandom(16)
        memcpy(seed, <const char *>random, 16)
        self.limiter = tudp_limiter_init(PyMem_RawCalloc(1, tudp_limiter_size(BUCKETS)), BUCKETS, rate, burst, seed)
        self.limiter.loopback = loopback
        for family, bits, times in levels:
            if tudp_limiter_level(self.limiter, AF_INET if family == 4 else AF_INET6, bits, times) < 0:
                raise ValueError(f"a prefix of {bits} bits is not possible for IPv{family}, or there are more than 8")
        memset(&self.stage, 0, sizeof(self.stage))
        self.stage.abi = TUDP_ABI
        self.stage.name = b"limits"
        self.stage.self = self.limiter
        self.stage.take = take_limited

    def __dealloc__(self):
        PyMem_RawFree(self.limiter)

    def __tudp_stage__(self):
        return PyCapsule_New(&self.stage, TUDP_CAPSULE, NULL)

    def take(self, ip, double now, uint32_t weight=1):
        """Whether a datagram from `ip` (text) may pass at time `now`; charges it then."""
        cdef tudp_key key
        memset(&key, 0, sizeof(key))
        packed = canonical(ip)
        memcpy(key.ip, <const char *>packed, 16)
        return bool(tudp_limiter_take(self.limiter, &key, <uint64_t>(now * 1e9), weight))


cdef class AccessList:
    """Ranges of addresses with a verdict each; `ranges` are (first packed 16-byte address, allowed), sorted."""

    cdef tudp_access *access
    cdef tudp_stage stage

    def __cinit__(self, ranges):
        cdef uint32_t number = 0
        ranges = list(ranges)
        if not ranges or ranges[0][0] != bytes(16):
            raise ValueError("the first range begins at ::")
        self.access = <tudp_access *>PyMem_RawCalloc(1, sizeof(tudp_access) + len(ranges) * sizeof(tudp_range))
        if self.access == NULL:
            raise MemoryError
        for first, allowed in ranges:
            memcpy(self.access.range[number].start, <const char *>first, 16)
            self.access.range[number].allowed = 1 if allowed else 0
            number += 1
        self.access.count = number
        memset(&self.stage, 0, sizeof(self.stage))
        self.stage.abi = TUDP_ABI
        self.stage.name = b"access"
        self.stage.self = self.access
        self.stage.take = take_access

    def __dealloc__(self):
        PyMem_RawFree(self.access)

    def __tudp_stage__(self):
        return PyCapsule_New(&self.stage, TUDP_CAPSULE, NULL)

    def allows(self, ip):
        """Whether this address may ask."""
        packed = canonical(ip)
        return bool(tudp_access_check(self.access, <const uint8_t *><const char *>packed))


def canonical(ip):
    """16 bytes of an address in text; IPv4 as ::ffff:a.b.c.d."""
    found = ipaddress.ip_address(ip.partition("%")[0])
    return bytes(10) + b"\xff\xff" + found.packed if found.version == 4 else found.packed
