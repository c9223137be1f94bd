# The ENet host: a stage in a turn, a sans-io host outside of one.

cdef extern from "Python.h":
    int Py_REFCNT(object o)

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *src, char *dst, unsigned size)
    int inet_pton(int family, const char *src, void *dst)
    uint16_t htons(uint16_t n)
    const int AF_INET
    const int AF_INET6

cdef extern from "net/if.h" nogil:
    char *if_indextoname(unsigned index, char *name)
    unsigned if_nametoindex(const char *name)

cdef extern from "enet.h" nogil:
    const int EN_CONNECTED, EN_GONE
    const uint16_t EN_NO_ID
    const int EN_TOO_LONG, EN_BAD_CHANNEL, EN_CLOSED, EN_NO_MEMORY
    const int EN_EVENT_JOIN, EN_EVENT_MESSAGE, EN_EVENT_LEAVE
    ctypedef int en_word
    ctypedef struct en_block:
        uint32_t size
    ctypedef struct en_config:
        uint64_t secret[2]
        uint64_t memory, reassembly_bytes
        uint32_t max_peers, per_prefix, channels, mtu, max_message, max_fragments, max_groups, group_bytes
        uint32_t max_waiting, waiting_bytes, queue_bytes, queue_age, max_acks, rate, byte_rate, max_malformed
        uint32_t ping, clock
        uint8_t checksum, compress, accept, silent, limit_loopback
    void en_config_default(en_config *config)
    ctypedef struct en_peer_stats:
        uint64_t datagrams_in, datagrams_out, bytes_in, bytes_out
        uint64_t messages_in[3]
        uint64_t messages_out[3]
        uint32_t resent, given_up, duplicates, old_numbers, out_of_order, dropped_throttle, dropped_queue
        uint32_t dropped_limited, compressed_in, compressed_out, malformed
        uint64_t plain_out, coded_out
    ctypedef struct en_host
    ctypedef struct en_peer
    ctypedef struct en_event:
        en_peer *peer
        const uint8_t *data
        uint32_t length, code
        uint8_t kind, channel, delivery, word, by_peer, joined, ends
    ctypedef struct en_totals:
        uint64_t joins, leaves, connects, answered, refused, proofs, guesses, half_dropped, pings_for_proof
        uint64_t datagrams_in, datagrams_out, bytes_in, bytes_out, unproven_in, unproven_out
        uint64_t acks_in, acks_out, messages_in, messages_out, resent, shed, over_commands
    en_host *en_host_new(const en_config *config)
    void en_host_free(en_host *host)
    void en_host_limits(en_host *host, const en_config *config)
    const en_config *en_host_config(const en_host *host)
    int en_take(en_host *host, tudp_turn *turn, const uint8_t *data, uint32_t len, const tudp_sockaddr *source,
                const tudp_local *local)
    void en_due(en_host *host, tudp_turn *turn)
    void en_flush(en_host *host, tudp_turn *turn)
    uint64_t en_deadline(const en_host *host)
    uint32_t en_event_count(const en_host *host)
    en_event *en_event_at(en_host *host, uint32_t index)
    void en_events_done(en_host *host)
    en_peer *en_connect(en_host *host, uint64_t now, const tudp_sockaddr *to, uint32_t channels, uint32_t data)
    int en_send(en_host *host, en_peer *peer, en_block *payload, uint8_t channel, uint8_t delivery, int fragment)
    en_block *en_payload(en_host *host, const uint8_t *data, uint32_t len)
    void en_payload_drop(en_host *host, en_block *payload)
    void en_close(en_host *host, en_peer *peer, int how, uint32_t code, en_word word)
    uint64_t en_peer_save(en_host *host, en_peer *peer, uint8_t *out, uint64_t room)
    en_peer *en_peer_load(en_host *host, uint64_t now, const uint8_t *data, uint64_t len)
    void en_peer_forget(en_host *host, en_peer *peer)
    int en_ban(en_host *host, const uint8_t *ip, uint64_t until)
    const en_totals *en_host_totals(const en_host *host)
    uint32_t en_host_peers(const en_host *host)
    uint32_t en_host_half_open(const en_host *host)
    uint64_t en_host_memory(const en_host *host)
    ctypedef struct en_peer_view:
        uint32_t rtt, rtt_variance, rtt_min, jitter_max, loss, loss_variance, throttle, mtu, window, channels
        uint32_t in_flight_bytes, in_flight_commands, queued_reliable, queued_unreliable, queued_bytes
        uint32_t queue_age, oldest_unacked, fragments_open, fragment_bytes, waiting_bytes
        uint32_t idle, connected, user_data, max_unreliable
        uint16_t our_id, their_id
        uint8_t state, checksum, compress
        uint8_t connect_id[4]
        tudp_sockaddr address
        tudp_key key
        en_peer_stats stats
    void en_peer_look(const en_host *host, const en_peer *peer, en_peer_view *out)
    void *en_peer_user(const en_peer *peer)
    void en_peer_set_user(en_peer *peer, void *user)
    int en_peer_state(const en_peer *peer)

cdef extern from "enet_loose.h" nogil:
    ctypedef struct en_loose:
        tudp_turn turn
        uint64_t counters[48]
    void en_loose_init(en_loose *loose, void (*out)(void *ctx, const uint8_t *data, uint32_t len,
                                                    const tudp_sockaddr *to) noexcept with gil, void *ctx)
    tudp_turn *en_loose_turn(en_loose *loose, uint64_t now)


WORDS = ("left", "timeout", "kicked", "banned", "slow", "flood", "hoarding", "too_big", "malformed", "replaced",
         "refused", "full", "stopping")
"""Why a connection ended; the order is that of `en_word`."""

cdef dict WORD_NUMBERS = {word: number for number, word in enumerate(WORDS)}
cdef dict VERDICTS = {0: "passed", 1: "answered", 2: "held"}
cdef object make_tuple = tuple.__new__


cdef object address_of(const tudp_key *key):
    cdef char text[64]
    cdef char name[32]
    if memcmp(key.ip, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        inet_ntop(AF_INET, key.ip + 12, text, sizeof(text))
        return make_tuple(Address, ((<bytes>text).decode("ascii"), key.port))
    inet_ntop(AF_INET6, key.ip, text, sizeof(text))
    host = (<bytes>text).decode("ascii")
    if key.scope:
        known = if_indextoname(key.scope, name) != NULL
        host = f"{host}%{(<bytes>name).decode('ascii', 'replace') if known else key.scope}"
    return make_tuple(Address, (host, key.port))


cdef int read_address(object address, tudp_sockaddr *out) except -1:
    host, port = address
    raw = (<str>host).encode("ascii")
    memset(out, 0, sizeof(out[0]))
    if inet_pton(AF_INET, raw, &out.in4.sin_addr) == 1:
        out.in4.sin_family = AF_INET
        out.in4.sin_port = htons(port)
        return 0
    memset(out, 0, sizeof(out[0]))
    literal, _, scope = raw.partition(b"%")
    if inet_pton(AF_INET6, literal, out.in6.sin6_addr.s6_addr) != 1:
        raise ValueError(f"an ENet peer is found at an IP address, found {host!r}. Fix: Address.resolve(name, port)")
    out.in6.sin6_family = AF_INET6
    out.in6.sin6_port = htons(port)
    if scope:
        out.in6.sin6_scope_id = int(scope) if scope.isdigit() else if_nametoindex(scope)
    return 0


cdef enum:
    STAGED = 2  # in a turn of an endpoint; 1: of a host that is driven by hand


cdef struct native_stage:
    tudp_stage stage  # first: the endpoint hands this pointer back
    en_host *host
    void *owner       # the Host, borrowed
    int in_turn
    tudp_turn *turn


cdef int stage_attach(tudp_stage *stage, tudp_turn *turn) noexcept nogil:
    if en_host_config((<native_stage *>stage).host).accept:
        turn.ops.strangers(turn, EN_NO_ID, EN_NO_ID)  # a CONNECT: the only datagram to no peer's id
    return 0


cdef int stage_take(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot) noexcept nogil:
    cdef native_stage *s = <native_stage *>stage
    s.in_turn = STAGED
    s.turn = turn
    cdef int verdict = en_take(s.host, turn, slot.data, slot.len, &slot.from_, &slot.local)
    stage.held = en_event_count(s.host)
    return verdict


cdef void stage_due(tudp_stage *stage, tudp_turn *turn) noexcept nogil:
    cdef native_stage *s = <native_stage *>stage
    s.in_turn = STAGED
    s.turn = turn
    en_due(s.host, turn)
    stage.held = en_event_count(s.host)


cdef void stage_deliver(tudp_stage *stage, tudp_turn *turn) noexcept with gil:
    cdef native_stage *s = <native_stage *>stage
    s.in_turn = STAGED
    s.turn = turn
    (<Host>s.owner).dispatch(turn.counters)
    stage.held = 0


cdef void stage_flush(tudp_stage *stage, tudp_turn *turn) noexcept nogil:
    cdef native_stage *s = <native_stage *>stage
    en_flush(s.host, turn)
    s.in_turn = 0


cdef uint64_t stage_deadline(tudp_stage *stage) noexcept nogil:
    return 0 if stage.held else en_deadline((<native_stage *>stage).host)


cdef void loose_out(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to) noexcept with gil:
    cdef tudp_key key
    tudp_key_of(to, &key)
    (<list>ctx).append((PyBytes_FromStringAndSize(<const char *>data, len), address_of(&key)))


cdef class Message:
    """One message, good for the length of its handler; `data` is yours."""

    cdef readonly bytes data
    cdef readonly int channel
    cdef readonly object delivery
    cdef readonly double now

    def __init__(self, bytes data, int channel, object delivery, double now):
        self.data, self.channel, self.delivery, self.now = data, channel, delivery, now

    @property
    def text(self):
        """The data as UTF-8; what is none becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")

    def __repr__(self):
        return f"<Message {len(self.data)} bytes on channel {self.channel}, {self.delivery.name}>"


cdef class Peer:
    """The native half of a peer: what is called per message. See `peers.peer.Peer`."""

    cdef en_peer *peer
    cdef Host host
    cdef readonly long id
    cdef readonly double joined_at
    cdef readonly uint32_t user_data
    cdef public object address
    cdef public object leave, token
    cdef bint closing
    cdef dict _data
    cdef object __weakref__

    def send(self, data, int channel=0, int delivery=0, bint fragment=False):
        """Queue a message; see `Peer.send` in peers/peer.py."""
        return self.host.send_to(self, data, channel, delivery, fragment)

    @property
    def open(self):
        """Whether messages can still be sent."""
        return self.peer != NULL and not self.closing and en_peer_state(self.peer) == EN_CONNECTED

    @property
    def now(self):
        """The time of the turn, monotonic seconds."""
        return self.host.seconds()

    @property
    def data(self):
        """A dict for whatever belongs to this peer, made when first used."""
        if self._data is None:
            self._data = {}
        return self._data

    def __getitem__(self, key):
        if self._data is None:
            raise KeyError(key)
        return self._data[key]

    def __setitem__(self, key, value):
        if self._data is None:
            self._data = {}
        self._data[key] = value

    def __delitem__(self, key):
        if self._data is None:
            raise KeyError(key)
        del self._data[key]

    def __contains__(self, key):
        return self._data is not None and key in self._data

    def get(self, key, default=None):
        """`peer[key]`, or `default`."""
        return default if self._data is None else self._data.get(key, default)

    def close(self, int how, uint32_t code, str word):
        """End the connection: 0 at once, 1 acknowledged, 2 after what is queued has arrived."""
        if self.peer == NULL or self.closing:
            return
        self.closing = True
        en_close(self.host.stage.host, self.peer, how, code, WORD_NUMBERS[word])
        self.host.asked()

    def take_over(self, Peer other not None):
        """Become the peer of another's connection; `other` has none from now on."""
        if other.peer == NULL or other.host is not self.host:
            raise ValueError(f"{other!r} has no connection that could be taken over")
        if self.peer != NULL:  # still connected: that connection goes without a word to anybody
            en_peer_set_user(self.peer, NULL)
            en_close(self.host.stage.host, self.peer, 0, 0xFFFFFF0A, WORD_NUMBERS["replaced"])
        self.peer, other.peer = other.peer, NULL
        other.closing, self.closing = True, False
        en_peer_set_user(self.peer, <void *>self)
        self.address, self.leave = other.address, None
        self.host.peers.pop(other.id, None)
        self.host.peers[self.id] = self

    def view(self):
        """Everything the wire knows of this peer, as a dict; None when it has gone."""
        cdef en_peer_view v
        if self.peer == NULL:
            return None
        en_peer_look(self.host.stage.host, self.peer, &v)
        s = v.stats
        return dict(
            rtt=v.rtt, rtt_variance=v.rtt_variance, rtt_min=v.rtt_min, jitter_max=v.jitter_max,
            loss=v.loss / 65536, loss_variance=v.loss_variance / 65536, throttle=v.throttle, mtu=v.mtu,
            window=v.window, in_flight_bytes=v.in_flight_bytes, in_flight_commands=v.in_flight_commands,
            queued_reliable=v.queued_reliable, queued_unreliable=v.queued_unreliable, queue_age_ms=v.queue_age,
            oldest_unacked_ms=v.oldest_unacked, datagrams_in=s.datagrams_in, datagrams_out=s.datagrams_out,
            bytes_in=s.bytes_in, bytes_out=s.bytes_out, messages_in=[s.messages_in[i] for i in range(3)],
            messages_out=[s.messages_out[i] for i in range(3)], resent=s.resent, given_up=s.given_up,
            duplicates=s.duplicates, old_numbers=s.old_numbers, out_of_order=s.out_of_order,
            dropped_throttle=s.dropped_throttle, dropped_queue=s.dropped_queue, dropped_limited=s.dropped_limited,
            queued_bytes=v.queued_bytes, fragments_open=v.fragments_open, fragment_bytes=v.fragment_bytes,
            waiting_bytes=v.waiting_bytes,
            compressed_in=s.compressed_in, compressed_out=s.compressed_out,
            ratio=s.coded_out / s.plain_out if s.plain_out else 1.0, malformed=s.malformed, idle_ms=v.idle,
            connected_s=v.connected / 1000, channels=v.channels, max_unreliable=v.max_unreliable,
            our_id=v.our_id, their_id=v.their_id, checksum=bool(v.checksum), compress=bool(v.compress),
            connect_id=(<const uint8_t *>v.connect_id)[:4],
        )

    @property
    def max_unreliable(self):
        """Bytes that an unreliable message holds unless it is cut."""
        cdef en_peer_view v
        if self.peer == NULL:
            return 0
        en_peer_look(self.host.stage.host, self.peer, &v)
        return v.max_unreliable

    @property
    def channels(self):
        """Channels of this connection."""
        cdef en_peer_view v
        if self.peer == NULL:
            return 0
        en_peer_look(self.host.stage.host, self.peer, &v)
        return v.channels


cdef class Host:
    """An ENet host. `config` are the fields of `en_config`; `secret` is 16 random bytes.

    `joined(peer)`, `received(peer, message)` and `left(peer, word, code, by_peer, seconds)` are called as
    things happen; `failed(peer, error)` takes what they raise. `received` that is None collects events instead.
    `peer_class` is a subclass of `Peer`; `deliveries` the three members of Delivery; `encode` turns what is
    neither bytes nor text into bytes; `wake` asks for a turn.
    """

    cdef native_stage stage
    cdef en_loose loose
    cdef list _outgoing
    cdef list _events
    cdef readonly dict peers
    cdef dict opening  # connections of ours that have no answer yet
    cdef public object joined, received, left, failed, encode, wake
    cdef object peer_class
    cdef tuple deliveries
    cdef long next_id
    cdef uint64_t loose_now
    cdef bint woken, dispatching
    cdef uint64_t last_now
    cdef Message spare
    cdef readonly uint64_t messages_failed

    def __cinit__(self, *, bytes secret not None, type peer_class, tuple deliveries, long first_id=1, **config):
        cdef en_config c
        en_config_default(&c)
        if len(secret) != 16:
            raise ValueError(f"the secret of an ENet host is 16 bytes, found {len(secret)}")
        memcpy(c.secret, <const char *>secret, 16)
        for name, value in config.items():
            self.configure(&c, name, value)
        self._outgoing, self._events, self.peers, self.opening = [], [], {}, {}
        self.peer_class, self.deliveries, self.next_id = peer_class, deliveries, first_id
        self.stage.host = en_host_new(&c)
        if self.stage.host == NULL:
            raise MemoryError("no memory for an ENet host")
        self.stage.owner = <void *>self
        cdef tudp_stage *s = &self.stage.stage
        s.abi = TUDP_ABI
        s.name = "enet"
        s.self = <void *>self
        s.attach = stage_attach
        s.take = stage_take
        s.due = stage_due
        s.deliver = stage_deliver
        s.flush = stage_flush
        s.deadline = stage_deadline
        en_loose_init(&self.loose, loose_out, <void *>self._outgoing)

    def __dealloc__(self):
        en_host_free(self.stage.host)

    cdef int configure(self, en_config *c, str name, object value) except -1:
        if name == "memory": c.memory = value
        elif name == "reassembly_bytes": c.reassembly_bytes = value
        elif name == "max_peers": c.max_peers = value
        elif name == "per_prefix": c.per_prefix = value
        elif name == "channels": c.channels = value
        elif name == "mtu": c.mtu = value
        elif name == "max_message": c.max_message = value
        elif name == "max_fragments": c.max_fragments = value
        elif name == "max_groups": c.max_groups = value
        elif name == "group_bytes": c.group_bytes = value
        elif name == "max_waiting": c.max_waiting = value
        elif name == "waiting_bytes": c.waiting_bytes = value
        elif name == "queue_bytes": c.queue_bytes = value
        elif name == "queue_age": c.queue_age = value
        elif name == "max_acks": c.max_acks = value
        elif name == "rate": c.rate = value
        elif name == "byte_rate": c.byte_rate = value
        elif name == "max_malformed": c.max_malformed = value
        elif name == "ping": c.ping = value
        elif name == "clock": c.clock = value
        elif name == "checksum": c.checksum = value
        elif name == "compress": c.compress = value
        elif name == "accept": c.accept = value
        elif name == "silent": c.silent = value
        elif name == "limit_loopback": c.limit_loopback = value
        else: raise TypeError(f"an ENet host has no setting {name!r}")
        return 0

    def __tudp_stage__(self):
        return PyCapsule_New(&self.stage.stage, TUDP_CAPSULE, NULL)

    def adopt(self, Host other not None):
        """Go on with the limits and the class of peers of `other`, a host that has served nobody yet.

        `TypeError` when peers of this one cannot become peers of that class.
        """
        for peer in self.peers.values():
            peer.__class__ = other.peer_class
        self.peer_class = other.peer_class
        en_host_limits(self.stage.host, en_host_config(other.stage.host))

    def give(self, Peer peer not None):
        """The connection of a peer as bytes for another process, which this host forgets without a word to anybody.

        None when it cannot be carried. Between turns only.
        """
        if peer.peer == NULL or peer.host is not self:
            return None
        cdef uint64_t size = en_peer_save(self.stage.host, peer.peer, NULL, 0)
        if size == 0:
            return None
        data = PyBytes_FromStringAndSize(NULL, size)
        en_peer_save(self.stage.host, peer.peer, <uint8_t *>PyBytes_AS_STRING(data), size)
        en_peer_set_user(peer.peer, NULL)
        en_peer_forget(self.stage.host, peer.peer)
        peer.peer, peer.closing = NULL, True
        self.peers.pop(peer.id, None)
        return data

    def take(self, const uint8_t[::1] data not None, uint64_t now, long id, double joined_at, uint32_t user_data):
        """A peer from what `give` of another process made, under the id it had there; None: it cannot be one here."""
        if data.shape[0] == 0 or id in self.peers:
            return None
        cdef en_peer *at = en_peer_load(self.stage.host, now, &data[0], data.shape[0])
        if at == NULL:
            return None
        cdef Peer peer = self.new_peer(at)
        self.next_id = max(self.next_id - 1, id + 1)
        peer.id, peer.joined_at, peer.user_data = id, joined_at, user_data
        self.peers[id] = peer
        return peer

    # ---- events ----

    cdef double seconds(self):
        return (self.stage.turn.now if self.stage.turn != NULL else self.loose.turn.now) / 1e9

    cdef int asked(self) except -1:
        """Something waits to be sent or told: ask for a turn, once."""
        if en_event_count(self.stage.host) and not self.dispatching:
            self.stage.stage.held = 1
        if not self.stage.in_turn and self.wake is not None:
            self.wake()
        return 0

    cdef void dispatch(self, uint64_t *counters) noexcept:
        """Hand every event to its callable. Handlers may add events while this runs."""
        cdef uint32_t i = 0
        cdef en_event e
        cdef bint failed = False
        cdef int word
        if self.dispatching:
            return
        self.dispatching = True
        while i < en_event_count(self.stage.host):
            e = en_event_at(self.stage.host, i)[0]
            i += 1
            try:
                if e.kind == EN_EVENT_MESSAGE:
                    self.on_message(&e)
                elif e.kind == EN_EVENT_JOIN:
                    self.on_join(&e)
                else:
                    self.on_leave(&e)
            except BaseException as error:
                failed = True
                self.messages_failed += 1
                self.report(&e, error)
            if e.ends and counters != NULL:
                word = TUDP_LIMITED if e.ends == 2 else TUDP_HANDLER_FAILED if failed else TUDP_HANDLED
                counters[word] += 1
                failed = False
        en_events_done(self.stage.host)
        self.stage.stage.held = 0
        self.dispatching = False

    cdef void report(self, en_event *e, object error) noexcept:
        cdef void *user = en_peer_user(e.peer)
        try:
            if self.failed is not None:
                self.failed(<object>user if user != NULL else None, error)
        except BaseException:
            pass  # nobody is left to tell

    cdef int on_message(self, en_event *e) except -1:
        cdef void *user = en_peer_user(e.peer)
        cdef Message m
        cdef Peer peer
        if user == NULL:
            return 0
        peer = <Peer>user
        if peer.closing:
            return 0
        m = self.spare
        if m is None:
            m = Message.__new__(Message)
        else:
            self.spare = None
        m.data = PyBytes_FromStringAndSize(<const char *>e.data, e.length)
        m.channel = e.channel
        m.delivery = self.deliveries[e.delivery]
        m.now = self.seconds()
        if self.received is None:
            self._events.append(("message", peer, m))
            return 0
        try:
            self.received(peer, m)
        finally:
            if Py_REFCNT(m) == 1:
                m.data = None
                self.spare = m
        return 0

    cdef int on_join(self, en_event *e) except -1:
        cdef void *user = en_peer_user(e.peer)
        cdef Peer peer
        if user != NULL:  # a client's: made when it was opened
            peer = <Peer>user
            self.opening.pop(peer.id, None)
        else:
            if en_peer_state(e.peer) == EN_GONE:
                return 0
            peer = self.new_peer(e.peer)
            peer.user_data = e.code
        peer.joined_at = self.seconds()
        self.peers[peer.id] = peer
        if self.received is None:
            self._events.append(("join", peer, e.code))
        else:
            self.joined(peer)
        return 0

    cdef int on_leave(self, en_event *e) except -1:
        cdef void *user = en_peer_user(e.peer)
        cdef Peer peer
        if user == NULL:
            return 0
        peer = <Peer>user
        en_peer_set_user(e.peer, NULL)
        peer.leave = (WORDS[e.word], e.code, bool(e.by_peer))
        peer.closing = True
        seconds = self.seconds() - peer.joined_at
        peer.peer = NULL
        self.peers.pop(peer.id, None)
        self.opening.pop(peer.id, None)
        if self.received is None:
            self._events.append(("leave", peer, (WORDS[e.word], e.code, bool(e.by_peer), seconds)))
        elif self.left is not None:
            self.left(peer, WORDS[e.word], e.code, bool(e.by_peer), seconds)
        return 0

    cdef Peer new_peer(self, en_peer *at):
        cdef en_peer_view v
        cdef Peer peer = self.peer_class.__new__(self.peer_class)
        peer.peer = at
        peer.host = self
        peer.id = self.next_id
        self.next_id += 1
        en_peer_look(self.stage.host, at, &v)
        peer.address = address_of(&v.key)
        en_peer_set_user(at, <void *>peer)
        return peer

    def new_id(self):
        """An id for a peer of another transport of the same game."""
        self.next_id += 1
        return self.next_id - 1

    # ---- sending ----

    cdef en_block *payload(self, object data) except NULL:
        """A block with the bytes of `data`."""
        cdef en_block *block
        cdef Py_buffer view
        if not PyBytes_CheckExact(data):
            if isinstance(data, str):
                data = (<str>data).encode()
            elif self.encode is not None and not isinstance(data, (bytes, bytearray, memoryview)):
                data = self.encode(data)
        if PyBytes_CheckExact(data):
            block = en_payload(self.stage.host, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        else:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            block = en_payload(self.stage.host, <const uint8_t *>view.buf, view.len)
            PyBuffer_Release(&view)
        if block == NULL:
            raise MemoryError("no memory for a message")
        return block

    cdef object sent(self, int done, en_peer *peer, en_block *block, int channel):
        cdef en_peer_view v
        if done > 0:
            return True
        if done == EN_TOO_LONG:
            en_peer_look(self.stage.host, peer, &v)
            raise TooLong(f"a message of {block.size:,} bytes is too long. Unreliable ones hold {v.max_unreliable:,}; "
                          f"send it RELIABLE, or SEQUENCED with fragment=True, up to max_message of the game")
        if done == EN_BAD_CHANNEL:
            en_peer_look(self.stage.host, peer, &v)
            raise ValueError(f"channel {channel} is not open: this peer asked for {v.channels}, numbered from 0")
        if done == EN_NO_MEMORY:
            raise MemoryError("no memory for a message")
        return False

    cdef object send_to(self, Peer to, object data, int channel, int delivery, bint fragment):
        cdef int done
        cdef en_block *block
        if to.peer == NULL or to.closing:
            return False
        if delivery < 0 or delivery > 2:
            raise ValueError(f"delivery is RELIABLE, SEQUENCED or UNSEQUENCED, found {delivery}")
        block = self.payload(data)
        done = en_send(self.stage.host, to.peer, block, channel if 0 <= channel <= 255 else 255, delivery, fragment)
        try:
            return self.sent(done, to.peer, block, channel)
        finally:
            en_payload_drop(self.stage.host, block)
            if not self.stage.in_turn:
                self.asked()

    def broadcast(self, peers, data, int channel=0, int delivery=0, bint fragment=False, exclude=()):
        """Send one message to many: encoded once, the payload shared. Returns how many queued it.

        Peers that are not of this host, that have left, or that did not open the channel are passed over.
        """
        cdef en_block *block
        cdef Peer peer
        cdef long queued = 0
        if delivery < 0 or delivery > 2:
            raise ValueError(f"delivery is RELIABLE, SEQUENCED or UNSEQUENCED, found {delivery}")
        if not 0 <= channel < 255:
            raise ValueError(f"channel {channel} is not one of 0..254")
        block = self.payload(data)
        try:
            for one in peers:
                if not isinstance(one, Peer):
                    continue
                peer = <Peer>one
                if peer.peer == NULL or peer.closing or peer.host is not self or (exclude and peer in exclude):
                    continue
                done = en_send(self.stage.host, peer.peer, block, channel, delivery, fragment)
                if done == EN_TOO_LONG:
                    self.sent(done, peer.peer, block, channel)
                queued += done > 0
        finally:
            en_payload_drop(self.stage.host, block)
            if not self.stage.in_turn:
                self.asked()
        return queued

    def connect(self, address, uint32_t channels=2, uint32_t data=0, *, uint64_t now):
        """Open a connection as a client at `now` (ns). The peer joins when the server has answered."""
        cdef tudp_sockaddr to
        read_address(address, &to)
        cdef en_peer *at = en_connect(self.stage.host, now, &to, channels, data)
        if at == NULL:
            raise MemoryError("no memory or no peer id left for a connection")
        peer = self.new_peer(at)
        peer.user_data = data
        self.opening[peer.id] = peer
        self.asked()
        return peer

    def ban(self, host, uint64_t until):
        """Drop and refuse what comes from this IP until `until` (ns); 0 lifts it."""
        cdef tudp_sockaddr address
        cdef tudp_key key
        read_address((host, 0), &address)
        tudp_key_of(&address, &key)
        if en_ban(self.stage.host, key.ip, until):
            raise MemoryError("no memory for a ban")

    # ---- sans-io ----

    def receive(self, uint64_t now, address, const uint8_t[::1] data not None):
        """One datagram at `now` (ns). Returns "answered", "held", "passed" or the word it was dropped under."""
        cdef tudp_sockaddr source
        read_address(address, &source)
        cdef tudp_turn *turn = en_loose_turn(&self.loose, now)
        cdef uint32_t n = data.shape[0]
        self.stage.in_turn = 1
        cdef int verdict = en_take(self.stage.host, turn, &data[0] if n else NULL, n, &source, NULL)
        self.dispatch(self.loose.counters)
        self.stage.in_turn = 0
        if verdict >= 0:
            return VERDICTS[verdict]
        from ..counters import WORDS as words
        return words[-verdict]

    def advance(self, uint64_t now):
        """Run the timers that are due at `now` (ns)."""
        cdef tudp_turn *turn = en_loose_turn(&self.loose, now)
        self.stage.in_turn = 1
        if en_deadline(self.stage.host) <= now:
            en_due(self.stage.host, turn)
        self.dispatch(self.loose.counters)
        self.stage.in_turn = 0

    def wired(self, int fd, address):
        """This host on a socket that is connected to `address`; see `Wired`."""
        return Wired(self, fd, address)

    def flush(self):
        """Send what is queued, in the midst of an endpoint's turn. False, and nothing is sent, outside of one."""
        cdef tudp_turn *turn = self.stage.turn
        if self.stage.in_turn != STAGED:
            return False
        with nogil:
            en_flush(self.stage.host, turn)
            turn.ops.drain(turn)
        return True

    def outgoing(self):
        """Every datagram that is to leave, as (data, address)."""
        en_flush(self.stage.host, &self.loose.turn)
        out = self._outgoing[:]
        self._outgoing.clear()
        return out

    def events(self):
        """What has happened, when no callables take it: ("join", peer, data), ("message", peer, Message),
        ("leave", peer, (word, code, by_peer, seconds))."""
        events = self._events[:]
        self._events.clear()
        return events

    def deadline(self):
        """When `advance` is wanted next, in ns; None: never."""
        cdef uint64_t at = stage_deadline(&self.stage.stage)
        return None if at == TUDP_NEVER else at

    # ---- looking ----

    @property
    def totals(self):
        """Counts of the whole host, by name."""
        return {k: v for k, v in (<dict>en_host_totals(self.stage.host)[0]).items()}

    @property
    def half_open(self):
        """Addresses that asked to connect and have not proven that they receive."""
        return en_host_half_open(self.stage.host)

    @property
    def memory(self):
        """Bytes that peers, queues and waiting messages hold."""
        return en_host_memory(self.stage.host)
