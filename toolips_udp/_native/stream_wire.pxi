"""The transport of a plain TCP socket: reads and writes it without the loop's own transport.

The loop only says "readable" and "writable", and where there is epoll it says "readable" once for all
connections of a listener: which ones, `Poller` asks the kernel itself. One segment costs one `recv` into a
buffer that all share, and what its handler answers leaves in one `send` before
the next socket is read. Only what the kernel does not take at once is kept.
TLS stays with the loop's transport.
"""

from socket import IPPROTO_TCP, TCP_NODELAY

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0  /* the interpreter ignores SIGPIPE */
    #endif
    /* Filled and copied out of under the GIL: one is enough for all loops. */
    static char tudp_segment[65536];
    #ifdef __linux__
    #include <sys/epoll.h>
    #include <unistd.h>
    static inline int tudp_poll_new(void) { return epoll_create1(EPOLL_CLOEXEC); }
    static inline int tudp_poll_set(int poll, int fd, int wanted)
    {
        struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
        return epoll_ctl(poll, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &event);
    }
    /* The readable descriptors, at most `TUDP_POLLED` of them; a negative count is an error. */
    enum { TUDP_POLLED = 64 };
    static inline int tudp_poll_ready(int poll, int *fds)
    {
        struct epoll_event events[TUDP_POLLED];
        int n = epoll_wait(poll, events, TUDP_POLLED, 0);
        for (int i = 0; i < n; i++)
            fds[i] = events[i].data.fd;
        return n;
    }
    static inline void tudp_poll_close(int poll) { close(poll); }
    #else
    enum { TUDP_POLLED = 1 };
    static inline int tudp_poll_new(void) { return -1; }
    static inline int tudp_poll_set(int poll, int fd, int wanted) { (void)poll; (void)fd; (void)wanted; return -1; }
    static inline int tudp_poll_ready(int poll, int *fds) { (void)poll; (void)fds; return -1; }
    static inline void tudp_poll_close(int poll) { (void)poll; }
    #endif
    """
    enum: TUDP_POLLED
    int tudp_poll_new()
    int tudp_poll_set(int poll, int fd, int wanted)
    int tudp_poll_ready(int poll, int *fds)
    void tudp_poll_close(int poll)
    char tudp_segment[65536]
    int errno
    int EAGAIN, EWOULDBLOCK, EINTR, SHUT_WR, MSG_NOSIGNAL
    ssize_t recv(int fd, void *into, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)
    int shutdown(int fd, int how)

cdef enum:
    HIGH_WATER = 65536  # unsent bytes at which a client is slow, as in asyncio
    LOW_WATER = 16384

cdef inline bint passing(int number) noexcept:
    """Whether the kernel only says: not now."""
    return number == EAGAIN or number == EWOULDBLOCK or number == EINTR


cdef class Poller:
    """What is readable, for all plain connections of a listener: one call of the loop and one system call for up
    to 64 of them, where the loop's own readers would cost a lock, a context and a handle each. What is left is
    told again in the loop's next turn. Lives while there is a `Wire`.
    """

    cdef object _loop
    cdef int _fd
    cdef Py_ssize_t _living
    cdef list _wires  # by descriptor; None where nothing is read

    def __cinit__(self, loop):
        self._loop = loop
        self._fd = -1
        self._wires = []

    def __dealloc__(self):
        if self._fd >= 0:  # the loop ended before its connections
            tudp_poll_close(self._fd)

    cdef int enter(self) except -1:
        self._living += 1
        if self._fd < 0:
            self._fd = tudp_poll_new()
            if self._fd >= 0:
                self._loop.add_reader(self._fd, self.turn)

    cdef int leave(self) except -1:
        self._living -= 1
        if self._living == 0 and self._fd >= 0:
            self._loop.remove_reader(self._fd)
            tudp_poll_close(self._fd)
            self._fd = -1
            self._wires = []

    cdef bint add(self, Wire wire) except -1:
        """Whether `wire` will be told; the kernel may refuse, and elsewhere there is no epoll."""
        if self._fd < 0 or tudp_poll_set(self._fd, wire._fd, True) < 0:
            return False
        while len(self._wires) <= wire._fd:
            self._wires.append(None)
        self._wires[wire._fd] = wire
        return True

    cdef int remove(self, Wire wire) except -1:
        tudp_poll_set(self._fd, wire._fd, False)
        self._wires[wire._fd] = None

    def turn(self):
        cdef int ready[TUDP_POLLED]
        cdef int i
        cdef Wire wire
        for i in range(tudp_poll_ready(self._fd, ready)):
            wire = self._wires[ready[i]]
            if wire is not None:  # it may be gone since the kernel told
                wire.readable()


cdef class Wire:
    """An `asyncio.Transport` for one accepted socket, as far as a `Stream` needs one. Loop thread only."""

    cdef object _loop, _sock
    cdef Stream _stream
    cdef int _fd
    cdef bytearray _unsent
    cdef Py_ssize_t _gone  # bytes of `_unsent` that have left
    cdef bint _reading, _writing, _closing, _half_closing, _paused, _ended
    cdef Poller _poller
    cdef bint _polled  # `_poller` tells when it is readable, not the loop

    def __init__(self, loop, sock, Stream stream):
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._stream = stream
        self._unsent = bytearray()
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        if stream._outbox.poller is None:
            stream._outbox.poller = Poller(loop)
        self._poller = stream._outbox.poller
        self._poller.enter()
        stream.connection_made(self)
        self.resume_reading()

    # -- reading

    cpdef readable(self):
        cdef Stream stream = self._stream
        cdef ssize_t size
        if not self._reading:
            return
        size = recv(self._fd, tudp_segment, sizeof(tudp_segment), 0)
        try:
            if size > 0:
                stream.received(PyBytes_FromStringAndSize(tudp_segment, size))
            elif size == 0:
                self.pause_reading()
                if not stream.eof_received():
                    self.close()
            elif not passing(errno):
                self._lose(OSError(errno, "the connection broke while it was read"))
        except Exception as error:
            self._fail(error)

    def pause_reading(self):
        if self._reading:
            self._reading = False
            if self._polled:
                self._poller.remove(self)
            else:
                self._loop.remove_reader(self._sock)

    def resume_reading(self):
        if not self._reading and not self._closing and not self._stream._inbox.ended:
            self._reading = True
            self._polled = self._poller.add(self)
            if not self._polled:
                self._loop.add_reader(self._sock, self.readable)

    # -- writing

    def write(self, data):
        """Send now what the kernel takes, and the rest when it can."""
        self.send_bytes(bytes(data))

    cdef int send_bytes(self, object data) except -1:  # bytes, or a `Line`
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef ssize_t sent = 0
        if self._closing or self._half_closing:
            return 0
        if size and not self._writing:
            sent = send(self._fd, PyBytes_AS_STRING(data), <size_t>size, MSG_NOSIGNAL)
            if sent == size:
                return 0
            if sent < 0:
                if not passing(errno):
                    self._lose(OSError(errno, "the connection broke while it was written to"))
                    return 0
                sent = 0
        if sent < size:
            self._unsent += memoryview(data)[sent:]
            self._wait_writable()
        return 0

    cdef int _wait_writable(self) except -1:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock, self.writable)
        if not self._paused and self.unsent() > HIGH_WATER:
            self._paused = True
            self._stream.pause_writing()

    def writable(self):
        cdef ssize_t sent
        if not self._writing:
            return
        sent = send(self._fd, PyByteArray_AS_STRING(self._unsent) + self._gone, <size_t>self.unsent(), MSG_NOSIGNAL)
        if sent < 0:
            if not passing(errno):
                self._lose(OSError(errno, "the connection broke while it was written to"))
            return
        self._gone += sent
        if self.unsent() == 0:
            self._stop_writing()
            if self._half_closing:
                shutdown(self._fd, SHUT_WR)
            if self._closing:
                self._end_soon(None)
        elif self._gone > HIGH_WATER:  # not at every send: a long rest would be moved again and again
            del self._unsent[:self._gone]
            self._gone = 0
        if self._paused and self.unsent() <= LOW_WATER:
            self._paused = False
            try:
                self._stream.resume_writing()
            except Exception as error:
                self._fail(error)

    cdef inline Py_ssize_t unsent(self):
        return PyByteArray_GET_SIZE(self._unsent) - self._gone

    cdef int _stop_writing(self) except -1:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock)
        self._unsent = bytearray()
        self._gone = 0

    def get_write_buffer_size(self):
        return self.unsent()

    def can_write_eof(self):
        return True

    def write_eof(self):
        """Close our side when what was written has left; the client's stays open."""
        if not self._half_closing and not self._closing:
            self._half_closing = True
            if not self._writing:
                shutdown(self._fd, SHUT_WR)

    # -- the end

    def is_closing(self):
        return self._closing

    def close(self):
        """Read nothing more, send what is unsent, then close."""
        if not self._closing:
            self.pause_reading()
            self._closing = True
            if not self._writing:
                self._end_soon(None)

    def abort(self):
        """Close now; what is unsent is lost."""
        self._lose(None)

    def get_extra_info(self, name, default=None):
        return self._sock if name == "socket" else default

    cdef int _lose(self, error) except -1:
        self.pause_reading()
        self._stop_writing()
        self._closing = True
        self._end_soon(error)

    cdef int _fail(self, error) except -1:
        """Like the loop's transports: a protocol that raises loses its connection, and the loop is told."""
        self._loop.call_exception_handler({"message": f"serving {self._stream.address}", "exception": error})
        self._lose(error)

    cdef int _end_soon(self, error) except -1:
        if not self._ended:
            self._ended = True
            self._loop.call_soon(self._end, error)

    def _end(self, error):
        try:
            self._stream.connection_lost(error)
        finally:
            self._stream = None  # or both would wait for the garbage collector
            self._sock.close()
            self._poller.leave()
