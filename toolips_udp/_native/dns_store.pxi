# Lists of names, the rate limit and the answer cache. Included by dns.pyx.

cdef extern from "dns_policy.h" nogil:
    ctypedef struct dns_rules:
        dns_key key
        uint32_t count
        uint64_t hits
    ctypedef struct dns_rrl:
        uint64_t mask
    enum:
        DNS_RRL_PASS
    dns_rules *dns_rules_new(uint32_t most, uint64_t octets, const dns_key *key)
    void dns_rules_free(dns_rules *rules)
    int dns_rules_add(dns_rules *rules, const uint8_t *name, size_t len, unsigned scope, unsigned action, uint16_t list)
    unsigned dns_rules_find(const dns_rules *rules, const dns_query *q, unsigned *labels, uint16_t *list)
    size_t dns_rules_size(const dns_rules *rules)
    size_t dns_rule_reply(unsigned action, const dns_server *, const dns_client *, const uint8_t *msg,
                          const dns_query *q, uint16_t flags, uint16_t ede, uint8_t *out)
    int dns_rrl_init(dns_rrl *rrl, uint64_t slots, double rate, double burst, uint32_t slip, const dns_key *key)
    void dns_rrl_free(dns_rrl *rrl)
    int dns_rrl_take(dns_rrl *rrl, const uint8_t *ip, size_t ip_len, uint64_t now, uint32_t weight)

cdef extern from "dns_cache.h" nogil:
    ctypedef struct dns_entry:
        uint32_t fresh, stale
        uint16_t offsets, wire_len, qtype, view, flags
        uint8_t name_len, rcode, hits
        uint64_t stored
    ctypedef struct dns_cache_counts:
        uint64_t hits, misses, stale, stored, evicted, refused, collisions, moved
    ctypedef struct dns_ring:
        uint64_t size, used
    ctypedef struct dns_cache:
        dns_key key
        uint32_t entries
        dns_ring ring[2]
        size_t index_size
        dns_cache_counts count
    ctypedef struct dns_cache_put:
        uint64_t now
        uint16_t view, scope
        uint8_t secure, bogus, fixed
        uint32_t most
    ctypedef struct dns_cache_found:
        int state
        uint8_t prefetch
        uint16_t rcode, failures
    enum:
        DNS_ENTRY_DO, DNS_ENTRY_CD, DNS_CACHE_VIEWS, DNS_CACHE_SCOPES
    dns_cache *dns_cache_new(uint64_t octets, uint32_t keep_stale, const dns_key *key)
    void dns_cache_free(dns_cache *cache)
    int dns_cache_store(dns_cache *cache, const dns_query *q, const uint8_t *msg, size_t len, const dns_cache_put *put)
    int dns_cache_fail(dns_cache *cache, const dns_query *q, const dns_cache_put *put)
    size_t dns_cache_answer(dns_cache *cache, const dns_server *, const dns_client *, const uint8_t *msg,
                            const dns_query *q, uint16_t view, uint64_t now, int serve_stale, uint16_t flags,
                            uint8_t *out, dns_cache_found *found)
    void dns_cache_flush_view(dns_cache *cache, uint16_t view)
    void dns_cache_flush_scope(dns_cache *cache, uint16_t scope)
    uint32_t dns_cache_flush_name(dns_cache *cache, const uint8_t *name, size_t len, int tree, uint16_t qtype)
    const dns_entry *dns_cache_walk(const dns_cache *cache, uint64_t *at)

NXDOMAIN, NODATA, ZERO, REFUSED, DROP_IT, TCP_ONLY, ASK_PYTHON, ALWAYS_NXDOMAIN, ALLOW, IMPORTANT = (
    1, 2, 3, 4, 5, 6, 7, 8, 15, 16)
EXACT, BELOW, SUBTREE = 1, 2, 3

MISS, HIT, STALE = 0, 1, 2

# What Cache.put says when it did not store.
PUT_REASONS = {0: "stored", -1: "malformed", -2: "truncated", -3: "ttl", -4: "size", -5: "kept"}


cdef class Rules:
    """A set of names with an action each; filled once, then only read. About 60 octets for a rule.

    `rules` yields `(name, scope, action, list)`: an uncompressed wire name; EXACT, BELOW
    or SUBTREE; NXDOMAIN .. ALLOW, plus IMPORTANT to beat an allow rule of the same name; the
    number of the list. The most specific name decides; of two rules for one name,
    allow wins.
    """

    cdef dns_rules *r

    def __cinit__(self, rules=()):
        cdef bytes name
        cdef uint64_t octets = 0
        rules = rules if isinstance(rules, (list, tuple)) else list(rules)
        for rule in rules:
            octets += len(rule[0])
        self.r = dns_rules_new(len(rules), octets, &process_key)
        if self.r == NULL:
            raise MemoryError
        for name, scope, action, number in rules:
            if dns_rules_add(self.r, <const uint8_t *>PyBytes_AS_STRING(name), len(name), scope, action, number) < 0:
                raise FormatError(f"the rule for {name!r}: not a wire name.")

    def __dealloc__(self):
        dns_rules_free(self.r)

    def add(self, bytes name not None, int scope, int action, uint16_t number=0):
        """One rule more. Not while a stage reads the set."""
        cdef int failed = dns_rules_add(self.r, <const uint8_t *>PyBytes_AS_STRING(name), len(name), scope, action,
                                        number)
        if failed == -2:
            raise MemoryError
        if failed < 0:
            raise FormatError(f"the rule for {name!r}: not a wire name.")

    def __len__(self):
        return self.r.count

    @property
    def size(self):
        """Octets of memory."""
        return dns_rules_size(self.r)

    @property
    def hits(self):
        """Answers that a stage gave because of it."""
        return self.r.hits

    def find(self, bytes name not None):
        """`(action, labels of the rule, list)` for a wire name, or None."""
        cdef dns_query q
        cdef unsigned labels = 0
        cdef uint16_t number = 0
        if dns_name_check(<const uint8_t *>PyBytes_AS_STRING(name), len(name)) < 0:
            raise FormatError(f"{name!r} is not a wire name.")
        dns_query_name(&q, <const uint8_t *>PyBytes_AS_STRING(name), len(name), &process_key)
        action = dns_rules_find(self.r, &q, &labels, &number)
        return (action, labels, number) if action else None

    def reply(self, Question q not None, int flags=0, int ede=15):
        """The reply that the rule for `q` asks for; None without a rule, or for allow; b"" to drop."""
        cdef unsigned labels = 0
        cdef uint16_t number = 0
        action = dns_rules_find(self.r, &q.q, &labels, &number)
        if not action or action == ALLOW or action == ASK_PYTHON:
            return None
        if action == DROP_IT:
            return b""
        cdef size_t n = dns_rule_reply(action, &q.settings.s, &q.c, q.kept, &q.q, flags, ede, answer_room)
        return PyBytes_FromStringAndSize(<char *>answer_room, n)


cdef class RateLimit:
    """Response rate limiting for clients that may be forged (spec 7.2), in fixed memory.

    `rate` replies a second for one address and `burst` at once; wider prefixes get
    multiples (IPv4 /32 x1, /24 x32, /20 x256, /18 x768; IPv6 /128 x1, /64 x2, /56 x3, /48 x4, /32 x64).
    Over the limit, every `slip`-th reply is TC=1 and the rest are dropped.
    """

    cdef dns_rrl l

    def __cinit__(self, double rate=50, double burst=125, *, int slip=2, slots=524288):
        if dns_rrl_init(&self.l, slots, rate, burst, slip, &process_key) < 0:
            raise ValueError(f"rate {rate}, burst {burst}, slots {slots}: expected above 0, at least 1, a power of 2.")

    def __dealloc__(self):
        dns_rrl_free(&self.l)

    def take(self, bytes ip not None, double now, int weight=1):
        """Charge `weight` replies to a packed address: 0 to answer, 1 to drop, 2 to send TC=1."""
        return dns_rrl_take(&self.l, <const uint8_t *>PyBytes_AS_STRING(ip), len(ip), <uint64_t>(now * 1e9), weight)


cdef class Cache:
    """Answers by question in memory of fixed `size` (octets); nothing is allocated after the start.

    Times are monotonic seconds. `stale` is how long an answer is kept past its
    expiry. A flood of names asked once passes through a tenth of the memory.
    """

    cdef dns_cache *c

    def __cinit__(self, size=8 << 20, *, stale=86400):
        if size < 65536:
            raise ValueError(f"a cache of {size} octets is too small. Expected at least 65536.")
        self.c = dns_cache_new(size, stale, &process_key)
        if self.c == NULL:
            raise MemoryError

    def __dealloc__(self):
        dns_cache_free(self.c)

    def __len__(self):
        return self.c.entries

    @property
    def counters(self):
        return {"hits": self.c.count.hits, "misses": self.c.count.misses, "stale": self.c.count.stale,
                "stored": self.c.count.stored, "evictions": self.c.count.evicted, "refused": self.c.count.refused,
                "collisions": self.c.count.collisions, "moved": self.c.count.moved}

    @property
    def used(self):
        """Octets taken by answers."""
        return self.c.ring[0].used + self.c.ring[1].used

    @property
    def size(self):
        """Octets of memory in all."""
        return self.c.ring[0].size + self.c.ring[1].size + self.c.index_size

    def put(self, Question q not None, const uint8_t[::1] reply not None, double now, *, int view=0, int scope=0,
            bint secure=False, bint bogus=False, bint fixed=False, uint32_t most=0):
        """Store the reply to `q` for its TTLs (C2, C3); errors in it are stored as failures.

        Returns "stored", or why not: "malformed", "truncated", "ttl", "size", "kept" (a failure, and
        a good answer is there to be served stale). `most` caps the seconds. `scope` names the zone
        whose reload forgets the answer; `fixed` TTLs do not age.
        """
        cdef dns_cache_put p
        self.check(view, scope)
        memset(&p, 0, sizeof(p))
        p.now = <uint64_t>(now * 1000)
        p.view, p.scope, p.secure, p.bogus, p.fixed, p.most = view, scope, secure, bogus, fixed, most
        return PUT_REASONS[dns_cache_store(self.c, &q.q, &reply[0] if reply.shape[0] else NULL, reply.shape[0], &p)]

    def fail(self, Question q not None, double now, *, int view=0, int scope=0, bint bogus=False):
        """Remember that nobody answered: 5 seconds, doubling to 300."""
        cdef dns_cache_put p
        self.check(view, scope)
        memset(&p, 0, sizeof(p))
        p.now = <uint64_t>(now * 1000)
        p.view, p.scope, p.bogus = view, scope, bogus
        return PUT_REASONS[dns_cache_fail(self.c, &q.q, &p)]

    cdef int check(self, int view, int scope) except -1:
        if not 0 <= view < DNS_CACHE_VIEWS or not 0 <= scope < DNS_CACHE_SCOPES:
            raise ValueError(f"view {view}, scope {scope}: expected below {DNS_CACHE_VIEWS} and {DNS_CACHE_SCOPES}.")
        return 0

    def get(self, Question q not None, double now, *, int view=0, bint stale=False, int flags=0):
        """`(reply, state, prefetch)`: the reply for this client or None, MISS, HIT or STALE, and whether to ask again.

        With `stale` an expired answer is given with TTL 30 and its extended error. `flags`: RA.
        """
        cdef dns_cache_found found
        self.check(view, 0)
        cdef size_t n = dns_cache_answer(self.c, &q.settings.s, &q.c, q.kept, &q.q, view, <uint64_t>(now * 1000),
                                         stale, flags, answer_room, &found)
        return (PyBytes_FromStringAndSize(<char *>answer_room, n) if n else None), found.state, bool(found.prefetch)

    def flush(self, bytes name=None, *, bint tree=False, int type=0):
        """Forget a wire name (with `tree` all below it too; with `type` only that), or everything. How many entries."""
        if name is None:
            n = self.c.entries
            for view in range(DNS_CACHE_VIEWS):
                dns_cache_flush_view(self.c, view)
            return n
        return dns_cache_flush_name(self.c, <const uint8_t *>PyBytes_AS_STRING(name), len(name), tree, type)

    def flush_view(self, int view):
        self.check(view, 0)
        dns_cache_flush_view(self.c, view)

    def flush_scope(self, int scope):
        """Forget the answers of one zone: raised by its reload or transfer."""
        self.check(0, scope)
        dns_cache_flush_scope(self.c, scope)

    def __iter__(self):
        """Entries as `(name, type, rcode, stored, fresh seconds, do, cd, view, hits)`."""
        cdef uint64_t at = 0
        cdef const dns_entry *e = dns_cache_walk(self.c, &at)
        cdef const uint8_t *name
        while e != NULL:
            name = <const uint8_t *>(e + 1) + 2 * e.offsets + 12
            yield (PyBytes_FromStringAndSize(<const char *>name, e.name_len), e.qtype, e.rcode, e.stored / 1000, e.fresh,
                   bool(e.flags & DNS_ENTRY_DO), bool(e.flags & DNS_ENTRY_CD), e.view, e.hits)
            e = dns_cache_walk(self.c, &at)
