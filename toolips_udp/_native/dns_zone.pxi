# Zone images and sets of zones. Included by dns.pyx.

cdef extern from "dns_zone.h" nogil:
    ctypedef struct dns_image:
        uint64_t magic, size
        dns_key key
        uint32_t nodes, rrsets, records, ignored, first_node, serial, negative_ttl, flags
        uint8_t origin_len
        uint8_t origin[264]
    ctypedef struct dns_rrset:
        uint16_t type, count, sig_count
        uint32_t ttl, data, sigs
    ctypedef struct dns_node:
        uint32_t size
        uint16_t rrsets
        uint8_t name_len
        dns_rrset set[1]
    ctypedef struct dns_builder:
        pass
    ctypedef struct dns_zone_entry:
        const dns_image *image
    ctypedef struct dns_zones:
        dns_key key
        uint32_t count
        dns_zone_entry *entry
    dns_builder *dns_builder_new(const uint8_t *origin, size_t len, const dns_key *key)
    int dns_builder_add(dns_builder *b, const uint8_t *owner, size_t owner_len, uint16_t type, uint32_t ttl,
                        const uint8_t *rdata, size_t rdlen)
    int dns_builder_finish(dns_builder *b, dns_image **image)
    void dns_builder_free(dns_builder *b)
    const uint8_t *dns_node_name(const dns_node *node)
    dns_zones *dns_zones_new(uint32_t count, const dns_key *key)
    int dns_zones_add(dns_zones *zones, const uint8_t *origin, size_t len, const dns_image *image, uint16_t ede,
                      uint32_t expire)
    int dns_zones_seal(dns_zones *zones)
    void *dns_pages_take(size_t *size)
    void dns_pages_give(void *at, size_t size)
    void dns_zones_free(dns_zones *zones)
    dns_zone_entry *dns_zones_find(const dns_zones *zones, const dns_query *q, int skip_apex)
    size_t dns_zones_answer(const dns_zones *, const dns_server *, const dns_client *, const uint8_t *msg,
                            const dns_query *, uint16_t flags, uint8_t *out, uint16_t *rcode)

cdef dict BUILD_ERRORS = {
    -1: "there is not enough memory for it",
    -2: "it has no SOA record at its apex. Add one",
    -3: "it has two different SOA records. Keep one",
    -4: "the rdata is not what the type asks for (uncompressed wire form)",
    -5: "the owner is not a wire name",
    -6: "it is larger than an image can be (4 GiB, 65,535 records in an RRset)",
}


cdef class Image:
    """A zone compiled into one read-only block of memory. Made by `build_image`, or from `shared` by `attach`."""

    cdef dns_image *image
    cdef size_t pages  # octets mapped

    def __init__(self):
        raise TypeError("an Image is made by build_image() or Image.attach().")

    def __dealloc__(self):
        if self.image != NULL:
            dns_pages_give(self.image, self.pages)

    @property
    def origin(self):
        """The zone's name, wire form, lower case."""
        return PyBytes_FromStringAndSize(<char *>self.image.origin, self.image.origin_len)

    @property
    def serial(self):
        return self.image.serial

    @property
    def negative_ttl(self):
        return self.image.negative_ttl

    @property
    def size(self):
        """Octets of memory."""
        return self.image.size

    @property
    def nodes(self):
        return self.image.nodes

    @property
    def rrsets(self):
        return self.image.rrsets

    @property
    def records(self):
        return self.image.records

    @property
    def ignored(self):
        """Records left out: outside the zone, repeated, or signatures of nothing."""
        return self.image.ignored

    @property
    def signed(self):
        """Whether the zone is signed and its absent names can be proved: "nsec", "nsec3" or None."""
        if not self.image.flags & 4:
            return None
        return "nsec3" if self.image.flags & 2 else "nsec" if self.image.flags & 1 else None

    def share(self):
        """A sealed memory file with a copy of the image, for other processes. The caller closes it."""
        cdef int fd = memfd_create("toolips-dns-zone", MFD_CLOEXEC | MFD_ALLOW_SEALING)
        if fd < 0:
            raise OSError(errno, os.strerror(errno))
        try:
            at = 0
            view = <const uint8_t[:self.image.size]><uint8_t *>self.image
            while at < self.image.size:
                at += os.write(fd, view[at:at + (1 << 30)])
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS,
                        fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @staticmethod
    def attach(int fd):
        """Map an image that another process of this program shared. The file may be closed afterwards.

        Raises `FormatError` when the file is not an image of this version.
        """
        cdef Image self = Image.__new__(Image)
        cdef size_t size = os.fstat(fd).st_size
        if size < sizeof(dns_image):
            raise FormatError(f"file {fd} has {size} octets: not a zone image.")
        cdef void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
        if at == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))
        self.image = <dns_image *>at
        self.pages = size
        if self.image.magic != DNS_IMAGE_MAGIC or self.image.size != size:
            munmap(at, size)
            self.image = NULL
            raise FormatError(f"file {fd} is not a zone image of this version.")
        return self

    def __iter__(self):
        """All RRsets, signatures included, as `(owner, type, ttl, rdatas)`; SOA's node first."""
        cdef uint32_t i, k, at = self.image.first_node
        cdef dns_node *node
        cdef const dns_rrset *s
        for i in range(self.image.nodes):
            node = <dns_node *>(<uint8_t *>self.image + at)
            owner = PyBytes_FromStringAndSize(<const char *>dns_node_name(node), node.name_len)
            for k in range(node.rrsets):
                s = &node.set[k]
                yield owner, s.type, s.ttl, self.list_at(s.data, s.count)
                if s.sig_count:
                    yield owner, 46, s.ttl, self.list_at(s.sigs, s.sig_count)
            at += node.size

    cdef list list_at(self, uint32_t at, uint32_t count):
        cdef uint16_t n
        cdef uint8_t *base = <uint8_t *>self.image
        cdef list found = []
        for _ in range(count):
            memcpy(&n, base + at, 2)
            found.append(PyBytes_FromStringAndSize(<char *>base + at + 2, n))
            at += 2 + n
        return found

    def __repr__(self):
        return f"<Image {name_text(self.origin)} serial {self.serial}, {self.records} records, {self.size} octets>"


def build_image(bytes origin not None, rrsets, *, key=None):
    """Compile a zone. `rrsets` yields tuples `(owner, type, ttl, rdatas)` or objects with
    these attributes; owners and rdatas uncompressed wire, case kept.

    Repeated records are kept once, an RRset gets its lowest TTL, records outside the
    zone are ignored and counted. Raises `FormatError` for a zone without exactly one
    SOA, and for rdata that its type does not have. `key` is for tests and sharing.
    """
    cdef dns_key k = process_key
    cdef Image self
    cdef dns_image *image = NULL
    cdef int failed = 0
    cdef bytes owner, rdata
    if key is not None:
        memcpy(&k, PyBytes_AS_STRING(key), 16)
        k.k[1] |= 1
    cdef dns_builder *b = dns_builder_new(<const uint8_t *>PyBytes_AS_STRING(origin), len(origin), &k)
    if b == NULL:
        raise FormatError(f"the origin {origin!r} is not a wire name.")
    try:
        for rrset in rrsets:
            if isinstance(rrset, tuple):
                owner, rtype, ttl, rdatas = rrset
            else:
                owner, rtype, ttl, rdatas = rrset.owner, rrset.type, rrset.ttl, rrset.rdatas
            for rdata in rdatas:
                failed = dns_builder_add(b, <const uint8_t *>PyBytes_AS_STRING(owner), len(owner), rtype, ttl,
                                         <const uint8_t *>PyBytes_AS_STRING(rdata), len(rdata))
                if failed < 0:
                    raise FormatError(f"zone {name_text(origin)}: record {owner!r} TYPE{rtype} {rdata.hex()}: "
                                      f"{BUILD_ERRORS[failed]}.")
        with nogil:
            failed = dns_builder_finish(b, &image)
        if failed < 0:
            raise FormatError(f"zone {name_text(origin)} cannot be served: {BUILD_ERRORS[failed]}.")
    finally:
        dns_builder_free(b)
    self = Image.__new__(Image)
    self.pages = image.size
    self.image = <dns_image *>dns_pages_take(&self.pages)
    if self.image == NULL:
        free(image)
        raise MemoryError
    memcpy(self.image, image, image.size)
    free(image)
    return self


cdef class Zones:
    """A set of zones that answer together. Never changes: a reload makes a new one and swaps it in.

    Each zone is an `Image`, or `(origin, ede)` for one that is not loaded (14) or has
    expired (24): questions for it get SERVFAIL. `expires` maps origins of secondary zones to seconds.
    """

    cdef dns_zones *z
    cdef tuple images

    def __cinit__(self, zones=(), *, expires=None):
        cdef Image image
        cdef int failed
        cdef dns_key key = process_key
        zones = tuple(zones)
        expires = expires or {}
        self.images = tuple(z for z in zones if isinstance(z, Image))
        if self.images:
            image = self.images[0]
            key = image.image.key
        self.z = dns_zones_new(len(zones), &key)
        if self.z == NULL:
            raise MemoryError
        for zone in zones:
            if isinstance(zone, Image):
                image = zone
                failed = dns_zones_add(self.z, image.image.origin, image.image.origin_len, image.image, 0,
                                       expires.get(image.origin, 0))
                origin = image.origin
            else:
                origin, ede = zone
                failed = dns_zones_add(self.z, <const uint8_t *>PyBytes_AS_STRING(origin), len(origin), NULL, ede, 0)
            if failed:
                raise ValueError(f"zone {name_text(origin)} is given twice, or its image was made with another key.")
        with nogil:
            failed = dns_zones_seal(self.z)
        if failed:
            raise MemoryError

    def __dealloc__(self):
        dns_zones_free(self.z)

    def __len__(self):
        return self.z.count

    def answer(self, Question q not None, int flags=0):
        """The reply to `q` from these zones as bytes, or None when no zone encloses the name (spec 3.1)."""
        cdef uint16_t rcode
        cdef size_t n = dns_zones_answer(self.z, &q.settings.s, &q.c, q.kept, &q.q, flags, answer_room, &rcode)
        return PyBytes_FromStringAndSize(<char *>answer_room, n) if n else None

    def encloses(self, Question q not None):
        """Whether one of the zones holds the name of `q`."""
        return dns_zones_find(self.z, &q.q, 0) != NULL

    def bench(self, list queries, Server server not None, int rounds=1):
        """CPU seconds of parsing and answering `queries` (bytes) `rounds` times in C; for bench/ only."""
        cdef dns_query q
        cdef dns_client c
        cdef uint16_t rcode
        cdef size_t total = 0
        cdef int r
        cdef Py_ssize_t i, n = len(queries)
        cdef const uint8_t **at = <const uint8_t **>malloc(n * sizeof(void *))
        cdef size_t *size = <size_t *>malloc(n * sizeof(size_t))
        memset(&c, 0, sizeof(c))
        c.ip_len = 4
        for i in range(n):
            at[i] = <const uint8_t *>PyBytes_AS_STRING(queries[i])
            size[i] = len(queries[i])
        started = time.thread_time()
        with nogil:
            for r in range(rounds):
                for i in range(n):
                    if dns_query_parse(at[i], size[i], &server.s.key, &q) == 0:
                        total += dns_zones_answer(self.z, &server.s, &c, at[i], &q, 0, answer_room, &rcode)
        took = time.thread_time() - started
        free(at)
        free(size)
        return took, total
