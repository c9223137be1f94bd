"""The hot half of a TCP connection: the inbox, the wake-up, receive and respond.

The twin of `transports/framing.py` (`Inbox`) and `connections/streaming.py`
(`Wake`, `Outbox`, `Stream`), which say what each of these promises; one suite tests both.
Loop thread only.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetObject
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from cpython.unicode cimport PyUnicode_Check
from libc.string cimport memchr

from asyncio import CancelledError, current_task
from asyncio.tasks import _enter_task, _leave_task

from ..errors import FormatError, TooLong
from ..transports.framing import FinalLine, Line

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <stdint.h>
    #include <string.h>
    /* Where `end` begins in data[from, size), or -1. memchr finds the first byte,
     * memcmp settles the rest: no libc extension needed. */
    static inline Py_ssize_t tudp_find(const char *data, Py_ssize_t from, Py_ssize_t size,
                                       const char *end, Py_ssize_t end_size)
    {
        while (size - from >= end_size) {
            const char *hit = memchr(data + from, end[0], (size_t)(size - from - end_size + 1));
            if (!hit)
                return -1;
            if (end_size == 1 || !memcmp(hit, end, (size_t)end_size))
                return hit - data;
            from = hit - data + 1;
        }
        return -1;
    }
    /* A bytes subclass of `size` bytes, filled in place: one copy instead of two. */
    static inline PyObject *tudp_new_line(PyObject *type, const char *data, Py_ssize_t size)
    {
        PyObject *line = ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, size);
        if (!line)
            return NULL;
        memcpy(PyBytes_AS_STRING(line), data, (size_t)size);
        PyBytes_AS_STRING(line)[size] = 0;
    #if defined(__GNUC__)
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    #endif
        ((PyBytesObject *)line)->ob_shash = -1;
    #if defined(__GNUC__)
    #pragma GCC diagnostic pop
    #endif
        return line;
    }
    /* Lets `async for` ask a type for its next value without an exception per value. */
    static inline void tudp_set_send(PyObject *type, void *send)
    {
        ((PyTypeObject *)type)->tp_as_async->am_send = (sendfunc)send;
        PyType_Modified((PyTypeObject *)type);
    }
    static inline int tudp_context_enter(PyObject *c) { return PyContext_Enter(c); }
    static inline int tudp_context_exit(PyObject *c) { return PyContext_Exit(c); }
    """
    Py_ssize_t tudp_find(const char *data, Py_ssize_t start, Py_ssize_t size, const char *end, Py_ssize_t end_size)
    object tudp_new_line(object type, const char *data, Py_ssize_t size)
    void tudp_set_send(object type, void *send)
    int PyIter_Send(object coro, object value, PyObject **result) except? -1
    int tudp_context_enter(object context) except -1
    int tudp_context_exit(object context) except -1

cdef enum:
    # toolips_udp/counters.py; a test compares them
    SEND_QUEUED = 15
    SENT = 16
    SEND_REFUSED = 17
    MALFORMED = 8
    BYTES_IN = 20
    BYTES_OUT = 21

cdef enum:
    HELD_AT_MOST = 65536  # as in connections/streaming.py

WORDS_USED = {
    "malformed": MALFORMED,
    "send_queued": SEND_QUEUED, "sent": SENT, "send_refused": SEND_REFUSED,
    "bytes_in": BYTES_IN, "bytes_out": BYTES_OUT,
}

cdef object _line = Line
cdef object _final_line = FinalLine


cdef class Inbox:
    cdef object _data  # bytes as they came, or a bytearray of leftovers
    cdef Py_ssize_t _at, _seen
    cdef bytes _end  # what `_seen` is about
    cdef public bint ended

    def __cinit__(self):
        self._data = b""

    cdef inline Py_ssize_t _total(self):
        if PyBytes_CheckExact(self._data):
            return PyBytes_GET_SIZE(self._data)
        return PyByteArray_GET_SIZE(self._data)

    cdef inline char *_bytes(self):
        if PyBytes_CheckExact(self._data):
            return PyBytes_AS_STRING(self._data)
        return PyByteArray_AS_STRING(self._data)

    cdef inline Py_ssize_t size(self):
        return self._total() - self._at

    def __len__(self):
        return self.size()

    cpdef feed(self, chunk):
        cdef Py_ssize_t at = self._at
        if at == self._total():
            self._data = chunk if PyBytes_CheckExact(chunk) else bytes(chunk)
            self._at = self._seen = 0
            return
        if PyBytes_CheckExact(self._data):
            self._data = bytearray(self._data[at:])
        elif at:
            del self._data[:at]
        self._data += chunk
        self._seen = self._seen - at if self._seen > at else 0
        self._at = 0

    def end(self):
        self.ended = True

    cpdef clear(self):
        self._data = b""
        self._at = self._seen = 0

    cdef inline void _passed(self, Py_ssize_t stop, Py_ssize_t total):
        if stop == total:
            self._data = b""
            self._at = self._seen = 0
        else:
            self._at = self._seen = stop

    cdef bytes _cut(self, Py_ssize_t start, Py_ssize_t stop):
        cdef Py_ssize_t total = self._total()
        cdef bytes piece
        if start == 0 and stop == total and PyBytes_CheckExact(self._data):
            piece = self._data
        else:
            piece = PyBytes_FromStringAndSize(self._bytes() + start, stop - start)
        self._passed(stop, total)
        return piece

    cpdef bytes take(self, Py_ssize_t limit):
        cdef Py_ssize_t stop = self._total()
        if limit < stop - self._at:
            stop = self._at + (limit if limit > 0 else 0)
        return self._cut(self._at, stop)

    cpdef line(self, bytes end, Py_ssize_t limit):
        cdef Py_ssize_t at = self._at
        cdef Py_ssize_t total = self._total()
        cdef Py_ssize_t end_size = PyBytes_GET_SIZE(end)
        cdef Py_ssize_t stop, after
        cdef char *data
        if at == total:
            return None
        if end is not self._end:
            self._end = end
            self._seen = at
        data = self._bytes()
        stop = tudp_find(data, self._seen if self._seen > at else at, total, PyBytes_AS_STRING(end), end_size)
        if stop < 0:
            if total - at - limit > end_size - 1:
                raise TooLong(f"a line of more than {limit} bytes has no terminator {end!r} yet")
            if self.ended:
                return _final_line(self._cut(at, total))
            stop = total - end_size + 1
            self._seen = stop if stop > at else at
            return None
        if stop - at > limit:
            raise TooLong(f"a line has {stop - at} bytes; the limit is {limit}")
        after = stop + end_size
        if end_size == 1 and PyBytes_AS_STRING(end)[0] == c"\n" and stop > at and data[stop - 1] == c"\r":
            stop -= 1
        line = tudp_new_line(_line, data + at, stop - at)
        self._passed(after, total)
        return line

    cpdef frame(self, int prefix, Py_ssize_t limit):
        cdef Py_ssize_t at = self._at
        cdef Py_ssize_t have = self._total() - at - prefix
        cdef Py_ssize_t size = 0
        cdef unsigned char *data
        cdef int i
        if have < 0:
            return None
        data = <unsigned char *>self._bytes() + at
        for i in range(prefix):
            size = (size << 8) | data[i]
        if size == 0:
            raise FormatError("a frame of length 0; a frame holds at least one byte")
        if size > limit:
            raise TooLong(f"a frame of {size} bytes is announced; the limit is {limit}")
        if size > have:
            return None
        return self._cut(at + prefix, at + prefix + size)


cdef class Wake:
    cdef public object _loop
    cdef public bint _asyncio_future_blocking
    cdef public object callback
    cdef object _context
    cdef bint _cancelled, _stepping, _turned
    cdef Steps _steps  # the handler that waits here by way of its task, or None

    def __init__(self, loop):
        self._loop = loop

    cdef int begin(self) except -1:
        if self.callback is not None:
            raise RuntimeError("two reads at once on one connection; await the first one before")
        self._steps = None
        self._asyncio_future_blocking = True
        return 0

    def __await__(self):
        self.begin()
        return iter((self,))

    def add_done_callback(self, fn, *, context):
        self.callback = fn
        self._context = context

    def cancel(self, msg=None):
        if self._stepping:
            self._turned = True  # the task cancels what it waits on next: it has to be asked
        if self.callback is None:
            return False
        self._cancelled = True
        self.later()
        return True

    def result(self):
        if self._cancelled:
            self._cancelled = False
            raise CancelledError

    cpdef now(self):
        cdef object fn = self.callback
        cdef object context
        cdef bint waits
        if fn is not None:
            context = self._context
            self.callback = None
            tudp_context_enter(context)
            try:
                if self._steps is not None:
                    self._stepping = True
                    try:
                        waits = self._steps.again(self)
                    finally:
                        self._stepping = False
                    if waits and not self._turned:
                        self.callback = fn
                        return
                    self._turned = False
                fn(self)
            finally:
                tudp_context_exit(context)

    cpdef later(self):
        cdef object fn = self.callback
        if fn is not None:
            self.callback = None
            self._loop.call_soon(fn, self, context=self._context)


cdef class Outbox:
    cdef object _loop, _flush
    cdef list _waiting
    cdef Poller poller  # of the plain connections; None before the first

    def __init__(self, loop):
        self._loop = loop
        self._flush = self.flush
        self._waiting = []

    cdef int add(self, Stream c) except -1:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(c)
        return 0

    def flush(self):
        cdef Stream c
        cdef list waiting = self._waiting
        self._waiting = []
        for c in waiting:
            try:
                c.push()
            except Exception as error:
                self._loop.call_exception_handler({"message": f"writing to {c.address}", "exception": error})


cdef class Stream:
    cdef public object address, packet, task
    cdef public bint lost, closing, settled, fresh, answered, _half_closed
    cdef public double idle_for
    cdef public double _partial, _linger
    cdef public object _listener, _loop, _transport, _drained, _extra
    cdef public bint _reading_paused, _writing_paused
    cdef readonly Inbox _inbox
    cdef readonly Wake _wake
    cdef object _write
    cdef bint _stepping  # its handler is being stepped by `received`, which sends what it answers
    cdef Wire _wire  # the transport, when it is ours
    cdef readonly Outbox _outbox
    cdef list _pieces
    cdef readonly Py_ssize_t _held
    cdef unsigned long long[::1] _counters
    cdef Py_ssize_t _max_buffer, _max_unsent

    def __init__(self, listener, address):
        self.address = address
        self.packet = b""
        self.fresh = True
        self._listener = listener
        self._loop = listener.loop
        self._inbox = Inbox()
        self._wake = Wake(self._loop)
        self._counters = listener.counters
        self._max_buffer = listener.limits.max_buffer
        self._max_unsent = listener.limits.max_unsent
        self._pieces = []
        if listener.outbox is None:
            listener.outbox = Outbox(self._loop)
        self._outbox = listener.outbox

    def connection_made(self, transport):
        self._transport = transport
        self._write = transport.write
        if isinstance(transport, Wire):
            self._wire = transport

    def data_received(self, data):
        self.received(data if PyBytes_CheckExact(data) else bytes(data))

    cdef int received(self, bytes data) except -1:
        cdef Inbox inbox = self._inbox
        self.fresh = True
        self._counters[BYTES_IN] += <unsigned long long>PyBytes_GET_SIZE(data)
        if self.closing:
            return 0
        inbox.feed(data)
        if self._wake.callback is not None and not self._writing_paused:
            self._stepping = True
            try:
                self._wake.now()
            finally:
                self._stepping = False
            self.push()
        elif inbox.size() > self._max_buffer and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def respond(self, data):
        cdef Py_ssize_t size
        if PyUnicode_Check(data):
            data = data.encode()
        size = len(data)
        if size == 0:
            return
        self._counters[SEND_QUEUED] += 1
        if self.lost or self.closing or self._write is None:
            self._counters[SEND_REFUSED] += 1
            return
        self.answered = True
        self._counters[SENT] += 1
        self._counters[BYTES_OUT] += <unsigned long long>size
        self._pieces.append(data if PyBytes_Check(data) else bytes(data))
        if self._held == 0 and not self._stepping:
            self._outbox.add(self)
        self._held += size
        if self._held > HELD_AT_MOST:
            self.push()

    cpdef push(self):
        cdef list pieces = self._pieces
        cdef object data
        if self._held == 0:
            return
        self._held = 0
        if len(pieces) == 1:
            data = pieces.pop()
        else:
            data = b"".join(pieces)
            pieces.clear()
        if self.lost:
            return
        if self._wire is not None:
            self._wire.send_bytes(data)
        elif not self._transport.is_closing():
            self._write(data)
        if self._writing_paused and self._transport.get_write_buffer_size() > self._max_unsent:
            self.overrun()

    cpdef discard(self):
        self._held = 0
        self._pieces.clear()


cdef class Messages:
    """The lines (`prefix` 0) or frames of one client: what `async for` goes through.

    It is iterator, awaitable and what is awaited in one, so that a message costs
    no coroutine: `step` is asked for the next value by way of `am_send`.
    """

    cdef Stream _c
    cdef bytes _end
    cdef Py_ssize_t _limit
    cdef int _prefix

    def __init__(self, Stream c, bytes end, Py_ssize_t limit, int prefix):
        self._c = c
        self._end = end
        self._limit = limit
        self._prefix = prefix

    def __aiter__(self):
        return self

    def __anext__(self):
        return self

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        """For tracers and debuggers, which do not use `am_send`."""
        message = self.step()
        if type(message) is Wake:
            return message
        raise StopIteration(message)

    cdef object step(self):
        """The next message, or the `Wake` to wait on. `StopAsyncIteration` at the end."""
        cdef Stream c = self._c
        cdef Inbox inbox = c._inbox
        if not c._writing_paused:
            try:
                message = inbox.frame(self._prefix, self._limit) if self._prefix else inbox.line(self._end, self._limit)
            except (TooLong, FormatError):
                c.drop(MALFORMED)
                raise StopAsyncIteration from None
            if message is not None:
                c._partial = 0
                c.packet = message
                return message
            if inbox.ended or c.closing or (c._listener.draining and c._at_end()):
                raise StopAsyncIteration
            if c._reading_paused:
                c._resume()
        c._wake.begin()
        return c._wake


cdef int send_message(Messages self, object value, PyObject **result) noexcept:
    """`am_send`: PYGEN_RETURN (0) with a message, PYGEN_NEXT (1) with what to wait on, PYGEN_ERROR (-1)."""
    try:
        message = self.step()
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        return -1
    Py_INCREF(message)
    result[0] = <PyObject *>message
    return 1 if type(message) is Wake else 0


include "stream_wire.pxi"
include "stream_steps.pxi"

tudp_set_send(Messages, <void *>send_message)
tudp_set_send(Steps, <void *>send_steps)
