# distutils: sources = native/enet_wire.c native/enet_range.c native/enet_memory.c native/enet_host.c native/enet_half.c native/enet_receive.c native/enet_send.c native/enet_carry.c native/enet_loose.c
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Binds native/enet*.c: ENet 1.3 for `toolips_udp.peers`.

`Host` is a native stage (`__tudp_stage__`) and at the same time a sans-io host
(`receive`, `advance`, `outgoing`, `events`, `deadline`); both run the same C.
`Peer` is the hot half of a peer, subclassed by `peers/peer.py`.
"""

from ..address import Address
from ..errors import TooLong

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from .tudp cimport *

include "enet_wire.pxi"
include "enet_host.pxi"
include "enet_wired.pxi"
