# distutils: sources = native/batch.c native/shed.c native/pace.c native/offload.c native/calls.c native/clients.c
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The native endpoint: a socket and a pipeline, a batch at a time.

Receives many datagrams in one system call, lets the native stages take what is
theirs, hands the rest to Python handlers, and sends all replies together. It
is made from a socket and a pipeline and opens nothing itself. Called by
`toolips_udp/transports/`.
"""

import os
import sys
from collections.abc import Mapping

from ..address import Address
from ..clients import ClientTable as AnyTable
from ..counters import DROPS, QUEUE_AGES, SIZE, WORDS
from ..errors import StartError, TooLong, UnknownHandler, suggestion
from ..typed import Malformed, encode, is_json

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from .batch cimport *
from .tudp cimport *


cdef extern from "Python.h":
    const int PYGEN_RETURN
    int PyIter_Send(object coro, object value, PyObject **result) except -1
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    unsigned long PyThread_get_thread_ident() nogil
    void *PyMem_RawCalloc(size_t n, size_t size) nogil
    void PyMem_RawFree(void *memory) nogil
    Py_ssize_t Py_REFCNT(object o)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef extern from "sys/mman.h" nogil:
    void *mmap(void *at, size_t size, int protection, int flags, int fd, long offset)
    int munmap(void *at, size_t size)
    const int PROT_READ
    const int PROT_WRITE
    const int MAP_PRIVATE
    const int MAP_ANONYMOUS
    const int MAP_NORESERVE
    void *MAP_FAILED

cdef extern from "sys/timerfd.h" nogil:
    int timerfd_create(int clock, int flags)
    const int TFD_NONBLOCK
    const int TFD_CLOEXEC

cdef extern from "time.h" nogil:
    const int CLOCK_MONOTONIC

cdef extern from "netinet/in.h" nogil:
    const int AF_INET
    const int AF_INET6
    const int IPPROTO_IP
    const int IPPROTO_IPV6
    const int IP_PKTINFO
    const int IPV6_RECVPKTINFO

cdef bytes ZERO_BYTES = bytes(16)
cdef const uint8_t *ZEROS = <const uint8_t *>PyBytes_AS_STRING(ZERO_BYTES)

cdef enum:
    INLINE = 0
    ASYNC = 1
    THREADED = 2
    SCHEDULED = 3        # a plain handler whose packets router_threads deals out
    ADDRESSES = 4096     # Address objects that are kept for reuse
    ROUNDS = 4           # batches per turn
    AGAIN = 4            # datagrams of a batch that is not full, behind which another look is cheaper than a wake-up
    SCRATCH = 2048       # bytes per slot for the notes of all stages

cdef uint64_t TURN = 2_000_000  # ns after which a turn ends, so that timers and other sockets run

cdef dict KINDS = {"inline": INLINE, "async": ASYNC, "threaded": THREADED}
cdef tuple DROPPED = DROPS  # a tuple: what an extension returns need not be hashable
cdef dict NUMBERS = {word: number for number, word in enumerate(WORDS)}


def shed_all(c):
    """The first step while there is hardly any memory."""
    return "shed"


def shared_size(uint32_t slot_room=65536):
    """Bytes of the memory that a supervisor may hand in as `shared=`."""
    return tudp_shared_size(slot_room)


cdef void release(Py_buffer *view) noexcept:
    """Give borrowed memory back. A pointer, for the collector would clear a Py_buffer field without releasing it."""
    if view != NULL:
        PyBuffer_Release(view)
        PyMem_RawFree(view)


include "addresses.pxi"
include "wire.pxi"
include "connection.pxi"


cdef class Target:
    """A handler, as the turn needs it."""

    def __cinit__(self, handler, fn, pick):
        self.handler = handler
        self.fn = fn
        self.kind = SCHEDULED if pick is not None and handler.kind == "inline" else KINDS[handler.kind]


cdef class Endpoint:
    """A socket and a pipeline, served from C.

    `sock` is a bound, non-blocking UDP socket, or a `MemoryWire`. `shared` is
    memory of `shared_size()` bytes for the counters and receive buffers, for a
    supervisor that outlives this process. `calls` replaces the table of system
    calls (tests). One thread: that of the loop.
    """

    def __cinit__(self, sock, pipeline, *, server=None, shared=None, counters=None, calls=None,
                  uint32_t slot_room=65536, double age_limit=0.05, bint gso=True, bint gro=False, double session_timeout=600,
                  uint32_t max_sessions=100_000, Py_ssize_t max_async=10_000):
        self.timer = -1
        self.armed = TUDP_NEVER
        self.server = server
        self.pipeline = pipeline
        self.session_timeout = session_timeout
        self.max_sessions = max_sessions
        self.max_async = max_async
        self.thread = PyThread_get_thread_ident()
        if hasattr(sock, "wire"):  # a socket made of memory
            sock = sock.wire
        if isinstance(sock, MemoryWire):
            self.wire = sock
            self.fd = -1
            self.family = sock.family
            self.address = sock.address
        else:
            self.sock = sock
            self.fd = sock.fileno()
            self.family = sock.family
            self.address = Address.of(sock.getsockname())
        self.calls = calls if calls is not None else self.wire if self.wire is not None else Calls()
        self.lay_out(shared, counters, slot_room)
        tudp_batch_age(self.b, <uint64_t>(age_limit * 1e9))
        self.b.gso = gso and sys.platform == "linux"
        if gro and tudp_batch_gro(self.b) < 0:
            raise StartError("gro=True, but this kernel has no UDP_GRO. Fix: leave it out, or Linux 5.0 or later",
                             code="not-here")
        self.counters = Counters(self)
        self.fold(pipeline)

    cdef int lay_out(self, shared, counters, uint32_t slot_room) except -1:
        cdef tudp_shared *outside = NULL
        cdef int on = 1
        if shared is not None:
            self.shared = <Py_buffer *>PyMem_RawCalloc(1, sizeof(Py_buffer))
            PyObject_GetBuffer(shared, self.shared, PyBUF_SIMPLE | PyBUF_WRITABLE)
            if <size_t>self.shared.len < tudp_shared_size(slot_room):
                raise ValueError(f"shared memory of {self.shared.len:,} bytes is too small. "
                                 f"Expected shared_size(): {tudp_shared_size(slot_room):,}")
            outside = <tudp_shared *>self.shared.buf
        self.memory_size = tudp_batch_size(slot_room, SCRATCH)
        self.memory = mmap(NULL, self.memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if self.memory == MAP_FAILED:
            self.memory = NULL
            raise MemoryError
        self.b = tudp_batch_init(self.memory, outside, self.calls.table(), self.fd, self.family, slot_room, SCRATCH)
        if counters is not None:
            self.own_counters = <Py_buffer *>PyMem_RawCalloc(1, sizeof(Py_buffer))
            PyObject_GetBuffer(counters, self.own_counters, PyBUF_SIMPLE | PyBUF_WRITABLE)
            if self.own_counters.len < SIZE * 8:
                raise ValueError(f"counters need {SIZE * 8} bytes, found {self.own_counters.len}")
            self.b.turn.counters = <uint64_t *>self.own_counters.buf
        self.lent = [None] * TUDP_BATCH
        self.cached = [None] * ADDRESSES
        self.cached_keys = <tudp_key *>PyMem_RawCalloc(ADDRESSES, sizeof(tudp_key))
        fill_key(self.address, &self.b.own)
        self.b.wildcard = self.address.host in ("0.0.0.0", "::")
        if self.b.wildcard:
            if self.family == AF_INET6:
                self.b.calls.setsockopt(self.b.calls.ctx, self.fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on))
            else:
                self.b.calls.setsockopt(self.b.calls.ctx, self.fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on))
        self.last_drops = 0
        tudp_batch_clock(self.b)
        return 0

    cdef int fold(self, pipeline) except -1:
        """Read the pipeline once; a packet never looks anything up in it."""
        cdef uint32_t scratch = 0
        self.connection_class = pipeline.connection_class
        self.press(self.pressed, pipeline)
        calls = pipeline.calls
        pick = self.pick = pipeline.pick
        self.targets = {name: Target(handler, calls[handler], pick) for name, handler in pipeline.handlers.items()}
        self.main = None if pipeline.main is None else Target(pipeline.main, calls[pipeline.main], pick)
        self.stepper = pipeline.stepper
        self.max_ratio = pipeline.max_ratio or 0
        self.on_drop = pipeline.dropped if pipeline.on_drop is not None else None
        chooser = pipeline.chooser
        self.positions = self.places = self.chooser_key = None
        if chooser is not None and callable(chooser.key):
            self.chooser_key = chooser.key
            self.places = AnyTable(chooser.ttl, chooser.max_clients)
        elif chooser is not None:
            self.positions = ClientTable(chooser.ttl, chooser.max_clients, None, chooser.key == "ip")
        self.stages = list(pipeline.stages)
        self.b.stage_count = 0
        tudp_shed_end(self.b)  # a worker that was killed while it shed has left its filter on the socket
        self.b.shed.mask = 0
        for stage in self.stages:
            capsule = stage.__tudp_stage__()
            pointer = <tudp_stage *>PyCapsule_GetPointer(capsule, TUDP_CAPSULE)
            if pointer.abi != TUDP_ABI:
                raise StartError(f"the native stage {stage!r} was built for stage ABI {pointer.abi}, this core has "
                                 f"{TUDP_ABI}. Fix: build it again against toolips_udp.get_include()", code="stage-refused")
            status = tudp_batch_add(self.b, pointer, &scratch)
            if status < 0:
                raise StartError(f"the native stage {stage!r} could not be attached: {os.strerror(-status)}",
                                 code="stage-refused")
        self.spare = self.new_connection()
        return 0

    def __dealloc__(self):
        cdef int i
        if self.b != NULL:
            for i in range(<int>TUDP_BATCH):
                if self.is_heap(self.b.slots[i].data):
                    PyMem_RawFree(self.b.slots[i].data)
        if self.memory != NULL:
            munmap(self.memory, self.memory_size)
        PyMem_RawFree(self.cached_keys)
        release(self.shared)
        release(self.own_counters)

    # ---- one turn ----

    def turn(self):
        """Receive, guard, dispatch, answer: at most 4 batches or 2 ms, then others run."""
        cdef tudp_batch *b = self.b
        cdef uint64_t end
        cdef int got, left = 0
        if self.in_turn or self.closed:
            return
        self.in_turn = True
        try:
            if self.any_lent or self.spare is None:
                self.make_good()
            tudp_batch_clock(b)
            b.turn.counters[<int>TUDP_TURNS] += 1
            end = b.turn.now + TURN
            for _ in range(ROUNDS):
                with nogil:
                    got = tudp_batch_receive(b)
                if got <= 0:
                    break
                self.serve(<uint32_t>got)
                with nogil:
                    left = tudp_batch_flush(b)
                if <uint32_t>got < b.limit and got < AGAIN and b.whole_at == b.whole:
                    break
                tudp_batch_clock(b)
                if b.turn.now >= end:
                    break
                with nogil:
                    tudp_batch_rest(b, <uint32_t>got)
        finally:
            self.in_turn = False
        self.after(got, left)

    cdef int serve(self, uint32_t got) except -1:
        """Everything between receiving a batch and sending the answers."""
        cdef uint32_t i = 0
        try:
            self.deliver()
            if self.b.passed:
                while i < got:
                    if self.b.slots[i].verdict == TUDP_PASS:
                        self.serve_one(&self.b.slots[i])
                    i += 1
        except BaseException:  # no memory: what a handler raises does not come here
            self.give_up(i, got)
            raise
        self.b.shared.current_len = <uint32_t>0xFFFFFFFF
        if self.stepping:
            self.stop_stepping()
        if self.on_drop is not None and self.b.passed != got:
            for i in range(got):
                if self.b.slots[i].verdict < 0:
                    self.on_drop(WORDS[-self.b.slots[i].verdict], self.address_of(&self.b.slots[i].from_))
        if self.any_lent:
            self.renew(got)
        return 0

    cdef int give_up(self, uint32_t i, uint32_t got) except -1:
        """Nothing can be allocated: answer what was answered, count the rest of the batch, leave nothing half done."""
        cdef Connection c = self.spare
        if c is None:
            i += 1  # it was counted
        elif c.slot != NULL:  # so was this one; whoever keeps it must not see the next packet in its slot
            c.peer, c.local, c.slot = c.slot.from_, c.slot.local, NULL
            if c._packet is None:
                c._packet = b""
            self.spare = None
            i += 1
        while i < got:
            if self.b.slots[i].verdict == TUDP_PASS:
                self.b.turn.counters[<int>TUDP_SHED] += 1
            i += 1
        self.b.shared.current_len = <uint32_t>0xFFFFFFFF
        with nogil:
            tudp_batch_flush(self.b)
        if self.stepping:
            self.stop_stepping()
        return 0

    cdef int make_good(self) except -1:
        """Before the next batch: what an earlier turn had no memory for."""
        if self.any_lent:
            self.renew(self.b.limit)
        if self.spare is None:
            self.spare = self.new_connection()
        return 0

    cdef int deliver(self) except -1:
        cdef uint32_t i
        for i in range(self.b.stage_count):
            if self.b.stages[i].held and self.b.stages[i].deliver != NULL:
                self.b.stages[i].deliver(self.b.stages[i], &self.b.turn)
        return 0

    cdef int serve_one(self, tudp_slot *slot) except -1:
        cdef Connection c = self.spare
        cdef Target target = self.main
        cdef int word
        c.slot = slot
        c.now_ns = self.b.turn.now
        c.bytes_in = slot.len
        # for whoever finds this memory when the handler kills the process
        self.b.shared.current_at = <uint32_t>(slot.data - <uint8_t *>self.b.shared)
        self.b.shared.current_len = slot.len
        try:
            chosen = self.pass_steps(c) if self.steps else None
            if chosen is False:
                word = TUDP_HANDLED if c.answered else TUDP_ENDED
            elif type(chosen) is str:
                word = NUMBERS[chosen]
            else:
                if chosen is not None:
                    target = Target(chosen, self.pipeline.calls[chosen], self.pick)
                elif self.positions is not None:
                    if self.positions.table.count:
                        found = self.positions.find(&slot.from_, c.now_ns)
                        if found is not None:
                            target = <Target>found
                elif self.places is not None:
                    found = self.places.lookup(self.chooser_key(c), c.now_ns / 1e9)
                    if found is not None:
                        target = <Target>found
                if target is None:
                    word = TUDP_NO_HANDLER
                elif target.kind == INLINE:
                    self.running = <PyObject *>target
                    target.fn(c)
                    word = TUDP_HANDLED
                else:
                    word = self.run(c, target)
        except Malformed:
            word = TUDP_MALFORMED
        except BaseException as error:
            word = self.fail(c, target, error)
        self.running = NULL
        if word >= 0:
            self.b.turn.counters[word] += 1
            if word != TUDP_HANDLED and self.on_drop is not None:
                self.on_drop(WORDS[word], c.address)
        if self.sessions is not None and self.sessions.table.count:
            self.sessions.find(c.who(), c.now_ns)
        # Ours are the local name and self.spare. One more, and somebody keeps it.
        if Py_REFCNT(c) > 2:
            c.leave()
            self.spare = None  # so it stays when there is no memory for another
            self.spare = self.new_connection()
        else:
            c.slot = NULL
            c._packet = None
            c._address = None
            c.answered = False
            c.bytes_out = 0
        return 0

    cdef object pass_steps(self, Connection c):
        """What the extensions say: None to go on, False, the word of a drop, or a handler."""
        for step in self.steps:
            said = step(c)
            if said is not None and (said is False or said in DROPPED or hasattr(said, "kind")):
                return said
        return None

    cdef int run(self, Connection c, Target target) except -2:
        """A handler that is not inline. Returns the word, or -1 when it goes on."""
        cdef PyObject *result = NULL
        cdef int status
        if target.kind == SCHEDULED and self.pick(c) < 2:
            self.running = <PyObject *>target
            target.fn(c)
            return TUDP_HANDLED
        if target.kind != ASYNC:
            c.leave()
            self.begun += 1
            if self.pipeline.submit(c, target.handler):
                return -1
            self.begun -= 1
            return TUDP_QUEUE_FULL
        if self.async_in_flight >= self.max_async:
            return TUDP_QUEUE_FULL
        self.running = <PyObject *>target
        coro = target.fn(c)
        if not self.stepping:
            self.start_stepping()
        status = PyIter_Send(coro, None, &result)
        yielded = <object>result
        Py_XDECREF(result)
        if status == PYGEN_RETURN:
            if self.context != self.base_context:
                self.stop_stepping()  # variables that it set must not reach the next handler
                self.stepper.tidy()
            return TUDP_HANDLED
        self.stop_stepping()
        c.leave()
        self.begun += 1
        self.async_in_flight += 1
        self.pipeline.continue_async(c, target.handler, coro, yielded)
        return -1

    cdef int start_stepping(self) except -1:
        """Async handlers run as the spare task, in its context, from here to stop_stepping()."""
        self.stepper.enter()
        self.context = self.stepper.context
        self.base_context = self.stepper.base
        PyContext_Enter(self.context)
        self.stepping = True
        return 0

    cdef int stop_stepping(self) except -1:
        self.stepping = False
        PyContext_Exit(self.context)
        self.stepper.leave()
        return 0

    cdef int fail(self, Connection c, Target target, object error) except -2:
        try:
            self.pipeline.failed(c, error, None if target is None else target.handler)
        except BaseException as second:
            try:
                sys.unraisablehook(type("Unraisable", (), {
                    "exc_type": type(second), "exc_value": second, "exc_traceback": second.__traceback__,
                    "err_msg": "toolips_udp: reporting a failed handler failed", "object": self.pipeline}))
            except BaseException:
                pass  # there is no memory even for that; it is counted
        return TUDP_HANDLER_FAILED

    def finished(self, Connection c, str word, bint was_async=True):
        """The handler of a datagram that was in flight has ended: count it under `word`."""
        self.begun -= 1
        if was_async:
            self.async_in_flight -= 1
        self.b.turn.counters[<int>NUMBERS[word]] += 1
        if self.on_drop is not None and word != "handled":
            self.on_drop(word, c.address)

    def count(self, str word, long number=1):
        """Add to a counter."""
        self.b.turn.counters[<int>NUMBERS[word]] += <uint64_t>number

    def press(self, int level, pipeline=None):
        """Memory is short: 0 not any more, 1 strangers are refused, 2 all that would reach Python is."""
        steps = tuple((pipeline or self.pipeline).steps)
        self.pressed = level
        self.b.shed.pressed = level > 0
        self.steps = (self.shed_stranger if level == 1 else shed_all, *steps) if level else steps

    def shed_stranger(self, Connection c):
        """The first step while memory is short: who has no session and no handler of its own is refused."""
        cdef const tudp_sockaddr *who = c.who()
        for table in (self.sessions, self.positions):
            if table is not None and (<ClientTable>table).find(who, c.now_ns) is not None:
                return None
        if self.places is not None and self.places.lookup(self.chooser_key(c), c.now_ns / 1e9) is not None:
            return None
        return "shed"

    cdef int after(self, int got, int left) except -1:
        """What a turn leaves behind: a timer to set, messages that wait, a socket that is gone."""
        cdef uint64_t next
        if self.b.stage_count:
            next = tudp_batch_deadline(self.b)
            if next != self.armed:
                self.armed = next
                self.b.calls.timer_set(self.b.calls.ctx, self.timer, next)
        if left > 0 and not self.retrying and self.loop is not None:
            self.retrying = True
            self.loop.call_later(0.001, self.retry)
        if self.b.whole_at != self.b.whole and self.loop is not None:
            self.loop.call_soon(self.turn)  # datagrams that the kernel joined; the socket does not know of them
        if self.wire is not None and self.wire.on_send is not None and (<MemoryWire>self.wire).wire.out_count:
            self.wire.on_send()
        if got < 0 or left < 0:
            self.detach()
            number = -min(got, left)
            self.pipeline.failed(None, OSError(number, os.strerror(number)), f"the socket of {self.address}")
        return 0

    def retry(self):
        """Offer the kernel again what it would not take."""
        cdef int left
        self.retrying = False
        if self.closed:
            return
        tudp_batch_clock(self.b)
        left = tudp_offload_retry(self.b)
        self.after(0, left)

    def pulse(self):
        """A turn without receiving: timers of stages, their events, and what is queued."""
        cdef int left
        self.scheduled = False
        if self.in_turn or self.closed:
            return
        self.in_turn = True
        tudp_batch_clock(self.b)
        with nogil:
            tudp_batch_due(self.b)
        self.deliver()
        with nogil:
            left = tudp_batch_flush(self.b)
        self.in_turn = False
        self.after(0, left)

    flush = pulse

    def on_timer(self):
        self.b.calls.timer_read(self.b.calls.ctx, self.timer)
        self.armed = TUDP_NEVER
        self.pulse()

    cdef int soon(self) except -1:
        """Ask for one pulse, however many effects come before it."""
        if not self.scheduled and not self.closed:
            self.scheduled = True
            if self.loop is not None:
                self.loop.call_soon(self.pulse)
        return 0

    def wake(self):
        """Ask for an empty turn soon. From the loop's thread."""
        if not self.in_turn:
            self.soon()

    # ---- effects ----

    def send(self, data, to, Connection c=None):
        """Queue one datagram to `to`; it leaves at the end of the turn, or soon when outside one."""
        cdef tudp_sockaddr address
        cdef const uint8_t[::1] view
        if isinstance(data, str):
            data = data.encode()
        elif not PyObject_CheckBuffer(data):
            data = self.encode(data, c)
        if len(data) > TUDP_LARGEST:
            raise TooLong(f"a datagram of {len(data):,} bytes to {to} is too long. Expected at most {TUDP_LARGEST:,}")
        if PyThread_get_thread_ident() != self.thread:
            self.from_afar(bytes(data), to, None)
            return
        fill_sockaddr(to, self.family, &address)
        if self.closed:
            self.refuse()
            return
        view = data
        tudp_batch_push(self.b, &view[0] if view.shape[0] else NULL, <uint32_t>view.shape[0], &address, NULL)
        if not self.in_turn:
            self.soon()

    cdef int from_afar(self, bytes data, to, Connection c) except -1:
        """An effect from another thread: it happens on the loop, in the order called."""
        if self.loop is None:
            raise RuntimeError("this endpoint is not attached to a loop")
        try:
            self.loop.call_soon_threadsafe(self.arrived, data, to, c)
        except RuntimeError:
            pass  # the loop has ended, and the server with it
        return 0

    cdef int refuse(self) except -1:
        """Somebody sends through an endpoint that is closed: counted, not raised."""
        self.count("send_queued")
        self.count("send_refused")
        return 0

    def arrived(self, bytes data, to, Connection c):
        cdef const uint8_t[::1] view = data
        if self.closed:
            self.refuse()
        elif c is None:
            self.send(data, to)
        else:
            tudp_batch_push(self.b, &view[0] if len(data) else NULL, <uint32_t>len(data), c.who(), c.where())
            self.soon()

    cdef object encode(self, value, Connection c):
        if hasattr(value, "__struct_fields__"):
            return encode(value, c is not None and is_json(c.packet))
        name = ""
        if self.running != NULL:
            handler = (<Target><object>self.running).handler
            name = f" in {handler!r}"
        raise TypeError(f"cannot send {type(value).__name__}{name}. Expected bytes, bytearray, memoryview, str or a msgspec Struct")

    cdef int choose(self, Connection c, name, client) except -1:
        """Remember which handler a client is on; None forgets."""
        cdef tudp_key key
        if name is not None and name not in self.targets:
            raise UnknownHandler(f"no handler is called {name!r}. Found: {', '.join(sorted(self.targets)) or 'none'}."
                                 f"{suggestion(str(name), self.targets)}")
        if self.places is not None:
            which = client if client is not None else self.chooser_key(c)
            if name is None:
                self.places.remove(which)
            else:
                self.places.place(which, self.targets[name], c.now)
            return 0
        if self.positions is None:
            return 0
        if client is None:
            tudp_key_of(c.who(), &key)
        else:
            fill_key(client, &key)
        if name is None:
            self.positions.take(&key)
        else:
            self.positions.put(&key, self.targets[name], self.b.turn.now)
        return 0

    cdef object session_of(self, const tudp_sockaddr *peer):
        cdef tudp_key key
        if self.sessions is None:
            self.sessions = ClientTable(self.session_timeout, self.max_sessions)
        tudp_key_of(peer, &key)
        found = self.sessions.find_key(&key, self.b.turn.now)
        if found is None:
            found = {}
            self.sessions.put(&key, found, self.b.turn.now)
        return found

    def tidy(self):
        """Forget silent clients. The server calls this about once a second."""
        tudp_batch_clock(self.b)
        now = self.b.turn.now / 1e9
        for table in (self.positions, self.places, self.sessions):
            if table is not None:
                table.expire(now)

    def live_sessions(self):
        """(Address, dict) of each client with a session, the longest silent first."""
        return [] if self.sessions is None else self.sessions.items()

    def export(self):
        """Positions and sessions as plain data, for the process that takes over."""
        places = [] if self.positions is None else [
            (tuple(who), (<Target>at).handler.name) for who, at in self.positions.items()]
        return {"positions": places, "sessions": [(tuple(who), kept) for who, kept in self.live_sessions()]}

    def restore(self, state):
        """Take over what `export` gave. Names of handlers that are gone are dropped."""
        cdef tudp_key key
        tudp_batch_clock(self.b)
        for (host, port), name in state.get("positions", ()):
            if self.positions is not None and name in self.targets:
                fill_key(Address(host, port), &key)
                self.positions.put(&key, self.targets[name], self.b.turn.now)
        for (host, port), kept in state.get("sessions", ()):
            if self.sessions is None:
                self.sessions = ClientTable(self.session_timeout, self.max_sessions)
            fill_key(Address(host, port), &key)
            self.sessions.put(&key, kept, self.b.turn.now)

    # ---- memory ----

    cdef Connection new_connection(self):
        cdef Connection c = self.connection_class.__new__(self.connection_class)
        c.endpoint = self
        return c

    def connection(self, data, peer):
        """A connection that did not come through the socket: for tests, and for streams that serve UDP handlers."""
        cdef Connection c = self.new_connection()
        fill_sockaddr(peer, self.family, &c.peer)
        c._packet = bytes(data)
        c.bytes_in = <uint32_t>len(data)
        c.now_ns = self.b.turn.now
        return c

    cdef object lend(self, tudp_slot *slot):
        cdef SlotBuffer buffer
        cdef Py_ssize_t number = slot - self.b.slots
        if self.b.gro:  # many slots share one buffer
            return memoryview(PyBytes_FromStringAndSize(<char *>slot.data, slot.len))
        buffer = self.lent[number]
        if buffer is None:
            buffer = SlotBuffer.__new__(SlotBuffer)
            buffer.data = slot.data
            buffer.size = slot.len
            buffer.endpoint = self
            self.lent[number] = buffer
            self.any_lent = True
        return memoryview(buffer)

    cdef int renew(self, uint32_t got) except -1:
        """Slots whose memory is still lent get memory of their own."""
        cdef SlotBuffer buffer
        cdef uint32_t i
        cdef uint8_t *fresh
        for i in range(got):
            buffer = self.lent[i]
            if buffer is None:
                continue
            if not buffer.lent:
                self.lent[i] = None
                buffer.owned = False
                continue
            fresh = <uint8_t *>PyMem_RawCalloc(1, self.b.slot_room)
            if fresh == NULL:
                raise MemoryError
            self.lent[i] = None
            buffer.owned = self.is_heap(self.b.slots[i].data)
            self.b.slots[i].data = fresh
            self.b.in_iov[i].iov_base = fresh
        self.any_lent = False
        return 0

    cdef bint is_heap(self, uint8_t *data) noexcept:
        """Whether a slot's memory was given by renew(), not by lay_out()."""
        cdef uint8_t *low = <uint8_t *>self.b.shared
        return not low <= data < low + tudp_shared_size(self.b.slot_room)

    cdef object address_of(self, const tudp_sockaddr *peer):
        """The Address of a peer; the object is shared while the peer is among the recent ones."""
        cdef tudp_key key
        cdef uint64_t low
        cdef uint32_t at
        tudp_key_of(peer, &key)
        memcpy(&low, key.ip + 8, 8)
        at = <uint32_t>(((low ^ (<uint64_t>key.port << 17)) * <uint64_t>0x9E3779B97F4A7C15) >> 52)
        if memcmp(&self.cached_keys[at], &key, sizeof(key)) == 0:
            return self.cached[at]
        address = address_of_key(&key)
        self.cached_keys[at] = key
        self.cached[at] = address
        return address

    # ---- life ----

    def attach(self, loop):
        """Read from now on: the loop says "readable", the rest is ours."""
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.attached = True
        if self.fd < 0:
            self.wire.on_push = self.ring
            self.ring()
            return
        self.make_timer()
        loop.add_reader(self.fd, self.turn)
        self.soon()

    cdef int make_timer(self) except -1:
        """A timer for stages that have deadlines; none when nobody has."""
        cdef bint timed = False
        for i in range(self.b.stage_count):
            timed |= self.b.stages[i].deadline != NULL
        if timed and self.timer < 0:
            self.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
            if self.timer < 0:
                raise OSError("no timer could be made (timerfd_create)")
            self.loop.add_reader(self.timer, self.on_timer)
        return 0

    def ring(self):
        """The memory wire has something: what readiness is for a socket."""
        if self.attached and not self.rung:
            self.rung = True
            self.loop.call_soon(self.answer_ring)

    def answer_ring(self):
        self.rung = False
        if self.attached:
            self.turn()
            if self.wire.readable:
                self.ring()

    def detach(self):
        """Stop reading. Answers can still be sent until `close`."""
        if self.attached and self.fd >= 0:
            self.loop.remove_reader(self.fd)
        self.attached = False
        if self.b.shed.on:  # before another reads from this socket
            tudp_shed_end(self.b)

    def swap(self, pipeline):
        """Serve another pipeline from the next packet on; positions and sessions stay."""
        cdef uint32_t i
        state = self.export()
        for i in range(self.b.stage_count):
            if self.b.stages[i].detach != NULL:
                self.b.stages[i].detach(self.b.stages[i])
        self.pipeline = pipeline
        self.fold(pipeline)
        self.restore(state)
        if self.loop is not None and self.fd >= 0:
            self.make_timer()
            self.soon()  # new stages may have something to send, or a first deadline

    def close(self):
        """Send what is queued, then let go of everything but the socket, which is its owner's."""
        cdef uint32_t i
        if self.closed:
            return
        self.detach()
        self.pulse()
        self.closed = True
        for i in range(self.b.stage_count):
            if self.b.stages[i].detach != NULL:
                self.b.stages[i].detach(self.b.stages[i])
        if self.timer >= 0:
            self.loop.remove_reader(self.timer)
            os.close(self.timer)
            self.timer = -1
        self.count("send_refused_late", self.b.waiting_count)
        self.b.waiting_count = 0
        self.stages = []
        self.b.stage_count = 0

    def refresh(self):
        """Read the kernel's drop count; returns the bytes that wait in the receive buffer."""
        cdef uint32_t queued = 0
        self.lost(&queued)
        return queued

    cdef uint64_t lost(self, uint32_t *queued) noexcept:
        """Datagrams that the kernel has dropped and no word counts yet: only in a turn, whose words are its own."""
        cdef int64_t fresh
        if self.closed:
            return 0
        if not self.in_turn:
            tudp_batch_drops(self.b, &self.last_drops, queued)
            return 0
        fresh = tudp_batch_lost(self.b, self.last_drops, queued)
        return <uint64_t>fresh if fresh > 0 else 0

    @property
    def deadline(self):
        """When a stage wants to be woken, in seconds of the monotonic clock, or None."""
        cdef uint64_t next = tudp_batch_deadline(self.b)
        return None if next == TUDP_NEVER else next / 1e9

    @property
    def in_flight(self):
        """Datagrams whose handler has not ended, or that a stage keeps."""
        return self.begun + <Py_ssize_t>self.b.turn.held

    @property
    def waiting(self):
        """Messages that the kernel would not take yet."""
        return self.b.waiting_count

    @property
    def queued(self):
        """Messages that leave at the end of the turn."""
        return self.b.outs_count

    @property
    def refused_by(self):
        """Refused sends by errno: a dict of number to count."""
        return {number: self.b.refused_by[number] for number in range(134) if self.b.refused_by[number]}

    @property
    def is_armed(self):
        """Whether the age drop is armed."""
        return self.b.armed_since != 0

    @property
    def queue_ages(self):
        """How long datagrams had waited while the age drop was armed: a count for each bucket of `AGE_BOUNDS`."""
        return tuple([self.b.turn.counters[n] for n in range(<int>QUEUE_AGES, <int>SIZE)])

    @property
    def shedding(self):
        """Whether strangers are let in at a rate only: None, "kernel" (a filter of ours drops them) or "turn"."""
        return None if not self.b.shed.on else "kernel" if self.b.shed.filtering else "turn"

    @property
    def heartbeat(self):
        """When the last turn began: monotonic seconds."""
        return self.b.shared.heartbeat / 1e9

    @property
    def running_handler(self):
        """The handler that runs right now, or None. May be read from any thread."""
        cdef PyObject *running = self.running
        return None if running == NULL else (<Target><object>running).handler

    @property
    def gso(self):
        """Whether replies are grouped into UDP_SEGMENT messages."""
        return bool(self.b.gso)


cdef class Counters:
    """The counters of an endpoint: a read-only mapping of word to int."""

    cdef Endpoint endpoint

    def __cinit__(self, Endpoint endpoint):
        self.endpoint = endpoint

    def __getitem__(self, word):
        cdef uint64_t lost = 0
        number = NUMBERS[word]
        if number == TUDP_KERNEL or number == TUDP_RECEIVED:
            lost = self.endpoint.lost(NULL)
        return self.endpoint.b.turn.counters[<int>number] + lost

    def __len__(self):
        return len(WORDS)

    def __iter__(self):
        return iter(WORDS)

    def __contains__(self, word):
        return word in NUMBERS

    def get(self, word, default=None):
        """The counter, or `default` for an unknown word."""
        return self[word] if word in NUMBERS else default

    def keys(self):
        """All words, in the order of `toolips_udp.counters.WORDS`."""
        return WORDS

    def values(self):
        """All numbers, in the order of the words."""
        return [self[word] for word in WORDS]

    def items(self):
        """(word, number) of all words."""
        return [(word, self[word]) for word in WORDS]

    def __repr__(self):
        return "{" + ", ".join(f"{word!r}: {number}" for word, number in self.items() if number) + "}"


Mapping.register(Counters)
