# cython: boundscheck=False, wraparound=False
"""A user's own native stage: peers that join, get numbered messages again until
they ack them, hear broadcasts, and leave by silence. All that a peer protocol needs
of a stage, in a hundred lines."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from toolips_udp._native.tudp cimport *

cdef enum:
    PEERS = 64
    EVENTS = 256

cdef uint64_t RESEND = 50_000_000
cdef uint64_t SILENCE = 1_000_000_000

cdef struct Peer:
    bint used
    tudp_key key
    tudp_sockaddr address
    uint64_t heard, sent
    uint8_t unacked           # number of the message that waits for its ack; 0: none
    uint8_t number            # of the last message
    uint8_t size
    uint8_t message[64]

cdef struct Event:
    uint8_t kind              # J, M or L
    uint32_t peer
    uint8_t size
    uint8_t data[64]

cdef struct State:            # what the functions without the GIL may touch
    Peer peers[PEERS]
    Event events[EVENTS]
    uint32_t waiting
    const uint8_t *news       # of the Toy's own bytes; sent by the next flush
    uint32_t news_size
    void *toy


cdef class Toy:
    cdef tudp_stage stage
    cdef State state
    cdef bytes news           # stays alive until the turn has ended
    cdef public list log
    cdef public object on_message

    def __cinit__(self):
        self.log = []
        self.stage.abi = TUDP_ABI
        self.stage.name = b"toy"
        self.stage.scratch = 4
        self.stage.self = &self.state
        self.state.toy = <void *>self
        self.stage.take = take
        self.stage.due = due
        self.stage.deliver = deliver
        self.stage.flush = flush
        self.stage.deadline = deadline

    def __tudp_stage__(self):
        return PyCapsule_New(&self.stage, TUDP_CAPSULE, NULL)

    def send(self, uint32_t peer, bytes data):
        """A message that is sent again until it is acked."""
        cdef Peer *p = &self.state.peers[peer]
        p.number = p.number % 255 + 1
        p.unacked = p.number
        p.size = <uint8_t>len(data)
        memcpy(p.message, <const char *>data, len(data))
        p.sent = 0

    def broadcast(self, bytes data):
        """One copy of `data` to all peers, at the end of the turn."""
        self.news = data
        self.state.news = <const uint8_t *><const char *>data
        self.state.news_size = <uint32_t>len(data)


cdef void tell(State *self, uint8_t kind, uint32_t peer, const uint8_t *data, uint32_t size) noexcept nogil:
    cdef Event *e
    if self.waiting < EVENTS:
        e = &self.events[self.waiting]
        self.waiting += 1
        e.kind, e.peer, e.size = kind, peer, <uint8_t>min(size, 64)
        memcpy(e.data, data, e.size)


cdef int take(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot) noexcept nogil:
    cdef State *self = <State *>stage.self
    cdef tudp_key key
    cdef uint32_t i, free_place = PEERS
    cdef Peer *p
    if slot.len == 0 or slot.data[0] == ord("?"):
        return TUDP_PASS           # not of this protocol: for a Python handler
    tudp_key_of(&slot.from_, &key)
    for i in range(PEERS):
        p = &self.peers[i]
        if p.used and memcmp(&p.key, &key, sizeof(key)) == 0:
            p.heard = turn.now
            if slot.data[0] == ord("A"):
                if slot.len == 2 and slot.data[1] == p.unacked:
                    p.unacked = 0
                return TUDP_ANSWERED
            if slot.data[0] == ord("M"):
                tell(self, ord("M"), i, slot.data + 1, slot.len - 1)
                stage.held = 1
                return TUDP_HELD   # counted in deliver()
            return TUDP_DROP(TUDP_MALFORMED)
        if not p.used and free_place == PEERS:
            free_place = i
    if slot.data[0] != ord("J") or free_place == PEERS:
        return TUDP_DROP(TUDP_DENIED)
    p = &self.peers[free_place]
    memset(p, 0, sizeof(Peer))
    p.used, p.key, p.address, p.heard = True, key, slot.from_, turn.now
    tell(self, ord("J"), free_place, slot.data, 0)
    stage.held = 1
    memcpy(turn.ops.room(turn, 2), <const char *>b"ok", 2)
    tudp_reply(turn, slot, 2)
    return TUDP_ANSWERED


cdef void due(tudp_stage *stage, tudp_turn *turn) noexcept nogil:
    cdef State *self = <State *>stage.self
    cdef uint32_t i
    for i in range(PEERS):
        if self.peers[i].used and turn.now - self.peers[i].heard >= SILENCE:
            self.peers[i].used = False
            tell(self, ord("L"), i, NULL, 0)
            stage.held = 1


cdef void deliver(tudp_stage *stage, tudp_turn *turn) noexcept with gil:
    cdef State *self = <State *>stage.self
    cdef uint32_t i
    toy = <Toy>self.toy
    for i in range(self.waiting):
        data = PyBytes_FromStringAndSize(<char *>self.events[i].data, self.events[i].size)
        toy.log.append((chr(self.events[i].kind), self.events[i].peer, data))
        if self.events[i].kind == ord("M"):
            try:
                if toy.on_message is not None:
                    toy.on_message(self.events[i].peer, data)
                turn.counters[<int>TUDP_HANDLED] += 1
            except Exception as error:
                toy.log.append(("failed", str(error)))
                turn.counters[<int>TUDP_HANDLER_FAILED] += 1
    self.waiting = stage.held = 0


cdef void flush(tudp_stage *stage, tudp_turn *turn) noexcept nogil:
    cdef State *self = <State *>stage.self
    cdef Peer *p
    cdef uint8_t *room
    cdef uint32_t i
    for i in range(PEERS):
        p = &self.peers[i]
        if not p.used:
            continue
        if p.unacked and (p.sent == 0 or turn.now - p.sent >= RESEND):
            room = turn.ops.room(turn, 66)
            room[0], room[1] = ord("R"), p.unacked
            memcpy(room + 2, p.message, p.size)
            turn.ops.send(turn, 2 + p.size, NULL, 0, &p.address, NULL)
            p.sent = turn.now
        if self.news != NULL:
            room = turn.ops.room(turn, 2)
            room[0], room[1] = ord("B"), <uint8_t>i
            turn.ops.send(turn, 2, self.news, self.news_size, &p.address, NULL)
    self.news = NULL


cdef uint64_t deadline(tudp_stage *stage) noexcept nogil:
    cdef State *self = <State *>stage.self
    cdef uint64_t soonest = TUDP_NEVER
    cdef uint32_t i
    for i in range(PEERS):
        if self.peers[i].used:
            soonest = min(soonest, self.peers[i].heard + SILENCE)
            if self.peers[i].unacked:
                soonest = min(soonest, self.peers[i].sent + RESEND)
    return soonest
