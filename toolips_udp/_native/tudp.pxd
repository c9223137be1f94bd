# What C code may know of a turn: native/tudp.h for Cython. The declarations that
# a native stage needs; `toolips_udp.get_include()` is where the header lies.
from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "tudp.h" nogil:
    const uint32_t TUDP_ABI
    const char *TUDP_CAPSULE
    const uint64_t TUDP_NEVER
    const int TUDP_PASS
    const int TUDP_ANSWERED
    const int TUDP_HELD
    int TUDP_DROP(int word)

    ctypedef enum tudp_word:
        TUDP_RECEIVED
        TUDP_HANDLED
        TUDP_KERNEL
        TUDP_TRUNCATED
        TUDP_STALE
        TUDP_DENIED
        TUDP_LIMITED
        TUDP_SHED
        TUDP_MALFORMED
        TUDP_ENDED
        TUDP_NO_HANDLER
        TUDP_HANDLER_FAILED
        TUDP_QUEUE_FULL
        TUDP_WORKER_LOST
        TUDP_STOPPING
        TUDP_SEND_QUEUED
        TUDP_SENT
        TUDP_SEND_REFUSED
        TUDP_SEND_REFUSED_LATE
        TUDP_SEND_DROPPED_FULL
        TUDP_BYTES_IN
        TUDP_BYTES_OUT
        TUDP_TURNS
        TUDP_NATIVE_ANSWERS
        TUDP_WORDS

    cdef struct sockaddr:
        uint16_t sa_family

    cdef struct in_addr:
        uint32_t s_addr

    cdef struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr

    cdef struct in6_addr:
        uint8_t s6_addr[16]

    cdef struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

    ctypedef union tudp_sockaddr:
        sockaddr sa
        sockaddr_in in4
        sockaddr_in6 in6

    ctypedef struct tudp_key:
        uint8_t ip[16]
        uint32_t scope
        uint16_t port
        uint16_t zero

    ctypedef struct tudp_local:
        uint8_t family
        uint32_t ifindex
        uint8_t ip[16]

    void tudp_key_of(const tudp_sockaddr *address, tudp_key *key)

    ctypedef struct tudp_slot:
        uint8_t *data
        uint32_t len
        int16_t verdict
        tudp_sockaddr from_ "from"
        tudp_local local
        uint64_t stamp
        uint8_t *scratch

    ctypedef struct tudp_ops:
        uint8_t *(*room)(tudp_turn *turn, uint32_t most) noexcept nogil
        int (*send)(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len,
                    const tudp_sockaddr *to, const tudp_local *local) noexcept nogil
        void (*drain)(tudp_turn *turn) noexcept nogil
        void (*strangers)(tudp_turn *turn, uint16_t mask, uint16_t value) noexcept nogil

    ctypedef struct tudp_turn:
        uint32_t abi
        uint32_t flags
        uint64_t now
        uint64_t wall
        uint64_t *counters
        void *endpoint
        const tudp_ops *ops
        uint64_t held

    ctypedef struct tudp_stage:
        uint32_t abi
        uint32_t scratch
        uint32_t scratch_at
        uint32_t held
        const char *name
        void *self
        int (*attach)(tudp_stage *stage, tudp_turn *turn) noexcept
        int (*take)(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot) noexcept nogil
        void (*due)(tudp_stage *stage, tudp_turn *turn) noexcept nogil
        void (*deliver)(tudp_stage *stage, tudp_turn *turn) noexcept
        void (*flush)(tudp_stage *stage, tudp_turn *turn) noexcept nogil
        uint64_t (*deadline)(tudp_stage *stage) noexcept nogil
        void (*detach)(tudp_stage *stage) noexcept

    int tudp_reply(tudp_turn *turn, tudp_slot *slot, uint32_t len)

    ctypedef struct tudp_calls:
        void *ctx
        int (*setsockopt)(void *ctx, int fd, int level, int name, const void *value, uint32_t len) noexcept
        uint64_t (*monotonic)(void *ctx) noexcept
        uint64_t (*wall)(void *ctx) noexcept
        int (*timer_set)(void *ctx, int fd, uint64_t deadline) noexcept
        int (*timer_read)(void *ctx, int fd) noexcept
