# The message face: Server, Record, Question. Included by dns.pyx.

cdef extern from "dns_message.h" nogil:
    enum:
        DNS_DROP, DNS_COOKIE_ONLY, DNS_EDE_NONE, DNS_TC, DNS_QR, DNS_COOKIE_GOOD, DNS_NAME_MAX, DNS_HEADER
        DNS_AA, DNS_RA, DNS_AD, DNS_CD, DNS_RD, DNS_NOERROR, DNS_SERVFAIL
    ctypedef struct dns_key:
        uint64_t k[2]
    ctypedef struct dns_query:
        uint16_t id, flags, qtype, qclass, question_end, udp_size, cookie_at, ecs_at, ecs_len, tsig_at, work, ede
        uint32_t serial
        uint8_t opcode, labels, name_len, cookie_len, cookie, has_serial
        unsigned edns, dnssec_ok, nsid, expire, keepalive, padding, sig0
        uint8_t edns_version
        uint64_t hash
        uint8_t label_at[128]
        uint8_t name[264]
        uint64_t hashes[128]
    ctypedef struct dns_server:
        dns_key key
        uint16_t udp_max
        uint8_t id_len, secrets, ecs
        uint8_t id[64]
        uint8_t secret[2][16]
    ctypedef struct dns_client:
        uint8_t ip[16]
        uint8_t ip_len, stream, encrypted
        uint16_t idle
        uint32_t now
        uint16_t most, port
        uint8_t transport
    ctypedef struct dns_extra:
        uint16_t ede, text_len
        const char *text
        uint32_t expire
        uint8_t has_expire
    ctypedef struct dns_walk:
        int budget
    ctypedef struct dns_record:
        uint32_t at, rdata_at, end, ttl
        uint16_t type, klass
        uint8_t section
    int dns_query_parse(const uint8_t *msg, size_t len, const dns_key *key, dns_query *q)
    size_t dns_name_read(const uint8_t *msg, size_t len, size_t at, uint8_t *out, size_t *out_len, int *budget)
    int dns_name_check(const uint8_t *name, size_t len)
    void dns_query_name(dns_query *q, const uint8_t *name, size_t len, const dns_key *key)
    int dns_rdata_expand(const uint8_t *msg, size_t at, size_t end, uint16_t type, uint8_t *out, size_t room,
                         int *budget)
    bint dns_rdata_ok(uint16_t type, const uint8_t *rdata, size_t len)
    void dns_cookie_check(const dns_server *, const dns_client *, const uint8_t *msg, dns_query *)
    size_t dns_opt_size(const dns_server *, const dns_client *, const dns_query *, const dns_extra *)
    size_t dns_reply_limit(const dns_server *, const dns_client *, const dns_query *)
    size_t dns_reply_finish(uint8_t *out, size_t at, const dns_server *, const dns_client *, const uint8_t *msg,
                            const dns_query *, uint16_t flags, uint16_t rcode, const uint16_t *counts,
                            const dns_extra *)
    size_t dns_error_write(uint8_t *out, const dns_server *, const dns_client *, const uint8_t *msg,
                           const dns_query *, uint16_t flags, uint16_t rcode, const dns_extra *)
    int dns_walk_begin(dns_walk *walk, const uint8_t *msg, size_t len)
    int dns_walk_next(dns_walk *walk, dns_record *record)

cdef extern from "dns_writer.h" nogil:
    ctypedef struct dns_writer:
        uint32_t at, room
        int lookups
    void dns_writer_begin(dns_writer *w, uint8_t *out, size_t at, size_t room)
    void dns_writer_know(dns_writer *w, const uint8_t *name, size_t pos, unsigned skip)
    int dns_writer_record(dns_writer *w, const uint8_t *owner, uint16_t type, uint16_t klass, uint32_t ttl,
                          const uint8_t *rdata, size_t rdlen)

DROP = DNS_DROP
COOKIE_ONLY = DNS_COOKIE_ONLY

# A scratch for answers: replies are made on the loop thread, under the GIL.
cdef uint8_t answer_room[65535 + 512]


cdef str label_text(const uint8_t *label, unsigned n):
    """One label as text, `\\.`, `\\\\` and `\\DDD` escaped."""
    cdef char out[4 * 63]
    cdef unsigned i, at = 0
    cdef uint8_t c
    for i in range(n):
        c = label[i]
        if c == 0x2e or c == 0x5c or c == 0x22 or c == 0x28 or c == 0x29 or c == 0x3b or c == 0x40 or c == 0x24:
            out[at] = 0x5c
            out[at + 1] = c
            at += 2
        elif 0x21 <= c <= 0x7e:
            out[at] = c
            at += 1
        else:
            out[at] = 0x5c
            out[at + 1] = 0x30 + c // 100
            out[at + 2] = 0x30 + c // 10 % 10
            out[at + 3] = 0x30 + c % 10
            at += 4
    return out[:at].decode("ascii")


cdef tuple labels_of(const uint8_t *name):
    cdef list found = []
    while name[0]:
        found.append(label_text(name + 1, name[0]))
        name += name[0] + 1
    return tuple(found)


def name_text(bytes name not None):
    """The text of an uncompressed wire name, without the final dot; `"."` is the root.

    Raises `FormatError` when the octets are not one name.
    """
    if dns_name_check(<const uint8_t *>PyBytes_AS_STRING(name), len(name)) < 0:
        raise FormatError(f"{name!r} is not a wire name: labels of 1..63 octets ended by a zero octet, at most 255.")
    return ".".join(labels_of(<const uint8_t *>PyBytes_AS_STRING(name))) or "."


cdef class Server:
    """What replies need to know of this server: id, cookie secrets, UDP limit.

    `id` answers NSID and `id.server` (at most 64 octets, empty: hidden). `secrets`
    are one or two 16-octet keys for cookies (RFC 9018), the active one first; none
    turns cookies off. `udp_max` is the largest UDP reply, 512..4096. `ecs` checks client
    subnets (RFC 7871) and gives them back with scope 0; else they are ignored.
    """

    cdef dns_server s

    def __init__(self, *, bytes id=b"", secrets=None, int udp_max=1232, bint ecs=False, key=None):
        if len(id) > 64:
            raise ValueError(f"id has {len(id)} octets, at most 64 fit.")
        if not 512 <= udp_max <= 4096:
            raise ValueError(f"udp_max is {udp_max}, expected 512..4096.")
        self.s.udp_max = udp_max
        self.s.ecs = ecs
        self.s.id_len = len(id)
        memcpy(self.s.id, PyBytes_AS_STRING(id), len(id))
        self.s.key = process_key
        if key is not None:
            if len(key) != 16:
                raise ValueError(f"key has {len(key)} octets, expected 16.")
            memcpy(&self.s.key, PyBytes_AS_STRING(key), 16)
            self.s.key.k[1] |= 1
        self.roll(secrets if secrets is not None else (os.urandom(16),))

    def roll(self, secrets):
        """Set the cookie secrets, the active one first. Between turns."""
        secrets = tuple(secrets)
        if len(secrets) > 2 or any(len(s) != 16 for s in secrets):
            raise ValueError("secrets are at most two keys of 16 octets.")
        for i, secret in enumerate(secrets):
            memcpy(self.s.secret[i], PyBytes_AS_STRING(secret), 16)
        self.s.secrets = len(secrets)


cdef dns_key process_key
_seed = os.urandom(16)
memcpy(&process_key, PyBytes_AS_STRING(_seed), 16)
process_key.k[1] |= 1


cdef class Record:
    """One record with ready RDATA. `owner` is an uncompressed wire name, or None for the question's name."""

    cdef readonly bytes owner
    cdef readonly int type
    cdef public uint32_t ttl
    cdef readonly bytes rdata

    def __init__(self, bytes owner, int type, ttl, bytes rdata not None):
        if owner is not None and dns_name_check(<const uint8_t *>PyBytes_AS_STRING(owner), len(owner)) < 0:
            raise FormatError(f"the owner {owner!r} is not a wire name.")
        if not 0 < type < 65536 or len(rdata) > 65535 or not 0 <= ttl < 2**31:
            raise FormatError(f"record of type {type}, ttl {ttl}, {len(rdata)} octets of rdata: out of range.")
        if not dns_rdata_ok(type, <const uint8_t *>PyBytes_AS_STRING(rdata), len(rdata)):
            raise FormatError(f"the rdata {rdata!r} is not what type {type} asks for (uncompressed wire form).")
        self.owner = owner
        self.type = type
        self.ttl = ttl
        self.rdata = rdata

    def __eq__(self, other):
        if not isinstance(other, Record):
            return NotImplemented
        cdef Record o = other
        return (self.owner, self.type, self.ttl, self.rdata) == (o.owner, o.type, o.ttl, o.rdata)

    def __hash__(self):
        return hash((self.owner, self.type, self.rdata))

    def __repr__(self):
        owner = "@" if self.owner is None else name_text(self.owner)
        return f"Record({owner} {self.ttl} TYPE{self.type} {self.rdata.hex()})"


# Octets of a message that a reply needs: header, question, cookie.
DEF KEPT = 12 + 259 + 40 + 20

@cython.freelist(64)
cdef class Question:
    """A parsed client message, and the way to answer it. A service hands out a subclass with more to ask."""

    cdef dns_query q
    cdef dns_client c
    cdef Server settings
    cdef int result
    cdef uint8_t kept[KEPT]
    cdef object _name, _labels
    cdef public object connection, view, log_notes
    cdef public int work
    cdef public bint verified
    cdef readonly bint may_recurse
    cdef object __weakref__

    @staticmethod
    def parse(Server server not None, const uint8_t[::1] data not None, bytes ip=b"\x7f\0\0\1", *,
              bint stream=False, bint encrypted=False, uint32_t wall=0, uint16_t idle=0):
        """Parse a client message (RFC 1035, 6891, 7873, 8906). Never raises for what a stranger sent.

        `.verdict` is 0 for a question to answer, an RCODE to send with `error()`,
        `DROP` for silence, or `COOKIE_ONLY`. `ip` is the packed client address, `wall` the
        time in seconds for cookies.
        """
        cdef Question self = Question.__new__(Question)
        if len(ip) != 4 and len(ip) != 16:
            raise ValueError("ip is 4 or 16 octets.")
        cdef const uint8_t *msg = &data[0] if data.shape[0] else NULL
        self.settings = server
        self.renew()
        memset(&self.c, 0, sizeof(self.c))
        memcpy(self.c.ip, PyBytes_AS_STRING(ip), len(ip))
        self.c.ip_len = len(ip)
        self.c.stream = stream
        self.c.encrypted = encrypted
        self.c.idle = idle
        self.c.now = wall
        self.result = dns_query_parse(msg, data.shape[0], &server.s.key, &self.q)
        if self.result == DNS_DROP:
            memset(self.kept, 0, sizeof(self.kept))
            return self
        if self.q.cookie_at:
            dns_cookie_check(&server.s, &self.c, msg, &self.q)
        self.keep(msg)
        self.verified = stream or self.q.cookie >= DNS_COOKIE_GOOD
        return self

    cdef void renew(self):
        """As new, for the next question."""
        self.view = ""
        self.log_notes = None
        self.work = 50

    cdef void keep(self, const uint8_t *msg) noexcept:
        """Copies what a late reply needs; the cookie moves behind the question."""
        memcpy(self.kept, msg, self.q.question_end)
        if self.q.cookie_at:
            memcpy(self.kept + self.q.question_end, msg + self.q.cookie_at, self.q.cookie_len)
            self.q.cookie_at = self.q.question_end
        if self.q.ecs_at and self.q.ecs_len <= 20:
            memcpy(self.kept + self.q.question_end + 40, msg + self.q.ecs_at, self.q.ecs_len)
            self.q.ecs_at = self.q.question_end + 40

    @property
    def verdict(self):
        return self.result

    @property
    def name(self):
        """The name asked, lower case, with its final dot."""
        if self._name is None:
            self._name = ".".join(self.labels) + "."
        return self._name

    @property
    def labels(self):
        """The labels of the name from the left, as text with `\\DDD` escapes."""
        if self._labels is None:
            self._labels = labels_of(self.q.name) if self.q.name_len else ()
        return self._labels

    @property
    def wire_name(self):
        """The name as sent: uncompressed, letter case kept. Empty when unreadable."""
        return PyBytes_FromStringAndSize(<char *>self.kept + 12, self.q.name_len)

    @property
    def folded(self):
        """The wire name in lower case."""
        return PyBytes_FromStringAndSize(<char *>self.q.name, self.q.name_len)

    @property
    def head(self):
        """Header and question as sent."""
        return PyBytes_FromStringAndSize(<char *>self.kept, self.q.question_end)

    @property
    def id(self):
        return self.q.id

    @property
    def flags(self):
        return self.q.flags

    @property
    def opcode(self):
        return self.q.opcode

    @property
    def qtype(self):
        return self.q.qtype

    @property
    def klass(self):
        return self.q.qclass

    @property
    def has_edns(self):
        return bool(self.q.edns)

    @property
    def wants_dnssec(self):
        return bool(self.q.dnssec_ok)

    @property
    def recursion_desired(self):
        return bool(self.q.flags & DNS_RD)

    @property
    def checking_disabled(self):
        return bool(self.q.flags & DNS_CD)

    @property
    def authentic_data(self):
        return bool(self.q.flags & DNS_AD)

    @property
    def udp_size(self):
        return self.q.udp_size

    @property
    def cookie(self):
        """0 none, 1 client part only, 2 not valid, 3 valid, 4 valid and due for renewal."""
        return self.q.cookie

    @property
    def wants_expire(self):
        return bool(self.q.expire)

    @property
    def tsig_at(self):
        """Offset of the TSIG record in the message, or 0."""
        return self.q.tsig_at

    @property
    def serial(self):
        """Serial of the SOA an IXFR or NOTIFY carries, or None."""
        return self.q.serial if self.q.has_serial else None

    @property
    def ede(self):
        """The extended error that goes with `verdict`, or None."""
        return None if self.q.ede == DNS_EDE_NONE else self.q.ede

    @property
    def parse_work(self):
        """Units of the work budget spent on parsing."""
        return self.q.work

    @property
    def limit(self):
        """The largest reply this client can take, in octets."""
        return dns_reply_limit(&self.settings.s, &self.c, &self.q)

    @property
    def most(self):
        """Octets that the rate limit lets a reply have, 0: as many as the client takes."""
        return self.c.most

    @property
    def stream(self):
        return bool(self.c.stream)

    def error(self, int rcode, int flags=0, ede=None, bytes text=b""):
        """A reply without records: an error, a refusal, an empty NOERROR."""
        cdef dns_extra extra
        memset(&extra, 0, sizeof(extra))
        extra.ede = DNS_EDE_NONE if ede is None else ede
        extra.text = PyBytes_AS_STRING(text)
        extra.text_len = min(len(text), 200)
        cdef size_t n = dns_error_write(answer_room, &self.settings.s, &self.c, self.kept, &self.q, flags, rcode,
                                        &extra)
        return PyBytes_FromStringAndSize(<char *>answer_room, n)

    def refuse(self):
        """The reply that `verdict` asks for, or None where silence is right."""
        if self.result == DNS_DROP:
            return None
        if self.result == DNS_COOKIE_ONLY:
            return self.error(0)
        return self.error(self.result, 0, self.ede)

    def __repr__(self):
        return f"<Question {self.name} TYPE{self.q.qtype}>"


def write_answer(Question q not None, int rcode, int flags, answer=(), authority=(), additional=(), *,
                 ede=None, bytes text=b"", expire=None):
    """The reply to `q` as bytes: records of `Record`, sections in order.

    Over UDP, additional records that do not fit are left out; when answer and
    authority do not fit, the reply is TC=1 with empty sections (RFC 2181 section 9). A
    stream reply above 65,535 octets becomes SERVFAIL. OPT, cookie, NSID and
    padding follow the question. `flags` are AA, RA, AD bits.
    """
    cdef dns_writer w
    cdef dns_extra extra
    cdef Record r
    cdef uint16_t counts[3]
    cdef size_t limit = dns_reply_limit(&q.settings.s, &q.c, &q.q), opt, n
    cdef int section = 0
    cdef const uint8_t *owner
    memset(&extra, 0, sizeof(extra))
    extra.ede = DNS_EDE_NONE if ede is None else ede
    extra.text = PyBytes_AS_STRING(text)
    extra.text_len = min(len(text), 200)
    if expire is not None:
        extra.expire = expire
        extra.has_expire = 1
    opt = dns_opt_size(&q.settings.s, &q.c, &q.q, &extra)
    counts[0] = counts[1] = counts[2] = 0
    memcpy(answer_room, q.kept, q.q.question_end)
    dns_writer_begin(&w, answer_room, q.q.question_end, limit - opt)
    if q.q.name_len:
        dns_writer_know(&w, q.kept + 12, 12, 0)
    for records in (answer, authority, additional):
        for record in records:
            r = record
            owner = NULL
            if r.owner is not None:
                owner = <const uint8_t *>PyBytes_AS_STRING(r.owner)
            if dns_writer_record(&w, owner, r.type, 1, r.ttl, <const uint8_t *>PyBytes_AS_STRING(r.rdata),
                                 len(r.rdata)) == 0:
                counts[section] += 1
                continue
            if section == 2:
                break
            if q.c.stream:
                return q.error(DNS_SERVFAIL)
            return q.error(rcode, flags | DNS_TC, ede, text)
        section += 1
    n = dns_reply_finish(answer_room, w.at, &q.settings.s, &q.c, q.kept, &q.q, flags, rcode, counts, &extra)
    return PyBytes_FromStringAndSize(<char *>answer_room, n)


def read_message(const uint8_t[::1] data not None):
    """Walk a reply from upstream: a list of `(section, owner, type, class, ttl, rdata)`.

    Owners and RDATA are expanded. Raises `FormatError` for anything malformed or over
    the work budget: the message is to be ignored.
    """
    cdef dns_walk walk
    cdef dns_record r
    cdef uint8_t name[255]
    cdef size_t name_len
    cdef int found, n, budget
    cdef const uint8_t *msg = &data[0] if data.shape[0] else NULL
    cdef list records = []
    if dns_walk_begin(&walk, msg, data.shape[0]) < 0:
        raise FormatError(f"a message of {data.shape[0]} octets: header, counts or question are malformed.")
    while True:
        found = dns_walk_next(&walk, &r)
        if found <= 0:
            break
        budget = 1 << 20  # the walk has paid for these hops already
        dns_name_read(msg, data.shape[0], r.at, name, &name_len, &budget)
        n = dns_rdata_expand(msg, r.rdata_at, r.end, r.type, answer_room, sizeof(answer_room), &budget)
        if n < 0:
            n = r.end - r.rdata_at
            memcpy(answer_room, msg + r.rdata_at, n)
        records.append((r.section, PyBytes_FromStringAndSize(<char *>name, name_len), r.type, r.klass, r.ttl,
                        PyBytes_FromStringAndSize(<char *>answer_room, n)))
    if found < 0:
        raise FormatError(f"a message of {data.shape[0]} octets: record {len(records)} is malformed or over budget.")
    return records
