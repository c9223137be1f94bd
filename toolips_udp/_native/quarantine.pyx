# distutils: sources = native/quarantine.c
"""Packets that killed workers, dropped before anything looks at them.

Binds native/quarantine.c; a stage of every worker, set by `supervisor/worker.py`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint32_t

from .tudp cimport tudp_stage


cdef extern from "tudp.h":
    const char *TUDP_CAPSULE

cdef extern from "quarantine.h":
    ctypedef struct tudp_quarantine:
        tudp_stage stage
        uint32_t count
    void tudp_quarantine_init(tudp_quarantine *q)
    int tudp_quarantine_add(tudp_quarantine *q, const uint8_t *data, uint32_t len)


cdef class Quarantine:
    """The stage: `set(packets)` says what is kept out from now on, byte for byte."""

    cdef tudp_quarantine q
    cdef tuple packets  # keeps the bytes alive

    def __cinit__(self):
        tudp_quarantine_init(&self.q)
        self.packets = ()

    def __tudp_stage__(self):
        return PyCapsule_New(&self.q.stage, TUDP_CAPSULE, NULL)

    def set(self, packets):
        """Keep out exactly these packets; at most 64. On the endpoint's thread."""
        cdef bytes packet
        kept = tuple(bytes(each) for each in packets)
        self.q.count = 0
        self.packets = kept
        for packet in kept:
            tudp_quarantine_add(&self.q, <const uint8_t *>PyBytes_AS_STRING(packet), <uint32_t>PyBytes_GET_SIZE(packet))
