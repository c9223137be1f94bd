# The native stage. Included by dns.pyx.

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "dns_stage.h" nogil:
    enum:
        DNS_FROM_ZONE, DNS_FROM_CACHE, DNS_FROM_PYTHON, DNS_FROM_POLICY, DNS_FROM_SERVER, DNS_FROM_FORWARD, DNS_SOURCES, DNS_VIEWS, DNS_LISTINGS, DNS_FORWARDS, DNS_SHARED
        DNS_MAY_QUERY, DNS_MAY_RECURSE, DNS_TRUSTED, DNS_SILENT, DNS_PROXY
    ctypedef struct dns_range:
        uint8_t start "from"[16]
        uint32_t value
    ctypedef struct dns_listing:
        dns_rules *rules
        uint16_t ede
        uint8_t action, ends
    ctypedef struct dns_view:
        const dns_zones *zones
        dns_cache *cache
        dns_listing list[32]
        uint32_t lists, forwards
        dns_forward *forward[8]
        const dns_rules *python
        dns_cache *shared
        const uint8_t *sharing
        uint16_t id
        uint8_t recursive, final, closed, note_blocked, zones_first, whole_any, generous
    ctypedef struct dns_log_entry:
        uint64_t wall, waited
        uint8_t ip[16]
        uint16_t port, qtype, qclass, flags, rcode, ede, upstream
        uint8_t ip_len, transport, source, dnssec_ok, name_len
        uint8_t name[255]
    ctypedef struct dns_log:
        uint32_t mask, share, random
        uint64_t head, tail, lost
        dns_log_entry entry[1]
    ctypedef struct dns_tap:
        uint64_t head, tail, lost
        uint32_t mask, share, random
    ctypedef struct dns_prefetch:
        uint16_t len
        uint8_t octets[286]
    ctypedef struct dns_stage:
        tudp_stage stage
        dns_server server
        void *owner
        dns_rrl *rrl
        uint32_t weight
        dns_log *log
        dns_tap *tap
        uint64_t waited
        uint32_t ranges
        dns_range *range
        uint32_t views
        dns_view view[64]
        uint32_t forwards
        dns_forward *forward[8]
        uint64_t answers[6][32]
        uint64_t transports[2]
        uint64_t passed, limited, slipped
        uint8_t limited_ip[16]
        uint8_t limited_len
        uint64_t queries[4][16]
        uint64_t cookies[5]
        uint32_t prefetches
        dns_prefetch prefetch[64]
    ctypedef struct dns_notes:
        dns_client client
        uint32_t meaning
        uint16_t verified, python
        dns_query q
    void dns_stage_init(dns_stage *s)
    int dns_stage_take(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot)
    int dns_stage_take_proxied(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot)
    int dns_stage_asks(dns_stage *s, dns_forward *f)
    dns_notes *dns_stage_notes(const dns_stage *s, const tudp_slot *slot)
    int dns_stage_answer(dns_stage *s, const uint8_t *msg, size_t len, dns_client *client, const uint8_t *ip,
                         uint64_t now, uint64_t wall, uint8_t *out, dns_notes *notes, dns_query *q)
    void dns_stage_notes_to(dns_stage *s, dns_log *log, dns_tap *tap)
    void dns_tap_name(dns_tap *t, const uint8_t *identity, size_t identity_len, const uint8_t *version, size_t version_len)
    void dns_tap_answer(dns_tap *t, const dns_client *client, const uint8_t *query, size_t query_len,
                        const uint8_t *reply, size_t reply_len, uint64_t asked, uint64_t said)
    size_t dns_tap_waiting(const dns_tap *t)
    void dns_tap_take(dns_tap *t, uint8_t *out, size_t n)
    void dns_log_note(dns_log *log, const dns_client *client, const dns_query *q, uint64_t wall, uint64_t waited,
                      unsigned source, unsigned rcode, unsigned ede, unsigned upstream)

cdef extern from *:
    """
    #define TU_LOAD(p) __atomic_load_n(&(p), __ATOMIC_ACQUIRE)
    #define TU_STORE(p, v) __atomic_store_n(&(p), v, __ATOMIC_RELEASE)
    """
    uint64_t TU_LOAD(uint64_t)
    void TU_STORE(uint64_t, uint64_t)

MAY_QUERY, MAY_RECURSE, TRUSTED, SILENT = DNS_MAY_QUERY, DNS_MAY_RECURSE, DNS_TRUSTED, DNS_SILENT
PROXY = DNS_PROXY
SHARED = DNS_SHARED


cdef class Stage


cdef void deliver_prefetches(tudp_stage *stage, tudp_turn *turn) noexcept with gil:
    cdef dns_stage *s = <dns_stage *>stage.self
    cdef Stage self = <Stage>s.owner
    cdef uint32_t i, n = s.prefetches
    s.prefetches = 0
    stage.held = 0
    for i in range(n):
        try:
            if self.prefetch is not None:
                self.prefetch(PyBytes_FromStringAndSize(<char *>s.prefetch[i].octets, s.prefetch[i].len))
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
    for i in range(s.forwards):
        try:
            deliver_handed(self, s.forward[i], i)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)


cdef class Log:
    """A ring of answers that the stage fills and one thread empties: the query log (spec O5).

    `share` of all answers are written, 0 to 1; `entries` fit, and those that come
    while the ring is full are counted in `lost`.
    """

    cdef dns_log *l

    def __cinit__(self, double share=1.0, *, entries=4096):
        if not 0 <= share <= 1 or entries < 1 or entries & (entries - 1):
            raise ValueError(f"share {share}, entries {entries}: expected 0 to 1, and a power of 2.")
        self.l = <dns_log *>calloc(1, sizeof(dns_log) + entries * sizeof(dns_log_entry))
        if self.l == NULL:
            raise MemoryError
        self.l.mask = entries - 1
        self.l.share = 0xFFFFFFFF if share == 1 else <uint32_t>(share * 0xFFFFFFFF)
        self.l.random = int.from_bytes(os.urandom(4), "big") | 1

    def __dealloc__(self):
        free(self.l)

    @property
    def lost(self):
        return TU_LOAD(self.l.lost)

    def take(self, int most=1000):
        """Up to `most` answers since the last call: `(wall, seconds waited, ip, port, transport, name, type, class,
        flags, DO, rcode, ede, source, upstream)`, the name folded and in wire form, the upstream numbered from 1,
        UPSTREAMS to a forwarder (0: nobody was asked). One thread only."""
        cdef uint64_t tail = self.l.tail, head = TU_LOAD(self.l.head)
        cdef dns_log_entry *e
        found = []
        while tail != head and len(found) < most:
            e = &self.l.entry[tail & self.l.mask]
            found.append((
                e.wall / 1e9, e.waited / 1e9, PyBytes_FromStringAndSize(<char *>e.ip, e.ip_len), e.port, e.transport,
                PyBytes_FromStringAndSize(<char *>e.name, e.name_len), e.qtype, e.qclass, e.flags, bool(e.dnssec_ok),
                e.rcode, None if e.ede == 0xFFFF else e.ede, SOURCES[e.source], e.upstream,
            ))
            tail += 1
        TU_STORE(self.l.tail, tail)
        return found


cdef class Tap:
    """A ring of dnstap frames that the stage fills and one thread empties (spec O5).

    `share` of all answers are written, 0 to 1; `octets` fit, and frames that come while the
    ring is full are counted in `lost`. `identity` and `version` are said in every frame.
    """

    cdef dns_tap *t

    def __cinit__(self, double share=1.0, *, bytes identity=b"", bytes version=b"", octets=1 << 22):
        if not 0 <= share <= 1 or octets < 1 or octets & (octets - 1):
            raise ValueError(f"share {share}, octets {octets}: expected 0 to 1, and a power of 2.")
        self.t = <dns_tap *>calloc(1, sizeof(dns_tap) + octets)
        if self.t == NULL:
            raise MemoryError
        self.t.mask = octets - 1
        self.t.share = 0xFFFFFFFF if share == 1 else <uint32_t>(share * 0xFFFFFFFF)
        self.t.random = int.from_bytes(os.urandom(4), "big") | 1
        dns_tap_name(self.t, <const uint8_t *>PyBytes_AS_STRING(identity), len(identity),
                     <const uint8_t *>PyBytes_AS_STRING(version), len(version))

    def __dealloc__(self):
        free(self.t)

    @property
    def lost(self):
        return TU_LOAD(self.t.lost)

    def take(self):
        """All frames since the last call, each behind its length, as they go over a Frame Streams connection. One thread only."""
        cdef size_t n = dns_tap_waiting(self.t)
        found = PyBytes_FromStringAndSize(NULL, n)
        dns_tap_take(self.t, <uint8_t *>PyBytes_AS_STRING(found), n)
        return found


SOURCES = ("zone", "cache", "python", "policy", "server", "forward")


cdef class Stage:
    """What C answers alone: errors, ids, lists, zones, fresh cache entries (spec 4.4). The rest it passes on.

    Clients fall into ranges of addresses: `ranges` are `(first packed 16-octet address, meaning)`,
    sorted, the first at ::; a meaning is a view's number plus MAY_QUERY, MAY_RECURSE, TRUSTED
    (no rate limit), SILENT (who may not query is dropped), PROXY (it says in front of each message for
    whom it asks). Everything is set between turns, on the loop's thread.
    """

    cdef dns_stage s
    cdef Server server
    cdef RateLimit limit
    cdef Log log
    cdef Tap tap
    cdef dict kept
    cdef list asked
    cdef public object prefetch  # called with a question (bytes) that is worth asking again
    cdef public object handed    # called with (connection, number of the forwarder, why, number of the upstream) for what a forwarder gives back
    cdef bint proxied
    cdef public Endpoint endpoint  # whose stage this is; for `handed` and `upstream_ready`

    def __cinit__(self, Server server not None, ranges=None, RateLimit limit=None):
        dns_stage_init(&self.s)
        self.s.owner = <void *>self
        self.s.stage.deliver = deliver_prefetches
        self.kept = {}
        self.asked = []
        self.set_server(server)
        self.set_ranges(ranges or [(bytes(16), MAY_QUERY)])
        self.set_limit(limit)

    def __dealloc__(self):
        free(self.s.range)

    def __tudp_stage__(self):
        return PyCapsule_New(&self.s.stage, TUDP_CAPSULE, NULL)

    def set_server(self, Server server not None):
        """Take over the server's id, cookie secrets and limits (again, after `roll`)."""
        self.server = server
        self.s.server = server.s

    def set_limit(self, RateLimit limit, uint32_t weight=1):
        """The rate limit; a reply to a client that may not recurse counts `weight` times."""
        self.limit = limit
        self.s.rrl = &limit.l if limit is not None else NULL
        self.s.weight = weight

    def set_log(self, Log log, Tap tap=None):
        """Where answers are noted, or None; and where they go as dnstap frames, or None."""
        self.log, self.tap = log, tap
        dns_stage_notes_to(&self.s, log.l if log is not None else NULL, tap.t if tap is not None else NULL)

    def set_ranges(self, ranges):
        """Who may do what, and in which view."""
        cdef dns_range *made
        cdef uint32_t n = 0
        cdef bint proxied = False
        ranges = list(ranges)
        if not ranges or ranges[0][0] != bytes(16) or ranges != sorted(ranges, key=lambda r: r[0]):
            raise ValueError("ranges are sorted, and the first begins at ::.")
        made = <dns_range *>calloc(len(ranges), sizeof(dns_range))
        if made == NULL:
            raise MemoryError
        for first, meaning in ranges:
            memcpy(made[n].start, PyBytes_AS_STRING(first), 16)
            made[n].value = meaning
            proxied = proxied or meaning & DNS_PROXY
            n += 1
        free(self.s.range)
        self.s.range = made
        self.s.ranges = n
        self.proxied = proxied
        self.s.stage.take = dns_stage_take_proxied if proxied else dns_stage_take

    def add_forwarder(self, Forwarder forwarder not None):
        """A forwarder that views may ask; before the stage is attached, and for good."""
        if dns_stage_asks(&self.s, forwarder.f) < 0:
            raise ValueError(f"a stage has at most {DNS_FORWARDS} forwarders.")
        self.asked.append(forwarder)

    def upstream_ready(self):
        """Replies have come: read them now. For the loop, when a forwarder's descriptor is readable."""
        cdef uint32_t i
        for i in range(self.s.forwards):
            self.s.forward[i].ready = 1
        if self.endpoint is not None:
            self.endpoint.pulse()

    def set_view(self, int number, *, Zones zones=None, Cache cache=None, lists=(), Rules python=None,
                 int id=0, bint recursive=False, bint final=False, bint closed=False, bint note_blocked=False,
                 bint zones_first=False, Cache shared=None, bytearray sharing=None, bint whole_any=False,
                 bint generous=False, forwards=()):
        """What one group of clients is asked against, swapped in as a whole.

        `lists` are groups of `(rules, action, ede)`, one group for a blocklist: within a group an allow rule of any list
        wins; NXDOMAIN in a list means the group's `action`. They stand before the zones, or behind (`zones_first`).

        `forwards` are asked in their order for names of their zones that the cache does not know; None stands
        for one whose names are Python's.

        `python` are names (ASK_PYTHON rules, numbered by `list`) that Python answers first; `final`: nothing stands behind C, so that
        REFUSED is its to say; `closed`: Python sees every question; `note_blocked`: so it does every blocked one.

        `shared` holds answers of Python for all, put there under the view `id` + SHARED; `sharing` has an octet for each
        rule of `python`: 0, nothing of it is there (its size must not change). `whole_any`, `generous`: see dns_stage.h.
        """
        if not 0 <= number < DNS_VIEWS or not 0 <= id < DNS_CACHE_VIEWS:
            raise ValueError(f"view {number}, id {id}: expected below {DNS_VIEWS} and {DNS_CACHE_VIEWS}.")
        if zones is not None and memcmp(&zones.z.key, &self.s.server.key, sizeof(dns_key)):
            raise ValueError("the zones were built with another key than the server's.")
        cdef dns_view *view = &self.s.view[number]
        memset(view, 0, sizeof(dns_view))
        view.zones = zones.z if zones is not None else NULL
        view.cache = cache.c if cache is not None else NULL
        cdef Rules rules
        cdef uint32_t n = 0
        if sum(len(group) for group in lists) > DNS_LISTINGS:
            raise ValueError(f"at most {DNS_LISTINGS} lists fit in a view.")
        for group in lists:
            for rules, action, ede in group:
                view.list[n].rules, view.list[n].action, view.list[n].ede = rules.r, action, ede
                view.list[n].ends = 0
                n += 1
            if group:
                view.list[n - 1].ends = 1
        view.lists = n
        if len(forwards) > DNS_FORWARDS or any(one is not None and one not in self.asked for one in forwards):
            raise ValueError(f"a view asks at most {DNS_FORWARDS} forwarders, of its own stage.")
        for one in forwards:
            view.forward[view.forwards] = (<Forwarder>one).f if one is not None else NULL
            view.forwards += 1
        view.python = python.r if python is not None else NULL
        view.id, view.recursive, view.final, view.closed = id, recursive, final, closed
        view.note_blocked, view.zones_first = note_blocked, zones_first
        view.whole_any, view.generous = whole_any, generous
        if shared is not None and sharing is not None:
            view.shared, view.sharing = shared.c, <const uint8_t *>PyByteArray_AS_STRING(sharing)
        self.s.views = max(self.s.views, number + 1)
        self.kept[number] = (zones, cache, lists, python, shared, sharing)

    def answer(self, const uint8_t[::1] data not None, bytes ip=b"\x7f\0\0\1", *, double now=0, double wall=0,
               bint stream=False, bint encrypted=False, uint16_t idle=0, uint16_t port=0, uint8_t transport=0):
        """One message without a socket, also for streams: the reply, None to pass on, or the drop word's negative number."""
        cdef dns_notes notes
        cdef dns_query q
        cdef uint8_t address[16]
        memset(&notes, 0, 64)
        memset(address, 0, 16)
        notes.client.ip_len = len(ip)
        memcpy(notes.client.ip, PyBytes_AS_STRING(ip), len(ip))
        if len(ip) == 4:
            address[10] = address[11] = 0xff
            memcpy(address + 12, PyBytes_AS_STRING(ip), 4)
        elif len(ip) == 16:
            memcpy(address, PyBytes_AS_STRING(ip), 16)
        else:
            raise ValueError("ip is 4 or 16 octets.")
        notes.client.port, notes.client.transport = port, transport
        self.s.waited = 0
        notes.client.stream, notes.client.encrypted, notes.client.idle = stream, encrypted, idle
        notes.client.now = <uint32_t><uint64_t>wall
        cdef int n = dns_stage_answer(&self.s, &data[0] if data.shape[0] else NULL, data.shape[0], &notes.client,
                                      address, <uint64_t>(now * 1e9), <uint64_t>(wall * 1e9), answer_room, &notes, &q)
        if n > 0:
            self.s.transports[1 if stream else 0] += 1
            return PyBytes_FromStringAndSize(<char *>answer_room, n)
        return None if n == 0 else n

    @property
    def limited(self):
        """How often the rate limit held a reply back, and the packed address of the last client (b"": none yet)."""
        return self.s.limited, PyBytes_FromStringAndSize(<char *>self.s.limited_ip, self.s.limited_len)

    @property
    def counters(self):
        """Answers by rcode and by source, questions by opcode, and what was passed on or limited."""
        cdef dns_stage *s = &self.s
        cdef int source, rcode
        answers = {}
        rcodes = {}
        sources = dict.fromkeys(("zone", "cache", "policy", "server", "python", "forward"), 0)
        for source, name in ((DNS_FROM_ZONE, "zone"), (DNS_FROM_CACHE, "cache"), (DNS_FROM_POLICY, "policy"),
                             (DNS_FROM_SERVER, "server"), (DNS_FROM_PYTHON, "python"),
                             (DNS_FROM_FORWARD, "forward")):
            for rcode in range(32):
                if s.answers[source][rcode]:
                    answers[rcode, name] = s.answers[source][rcode]
                    rcodes[rcode] = rcodes.get(rcode, 0) + s.answers[source][rcode]
                    sources[name] += s.answers[source][rcode]
        return {
            "answers": answers, "rcodes": rcodes, "sources": sources,
            "transports": {"udp": s.transports[0], "tcp": s.transports[1]},
            "queries": {(name, i): s.queries[t][i] for t, name in enumerate(("udp", "tcp", "tls", "https"))
                        for i in range(16) if s.queries[t][i]},
            "cookies": {"client": s.cookies[1], "bad": s.cookies[2], "good": s.cookies[3] + s.cookies[4]},
            "passed": s.passed, "limited": s.limited, "slipped": s.slipped,
        }


cdef object client_address(const dns_client *client):
    """The address of who asks, which a proxy may have told."""
    family = socket.AF_INET if client.ip_len == 4 else socket.AF_INET6
    return Address(socket.inet_ntop(family, PyBytes_FromStringAndSize(<const char *>client.ip, client.ip_len)), client.port)


cdef int deliver_handed(Stage self, dns_forward *f, uint32_t which) except -1:
    """Questions that C gives back: each becomes a connection in flight."""
    cdef const dns_waiter *w = dns_forward_handed(f)
    cdef Endpoint endpoint = self.endpoint
    cdef Connection c
    while w != NULL:
        if endpoint is not None and self.handed is not None:
            c = endpoint.new_connection()
            c._packet = PyBytes_FromStringAndSize(<const char *>w.packet, w.len)
            c.peer, c.local, c.now_ns, c.bytes_in = w.peer, w.local, w.came, w.len
            if self.proxied:
                c._address = client_address(&w.client)
            endpoint.begun += 1
            self.handed(c, which, w.reason, w.upstream)
        w = dns_forward_handed(f)
    return 0


cdef extern from "dns_proxied.h" nogil:
    ctypedef struct dns_proxied:
        uint8_t told
        uint8_t ip[16]
        uint16_t port
    size_t dns_proxied_read(const uint8_t *msg, size_t len, dns_proxied *from_)


def read_proxied(const uint8_t[::1] data not None):
    """The PROXYv2 header that data begins with: `(octets, host or None, port)`; 0 octets when there is none."""
    cdef dns_proxied told
    cdef dns_client client
    cdef size_t n = dns_proxied_read(&data[0] if data.shape[0] else NULL, data.shape[0], &told)
    if not told.told:
        return n, None, 0
    memcpy(client.ip, told.ip, 16)
    client.ip_len, client.port = 16, told.port
    address = client_address(&client)
    return n, address.host.removeprefix("::ffff:") if "." in address.host else address.host, told.port
