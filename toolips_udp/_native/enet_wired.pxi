# A host on a connected socket: what a client needs, without an object per datagram.

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #define EN_INBOX 16
    typedef struct en_inbox {
        struct mmsghdr head[EN_INBOX];
        struct iovec at[EN_INBOX];
        uint8_t room[EN_INBOX][EN_MTU_MOST];
    } en_inbox;
    static void en_inbox_init(en_inbox *box)
    {
        memset(box->head, 0, sizeof box->head);
        for (int i = 0; i < EN_INBOX; i++) {
            box->at[i].iov_base = box->room[i];
            box->at[i].iov_len = EN_MTU_MOST;
            box->head[i].msg_hdr.msg_iov = &box->at[i];
            box->head[i].msg_hdr.msg_iovlen = 1;
        }
    }
    /* Datagrams that were there, 0: none, or -1: ask again (refused by an ICMP, interrupted). */
    static int en_inbox_fill(en_inbox *box, int fd)
    {
        int n = recvmmsg(fd, box->head, EN_INBOX, MSG_DONTWAIT, NULL);
        return n >= 0 ? n : errno == EAGAIN || errno == EWOULDBLOCK || errno == EBADF ? 0 : -1;
    }
    static int en_inbox_long(const en_inbox *box, int i) { return box->head[i].msg_hdr.msg_flags & MSG_TRUNC; }
    static uint32_t en_inbox_len(const en_inbox *box, int i) { return box->head[i].msg_len; }
    static void en_wire_send(int fd, const uint8_t *data, uint32_t len) { (void)!send(fd, data, len, MSG_DONTWAIT); }
    """
    const int EN_INBOX
    ctypedef struct en_inbox:
        uint8_t **room
    void en_inbox_init(en_inbox *box) nogil
    int en_inbox_fill(en_inbox *box, int fd) nogil
    bint en_inbox_long(const en_inbox *box, int i) nogil
    uint32_t en_inbox_len(const en_inbox *box, int i) nogil
    void en_wire_send(int fd, const uint8_t *data, uint32_t len) nogil

cdef enum:
    PULLS = 8  # batches in one pull: what comes without end waits for the loop's next turn


cdef void wired_out(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to) noexcept with gil:
    cdef Wired wired = <Wired>ctx
    if wired.fd >= 0:
        en_wire_send(wired.fd, data, len)  # what does not go is lost, as datagrams are


@cython.no_gc_clear
cdef class Wired:
    """A host on one connected socket, of which it knows the number. `outgoing` of that host is empty from now on."""

    cdef Host host
    cdef int fd
    cdef tudp_sockaddr source
    cdef en_inbox *box

    def __cinit__(self, Host host not None, int fd, address):
        self.host, self.fd = host, fd
        read_address(address, &self.source)
        self.box = <en_inbox *>malloc(sizeof(en_inbox))
        if self.box == NULL:
            raise MemoryError("no memory for a client's socket")
        en_inbox_init(self.box)
        en_loose_init(&host.loose, wired_out, <void *>self)

    def __dealloc__(self):
        free(self.box)
        if self.host is not None:
            en_loose_init(&self.host.loose, loose_out, <void *>self.host._outgoing)

    def pull(self, uint64_t now):
        """Take what has arrived at `now` (ns). Returns how many datagrams it was."""
        cdef Host host = self.host
        cdef int n, i, batch
        cdef long total = 0
        cdef tudp_turn *turn = en_loose_turn(&host.loose, now)
        for batch in range(PULLS):
            if self.fd < 0:
                break
            n = en_inbox_fill(self.box, self.fd)
            if n == 0:
                break
            host.stage.in_turn = 1
            for i in range(n):
                if not en_inbox_long(self.box, i):
                    en_take(host.stage.host, turn, <const uint8_t *>self.box.room[i], en_inbox_len(self.box, i),
                            &self.source, NULL)
            host.dispatch(host.loose.counters)
            host.stage.in_turn = 0
            total += n if n > 0 else 0
            if 0 <= n < EN_INBOX:
                break
        return total

    def push(self, uint64_t now):
        """Run the timers that are due at `now` (ns) and send what is to leave. Returns the host's deadline."""
        cdef Host host = self.host
        cdef tudp_turn *turn = en_loose_turn(&host.loose, now)
        if en_deadline(host.stage.host) <= now or en_event_count(host.stage.host):
            host.stage.in_turn = 1
            en_due(host.stage.host, turn)
            host.dispatch(host.loose.counters)
            host.stage.in_turn = 0
        if self.fd >= 0:
            en_flush(host.stage.host, turn)
        return host.deadline()

    def close(self):
        """Neither read nor send any more; the socket's owner closes it."""
        self.fd = -1
