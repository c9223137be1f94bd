# The wire kernels of ENet as they are, for tests beside the Python ones.

cdef extern from "enet_range.h" nogil:
    ctypedef struct en_range:
        pass
    size_t en_range_compress(en_range *model, const uint8_t *data, size_t len, uint8_t *out, size_t room)
    long en_range_decompress(en_range *model, const uint8_t *data, size_t len, uint8_t *out, size_t room)


cdef extern from "enet_wire.h" nogil:
    ctypedef struct en_header:
        uint16_t id
        uint16_t time
        uint8_t session, timed, compressed, size
    ctypedef struct en_ack:
        uint16_t number, time
    ctypedef struct en_greeting:
        uint16_t peer_id
        uint8_t incoming_session, outgoing_session
        uint32_t mtu, window, channels, incoming, outgoing, interval, acceleration, deceleration
        uint8_t connect_id[4]
        uint32_t data
    ctypedef struct en_two:
        uint32_t incoming, outgoing
    ctypedef struct en_three:
        uint32_t interval, acceleration, deceleration
    ctypedef struct en_sending:
        uint16_t start
        uint32_t count, index, total, offset
    ctypedef union en_fields:
        en_ack ack
        en_greeting greeting
        uint32_t reason
        en_two bandwidth
        en_three throttle
        en_sending send
    ctypedef struct en_command:
        uint8_t type, flags, channel
        uint16_t number
        en_fields u
        const uint8_t *data
        uint32_t length
    int en_header_read(const uint8_t *data, size_t len, en_header *out)
    uint8_t *en_header_write(uint8_t *to, uint16_t id, uint8_t session, int timed, uint16_t time)
    long en_command_read(const uint8_t *data, size_t left, en_command *out)
    uint8_t *en_command_write(uint8_t *to, const en_command *command)
    uint32_t en_crc32(uint32_t crc, const uint8_t *data, size_t len)


def compress(const uint8_t[::1] data not None):
    """Code `data` with ENet's range coder. The result may be longer than `data`."""
    cdef size_t n = data.shape[0], room = 2 * n + 16
    cdef en_range *model = <en_range *> malloc(sizeof(en_range))
    cdef uint8_t *out = <uint8_t *> malloc(room)
    try:
        if model == NULL or out == NULL:
            raise MemoryError
        n = en_range_compress(model, &data[0] if n else NULL, n, out, room)
        return out[:n]
    finally:
        free(model)
        free(out)


def decompress(const uint8_t[::1] data not None, size_t most):
    """Undo `compress`. None when `data` is corrupt or gives more than `most` bytes."""
    cdef size_t n = data.shape[0]
    cdef long got
    cdef en_range *model = <en_range *> malloc(sizeof(en_range))
    cdef uint8_t *out = <uint8_t *> malloc(most or 1)
    try:
        if model == NULL or out == NULL:
            raise MemoryError
        got = en_range_decompress(model, &data[0] if n else NULL, n, out, most)
        return None if got < 0 else out[:got]
    finally:
        free(model)
        free(out)


def crc32(const uint8_t[::1] data not None):
    """zlib's crc32 as the native core computes it."""
    cdef size_t n = data.shape[0]
    return en_crc32(0, &data[0] if n else NULL, n)


def read(const uint8_t[::1] data not None):
    """Every whole command of a plain datagram: (header, rows, bytes left), or None without a header.

    A row is (type, flags, channel, number, fields, data), as `peers.enet_wire` gives it.
    """
    cdef en_header head
    cdef en_command c
    cdef size_t n = data.shape[0], at
    cdef long size
    if en_header_read(&data[0] if n else NULL, n, &head):
        return None
    at = head.size
    rows = []
    while at < n:
        size = en_command_read(&data[at], n - at, &c)
        if size < 0:
            break
        rows.append((c.type, c.flags, c.channel, c.number, _fields(&c), (<const uint8_t *> c.data)[:c.length]))
        at += size
    return (head.id, head.session, bool(head.timed), bool(head.compressed), head.time, head.size), rows, n - at


cdef tuple _fields(en_command *c):
    cdef en_greeting *g = &c.u.greeting
    if c.type == 1:
        return c.u.ack.number, c.u.ack.time
    if c.type == 2 or c.type == 3:
        greeting = (g.peer_id, g.incoming_session, g.outgoing_session, g.mtu, g.window, g.channels, g.incoming,
                    g.outgoing, g.interval, g.acceleration, g.deceleration, (<const uint8_t *> g.connect_id)[:4])
        return (*greeting, g.data) if c.type == 2 else greeting
    if c.type == 4:
        return (c.u.reason,)
    if c.type == 5:
        return ()
    if c.type == 6:
        return (c.length,)
    if c.type == 7 or c.type == 9:
        return c.u.send.start, c.length
    if c.type == 10:
        return c.u.bandwidth.incoming, c.u.bandwidth.outgoing
    if c.type == 11:
        return c.u.throttle.interval, c.u.throttle.acceleration, c.u.throttle.deceleration
    return c.u.send.start, c.length, c.u.send.count, c.u.send.index, c.u.send.total, c.u.send.offset


def rewrite(const uint8_t[::1] data not None):
    """Read a plain datagram and write it again: the same bytes for whole commands, less what follows them."""
    cdef en_header head
    cdef en_command c
    cdef uint8_t room[48]
    cdef size_t n = data.shape[0], at
    cdef long size
    if en_header_read(&data[0] if n else NULL, n, &head):
        return None
    out = bytes((<uint8_t *> room)[:en_header_write(room, head.id, head.session, head.timed, head.time) - room])
    at = head.size
    while at < n:
        size = en_command_read(&data[at], n - at, &c)
        if size < 0:
            break
        out += (<uint8_t *> room)[:en_command_write(room, &c) - room] + (<const uint8_t *> c.data)[:c.length]
        at += size
    return out
