# A socket made of memory, and system calls that fail when told to.

CALLS = ("recvmmsg", "sendmmsg", "setsockopt", "getsockopt", "timer_set", "timer_read")


cdef class Calls:
    """A table of system calls under an endpoint. The base of `MemoryWire` and `Faults`."""

    cdef const tudp_calls *table(self) noexcept:
        return &tudp_system


cdef class MemoryWire(Calls):
    """A socket made of memory, with a clock that is set by hand.

    An endpoint made on a wire runs the C that ships: only its system calls are
    replaced. `push` puts a datagram into its receive queue, `collect` takes
    what it sent. `now` and `wall` are its clocks in seconds (`real_clock=True`: the
    system's instead); `limit` is its
    receive buffer in bytes (0: no limit), charged as Linux charges.

    >>> wire = MemoryWire("192.0.2.1:53")
    >>> wire.push(b"hello", Address("192.0.2.7", 4000))
    True
    """

    cdef tudp_wire wire
    cdef readonly object address
    cdef readonly int family
    cdef public object on_push
    cdef public object on_send

    def __cinit__(self, address="192.0.2.1:2000", *, double now=1000.0, double wall=1.7e9, uint64_t limit=0,
                  bint real_clock=False):
        tudp_wire_init(&self.wire)
        self.address = Address.parse(address)
        self.family = AF_INET6 if ":" in self.address.host else AF_INET
        self.now = now
        self.wall = wall
        self.wire.in_limit = limit
        self.wire.real_clock = real_clock
        self.on_push = self.on_send = None

    def __dealloc__(self):
        tudp_wire_clear(&self.wire)

    cdef const tudp_calls *table(self) noexcept:
        return &self.wire.table

    @property
    def now(self):
        return self.wire.now / 1e9

    @now.setter
    def now(self, double seconds):
        self.wire.now = <uint64_t>(seconds * 1e9 + 0.5)

    @property
    def wall(self):
        return self.wire.wall / 1e9

    @wall.setter
    def wall(self, double seconds):
        self.wire.wall = <uint64_t>(seconds * 1e9 + 0.5)

    @property
    def now_ns(self):
        """The monotonic clock in whole nanoseconds, for worlds that count in them."""
        return self.wire.now

    @now_ns.setter
    def now_ns(self, uint64_t ns):
        self.wire.wall += ns - self.wire.now
        self.wire.now = ns

    def advance(self, double seconds):
        """Both clocks go on by so many seconds."""
        cdef uint64_t ns = <uint64_t>(seconds * 1e9 + 0.5)
        self.wire.now += ns
        self.wire.wall += ns

    @property
    def drops(self):
        """Datagrams that found the receive buffer full."""
        return self.wire.drops

    @property
    def readable(self):
        """Whether a datagram waits to be received."""
        return self.wire.in_head != NULL

    @property
    def deadline(self):
        """When the endpoint asked to be woken, in seconds of `now`, or None."""
        return None if self.wire.deadline == TUDP_NEVER else self.wire.deadline / 1e9

    def push(self, data, peer, local=None):
        """Put a datagram from `peer` into the receive queue. False when the buffer was full."""
        cdef const uint8_t[::1] view = data
        cdef tudp_sockaddr address
        cdef tudp_local where
        cdef int status
        fill_sockaddr(peer, self.family, &address)
        memset(&where, 0, sizeof(where))
        if local is not None:
            fill_local(local, self.family, &where)
        status = tudp_wire_push(&self.wire, &view[0] if view.shape[0] else NULL, <uint32_t>view.shape[0], &address,
                                &where)
        if status < 0:
            raise MemoryError
        if self.on_push is not None:
            self.on_push()
        return status == 0

    def collect(self):
        """All datagrams sent since the last call: a list of (data, to), in order."""
        cdef tudp_wire_datagram *datagram
        cdef tudp_key key
        found = []
        while True:
            datagram = tudp_wire_pop(&self.wire)
            if datagram == NULL:
                return found
            tudp_key_of(&datagram.peer, &key)
            found.append((PyBytes_FromStringAndSize(<char *>datagram.data, datagram.len), address_of_key(&key)))
            free(datagram)


cdef int fill_local(object address, int family, tudp_local *out) except -1:
    cdef tudp_sockaddr full
    fill_sockaddr(address, family, &full)
    if family == AF_INET:
        out.family = AF_INET
        memcpy(out.ip, &full.in4.sin_addr, 4)
    else:
        out.family = AF_INET6
        memcpy(out.ip, &full.in6.sin6_addr, 16)
    return 0


cdef class Faults(Calls):
    """Passes system calls on, and makes chosen ones fail. For tests.

    >>> faults = Faults()
    >>> faults.fail("sendmmsg", errno.ENOBUFS, first=3, times=2)
    """

    cdef tudp_faults faults
    cdef readonly Calls inner

    def __cinit__(self, Calls inner=None):
        self.inner = Calls() if inner is None else inner
        tudp_faults_init(&self.faults, self.inner.table())

    cdef const tudp_calls *table(self) noexcept:
        return &self.faults.table

    def fail(self, str call, int error, uint64_t first=1, uint64_t times=1):
        """The calls number `first` and following, counted from now, fail with errno `error`."""
        self.set(call, error, 0, first, times)

    def shorten(self, str call, int most, uint64_t first=1, uint64_t times=1 << 62):
        """These calls take at most `most` messages at once."""
        self.set(call, 0, most, first, times)

    cdef int set(self, str call, int error, int most, uint64_t first, uint64_t times) except -1:
        cdef tudp_fault *fault = &self.faults.fault[CALLS.index(call)]
        fault.error = error
        fault.most = most
        fault.start = fault.calls + first
        fault.to = fault.start + times
        return 0

    def clear(self):
        """Nothing fails any more."""
        for number in range(len(CALLS)):
            self.faults.fault[number].start = self.faults.fault[number].to = 0

    def calls(self, str call):
        """How often `call` was made."""
        return self.faults.fault[CALLS.index(call)].calls
