# distutils: sources = native/depth.c
"""How deep a packet nests, in C. Called by `toolips_udp/typed.py`, which has the same in Python."""

from libc.stdint cimport uint8_t, uint32_t


cdef extern from "depth.h" nogil:
    int tudp_depth_json(const uint8_t *data, size_t len, uint32_t most)
    int tudp_depth_msgpack(const uint8_t *data, size_t len, uint32_t most)


def json_is_deeper(bytes packet not None, uint32_t most):
    return tudp_depth_json(packet, <size_t>len(packet), most) != 0


def msgpack_is_deeper(bytes packet not None, uint32_t most):
    return tudp_depth_msgpack(packet, <size_t>len(packet), most) != 0
