# native/batch.h, calls.h and clients.h for Cython. For endpoint.pyx only.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .tudp cimport tudp_calls, tudp_key, tudp_local, tudp_slot, tudp_sockaddr, tudp_stage, tudp_turn

cdef extern from "batch.h" nogil:
    const uint32_t TUDP_BATCH
    const uint32_t TUDP_LARGEST

    ctypedef struct tudp_shared:
        uint32_t abi
        uint64_t heartbeat
        uint32_t current_at
        uint32_t current_len
        uint64_t *counters

    ctypedef struct iovec:
        void *iov_base
        size_t iov_len

    ctypedef struct tudp_shed:
        uint16_t mask
        uint8_t on
        uint8_t filtering
        uint8_t pressed

    ctypedef struct tudp_batch:
        tudp_turn turn
        tudp_shared *shared
        const tudp_calls *calls
        int fd
        int wildcard
        tudp_key own
        uint32_t slot_room
        uint32_t limit
        tudp_stage **stages
        uint32_t stage_count
        uint32_t passed
        uint64_t armed_since
        tudp_shed shed
        int gso
        int gro
        uint32_t whole
        uint32_t whole_at
        uint32_t gso_most
        tudp_slot *slots
        iovec *in_iov
        uint32_t outs_count
        uint32_t waiting_count
        uint32_t *refused_by

    size_t tudp_batch_size(uint32_t slot_room, uint32_t scratch_room)
    tudp_batch *tudp_batch_init(void *memory, tudp_shared *shared, const tudp_calls *calls, int fd, int family,
                                uint32_t slot_room, uint32_t scratch_room)
    size_t tudp_shared_size(uint32_t slot_room)
    int tudp_batch_add(tudp_batch *b, tudp_stage *stage, uint32_t *scratch_used)
    int tudp_batch_gro(tudp_batch *b)
    void tudp_batch_clock(tudp_batch *b)
    int tudp_batch_receive(tudp_batch *b)
    void tudp_batch_rest(tudp_batch *b, uint32_t got)
    uint64_t tudp_batch_due(tudp_batch *b)
    uint64_t tudp_batch_deadline(const tudp_batch *b)
    int tudp_batch_flush(tudp_batch *b)
    int tudp_batch_push(tudp_batch *b, const uint8_t *data, uint32_t len, const tudp_sockaddr *to,
                        const tudp_local *local)
    int64_t tudp_batch_lost(const tudp_batch *b, uint32_t last_drops, uint32_t *queued)
    int64_t tudp_batch_drops(tudp_batch *b, uint32_t *last_drops, uint32_t *queued)
    void tudp_batch_age(tudp_batch *b, uint64_t limit)
    int tudp_offload_retry(tudp_batch *b)
    void tudp_shed_end(tudp_batch *b)

cdef extern from "calls.h" nogil:
    const tudp_calls tudp_system

    ctypedef struct tudp_fault:
        uint64_t calls
        uint64_t start "from"
        uint64_t to
        int error
        int most

    ctypedef struct tudp_faults:
        tudp_calls table
        const tudp_calls *inner
        tudp_fault *fault

    void tudp_faults_init(tudp_faults *faults, const tudp_calls *inner)

    ctypedef struct tudp_wire_datagram:
        tudp_sockaddr peer
        tudp_local local
        uint32_t len
        uint8_t *data

    ctypedef struct tudp_wire:
        tudp_calls table
        uint64_t now
        uint64_t wall
        uint64_t deadline
        uint64_t in_bytes
        uint64_t in_limit
        uint32_t drops
        uint32_t out_count
        void *in_head
        int stamps
        int real_clock

    void tudp_wire_init(tudp_wire *wire)
    void tudp_wire_clear(tudp_wire *wire)
    int tudp_wire_push(tudp_wire *wire, const uint8_t *data, uint32_t len, const tudp_sockaddr *peer,
                       const tudp_local *local)
    tudp_wire_datagram *tudp_wire_pop(tudp_wire *wire)

cdef extern from "clients.h" nogil:
    const uint32_t TUDP_NOBODY

    ctypedef struct tudp_client:
        tudp_key key
        uint64_t seen
        uint32_t value
        uint32_t newer

    ctypedef struct tudp_clients:
        uint32_t most
        uint32_t count
        uint32_t oldest

    size_t tudp_clients_size(uint32_t most)
    tudp_clients *tudp_clients_init(void *memory, uint32_t most, const uint64_t *seed)
    uint32_t tudp_clients_find(const tudp_clients *t, const tudp_key *key)
    uint32_t tudp_clients_place(tudp_clients *t, const tudp_key *key, uint64_t now, int *fresh)
    void tudp_clients_touch(tudp_clients *t, uint32_t number, uint64_t now)
    void tudp_clients_remove(tudp_clients *t, uint32_t number)
    uint32_t tudp_clients_expired(const tudp_clients *t, uint64_t limit)
    tudp_client *tudp_clients_at(tudp_clients *t, uint32_t number)
