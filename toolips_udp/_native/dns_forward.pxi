# The native half of a forwarder. Included by dns.pyx.

from .endpoint cimport Connection, Endpoint
from .tudp cimport TUDP_CAPSULE, tudp_local, tudp_slot, tudp_sockaddr, tudp_stage, tudp_turn

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t n)

cdef extern from "dns_forward.h" nogil:
    enum:
        DNS_FORWARD_UPSTREAMS, DNS_FORWARD_SAMPLES
    ctypedef struct dns_forward_calls:
        pass
    ctypedef struct dns_upstream:
        uint64_t hedge, rtt, variance, asked, answered, missed, hedged, closed
        uint8_t usable, mixed, cookie_len
        uint8_t cookie[40]
        uint32_t failures, samples
        uint32_t sample[64]
    ctypedef struct dns_waiter:
        uint64_t came
        tudp_sockaddr peer "from"
        tudp_local local
        dns_client client
        uint16_t len, reason, upstream
        uint8_t packet[320]
    ctypedef struct dns_forward_counts:
        uint64_t questions, coalesced, answered, ignored, full
        uint64_t landed[3]
    ctypedef struct dns_forward:
        uint8_t policy, ready
        uint32_t upstreams, flights, patience
        dns_upstream upstream[16]
        dns_forward_counts count
    dns_forward *dns_forward_new(const uint8_t *zone, size_t zone_len, const dns_server *server, dns_cache *cache,
                                 const dns_forward_calls *calls)
    void dns_forward_free(dns_forward *f)
    int dns_forward_add(dns_forward *f, const tudp_sockaddr *to)
    const dns_waiter *dns_forward_handed(dns_forward *f)
    dns_forward_calls *dns_forward_kernel()
    void dns_forward_kernel_free(dns_forward_calls *calls)
    int dns_forward_kernel_open(dns_forward_calls *calls)
    void dns_forward_kernel_close(dns_forward_calls *calls)
    void dns_forward_detach(dns_forward *f)

UPSTREAMS = DNS_FORWARD_UPSTREAMS

# Why a question came back.
HANDED_TIMEOUT, HANDED_REFUSED, HANDED_RCODE, HANDED_TRUNCATED, HANDED_MISMATCH, HANDED_ODD = range(1, 7)
POLICIES = ("fastest", "ordered", "round-robin", "hash")


cdef class Forwarder:
    """Asks UDP upstreams in C what the cache does not know, for the views of one stage.

    `zone` is a folded wire name: other names are not asked here. `policy` is the number of
    one of POLICIES. What takes another course than question and reply comes to the stage's
    `handed`. Sockets are made as they are needed and closed with the stage.
    """

    cdef dns_forward *f
    cdef dns_forward_calls *calls
    cdef Server server
    cdef Cache cache
    cdef object __weakref__

    def __cinit__(self, bytes zone not None, Server server not None, Cache cache not None, *, uint8_t policy=0):
        if dns_name_check(<const uint8_t *>PyBytes_AS_STRING(zone), len(zone)) < 0 or policy >= len(POLICIES):
            raise ValueError(f"zone {zone!r}, policy {policy}: expected a wire name and a number below {len(POLICIES)}.")
        self.server = server
        self.cache = cache
        self.calls = dns_forward_kernel()
        if self.calls == NULL:
            raise MemoryError
        self.f = dns_forward_new(<const uint8_t *>PyBytes_AS_STRING(zone), len(zone), &server.s, cache.c, self.calls)
        if self.f == NULL:
            raise MemoryError
        self.f.policy = policy

    def __dealloc__(self):
        dns_forward_free(self.f)
        dns_forward_kernel_free(self.calls)

    def open(self):
        """A descriptor that is readable when a reply came: then `Stage.upstream_ready`. Before an upstream is usable."""
        cdef int fd = dns_forward_kernel_open(self.calls)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        return fd

    def close(self):
        """Give up every question and every socket. No upstream may be usable."""
        dns_forward_detach(self.f)
        dns_forward_kernel_close(self.calls)

    def add(self, address, bytes cookie=b""):
        """One upstream more, not usable yet; its number. `cookie` is our client cookie for it."""
        cdef tudp_sockaddr to
        cdef int number
        fill_upstream(address, &to)
        number = dns_forward_add(self.f, &to)
        if number < 0:
            raise ValueError(f"a forwarder asks at most {DNS_FORWARD_UPSTREAMS} upstreams.")
        self.f.upstream[number].cookie_len = min(len(cookie), 8)
        memcpy(self.f.upstream[number].cookie, PyBytes_AS_STRING(cookie), self.f.upstream[number].cookie_len)
        return number

    cdef dns_upstream *find(self, int number) except NULL:
        if not 0 <= number < <int>self.f.upstreams:
            raise IndexError(number)
        return &self.f.upstream[number]

    def set(self, int number, bint usable, bint mixed, double hedge):
        """What the owner knows of an upstream: whether to ask it, with random letter case, hedged after so many seconds."""
        cdef dns_upstream *u = self.find(number)
        if usable and not u.usable:
            u.failures = 0
        u.usable, u.mixed, u.hedge = usable, mixed, <uint64_t>(hedge * 1e9)

    def seen(self, int number):
        """`(asked, answered, missed, hedged, closed, failures in a row, rtt, variance)` of an upstream; times in
        seconds. `closed`: so many of those missed found the port closed."""
        cdef dns_upstream *u = self.find(number)
        return u.asked, u.answered, u.missed, u.hedged, u.closed, u.failures, u.rtt / 1e9, u.variance / 1e9

    def samples(self, int number):
        """The last round-trip times, in seconds."""
        cdef dns_upstream *u = self.find(number)
        return [u.sample[i] / 1e6 for i in range(min(u.samples, <uint32_t>DNS_FORWARD_SAMPLES))]

    @property
    def patience(self):
        """How many times as long as the rules say an upstream may take; 1, but for tests on slow machines."""
        return self.f.patience

    @patience.setter
    def patience(self, uint32_t times):
        self.f.patience = times

    @property
    def flights(self):
        """Questions that wait for an upstream."""
        return self.f.flights

    @property
    def counters(self):
        cdef dns_forward_counts *n = &self.f.count
        return {"questions": n.questions, "coalesced": n.coalesced, "answered": n.answered,
                "ignored": n.ignored, "refused": n.full, "one": n.landed[1], "two": n.landed[2]}


cdef int fill_upstream(address, tudp_sockaddr *to) except -1:
    """The IPv4 or IPv6 socket address of a numeric host and a port."""
    cdef bytes packed
    memset(to, 0, sizeof(tudp_sockaddr))
    host, scope = address.host.partition("%")[::2]
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
        to.in6.sin6_family = socket.AF_INET6
        to.in6.sin6_port = htons(address.port)
        memcpy(&to.in6.sin6_addr, PyBytes_AS_STRING(packed), 16)
        if scope:
            to.in6.sin6_scope_id = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    else:
        packed = socket.inet_pton(socket.AF_INET, host)
        to.in4.sin_family = socket.AF_INET
        to.in4.sin_port = htons(address.port)
        memcpy(&to.in4.sin_addr, PyBytes_AS_STRING(packed), 4)
    return 0
