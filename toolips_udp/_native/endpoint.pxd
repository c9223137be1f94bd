# For Cython code that works with connections: a stage's Python half may read
# the slot of a connection and reuse the notes that the stage made in it.
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from .batch cimport tudp_batch, tudp_clients
from .tudp cimport tudp_calls, tudp_key, tudp_local, tudp_slot, tudp_sockaddr, tudp_turn


cdef class Endpoint


cdef class Connection:
    cdef Endpoint endpoint
    cdef tudp_slot *slot          # NULL once its turn has ended
    cdef object _packet
    cdef object _address
    cdef uint64_t now_ns
    cdef uint32_t bytes_in
    cdef uint32_t bytes_out
    cdef public object worker_id
    cdef readonly bint answered
    cdef tudp_sockaddr peer       # filled when the turn ends
    cdef tudp_local local

    cdef const tudp_sockaddr *who(self) noexcept
    cdef const tudp_local *where(self) noexcept
    cdef int leave(self) except -1
    cdef int reply(self, const uint8_t *data, size_t size) except -1


cdef class ClientTable:
    cdef tudp_clients *table
    cdef list values
    cdef readonly double ttl
    cdef uint64_t ttl_ns, rest_ns
    cdef public object gone
    cdef bint by_ip

    cdef object find(self, const tudp_sockaddr *peer, uint64_t now)
    cdef object find_key(self, tudp_key *key, uint64_t now)
    cdef int put(self, tudp_key *key, object value, uint64_t now) except -1
    cdef int drop(self, uint32_t number) except -1
    cdef object take(self, tudp_key *key)


cdef class Calls:
    cdef const tudp_calls *table(self) noexcept


cdef class Target:
    cdef object fn
    cdef int kind
    cdef readonly object handler


cdef class Endpoint:
    cdef tudp_batch *b
    cdef void *memory
    cdef size_t memory_size
    cdef Py_buffer *shared
    cdef Py_buffer *own_counters
    cdef Calls calls
    cdef readonly object sock
    cdef readonly object wire
    cdef readonly object loop
    cdef readonly object pipeline
    cdef public object server
    cdef readonly object address
    cdef readonly object counters
    cdef int fd, family, timer
    cdef uint64_t armed
    cdef unsigned long thread
    cdef bint in_turn, scheduled, retrying, attached, closed, rung
    # the folded pipeline
    cdef tuple steps
    cdef int pressed
    cdef list stages
    cdef Target main
    cdef dict targets
    cdef object chooser_key, on_drop
    cdef ClientTable positions
    cdef object places
    cdef object connection_class
    cdef Connection spare
    cdef object stepper, pick, context, base_context
    cdef bint stepping
    cdef PyObject *running
    cdef Py_ssize_t begun             # datagrams whose handlers have not ended
    cdef Py_ssize_t async_in_flight
    cdef public Py_ssize_t max_async
    cdef ClientTable sessions
    cdef double session_timeout
    cdef uint32_t max_sessions
    cdef public double max_ratio
    cdef list lent            # SlotBuffer per slot, or None
    cdef bint any_lent
    cdef uint32_t last_drops
    cdef list cached          # Address objects
    cdef tudp_key *cached_keys

    cdef int lay_out(self, shared, counters, uint32_t slot_room) except -1
    cdef int fold(self, pipeline) except -1
    cdef uint64_t lost(self, uint32_t *queued) noexcept
    cdef int serve(self, uint32_t got) except -1
    cdef int deliver(self) except -1
    cdef int serve_one(self, tudp_slot *slot) except -1
    cdef int give_up(self, uint32_t i, uint32_t got) except -1
    cdef int make_good(self) except -1
    cdef object pass_steps(self, Connection c)
    cdef int run(self, Connection c, Target target) except -2
    cdef int start_stepping(self) except -1
    cdef int stop_stepping(self) except -1
    cdef int refuse(self) except -1
    cdef int fail(self, Connection c, Target target, object error) except -2
    cdef int after(self, int got, int left) except -1
    cdef int soon(self) except -1
    cdef int make_timer(self) except -1
    cdef int from_afar(self, bytes data, to, Connection c) except -1
    cdef object encode(self, value, Connection c)
    cdef int choose(self, Connection c, name, client) except -1
    cdef object session_of(self, const tudp_sockaddr *peer)
    cdef Connection new_connection(self)
    cdef object lend(self, tudp_slot *slot)
    cdef int renew(self, uint32_t got) except -1
    cdef bint is_heap(self, uint8_t *data) noexcept
    cdef object address_of(self, const tudp_sockaddr *peer)
