# Addresses on the way between C and Python, and the table of clients.

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *src, char *dst, unsigned size)
    int inet_pton(int family, const char *src, void *dst)
    uint16_t htons(uint16_t n)
    uint16_t ntohs(uint16_t n)

cdef extern from "net/if.h" nogil:
    char *if_indextoname(unsigned index, char *name)
    unsigned if_nametoindex(const char *name)

cdef object make_tuple = tuple.__new__


cdef object address_of_key(const tudp_key *key):
    """The Address of a canonical key: IPv4 peers of a dual-stack socket are plain IPv4."""
    cdef char text[64]
    cdef char name[32]
    if key.ip[10] == 0xFF and key.ip[11] == 0xFF and memcmp(key.ip, ZEROS, 10) == 0:
        inet_ntop(AF_INET, key.ip + 12, text, sizeof(text))
        host = (<bytes>text).decode("ascii")
    else:
        inet_ntop(AF_INET6, key.ip, text, sizeof(text))
        host = (<bytes>text).decode("ascii")
        if key.scope:
            if if_indextoname(key.scope, name) != NULL:
                host = f"{host}%{(<bytes>name).decode('ascii', 'replace')}"
            else:
                host = f"{host}%{key.scope}"
    return make_tuple(Address, (host, key.port))


cdef int fill_sockaddr(object to, int family, tudp_sockaddr *out) except -1:
    """Read an Address (or what `Address.parse` takes) into a kernel address of the socket's family."""
    cdef in_addr four
    if type(to) is not Address:
        to = Address.parse(to)
    host, port = <tuple>to
    memset(out, 0, sizeof(out[0]))
    raw = (<str>host).encode("ascii")
    if inet_pton(AF_INET, raw, &four) == 1:
        if family == AF_INET:
            out.in4.sin_family = AF_INET
            out.in4.sin_port = htons(port)
            out.in4.sin_addr = four
        else:
            out.in6.sin6_family = AF_INET6
            out.in6.sin6_port = htons(port)
            out.in6.sin6_addr.s6_addr[10] = out.in6.sin6_addr.s6_addr[11] = 0xFF
            memcpy(out.in6.sin6_addr.s6_addr + 12, &four, 4)
        return 0
    literal, _, scope = raw.partition(b"%")
    if family != AF_INET6:
        raise ValueError(f"cannot send to {to}: this server's socket is IPv4. Fix: listen on [::] or another IPv6 address")
    if inet_pton(AF_INET6, literal, out.in6.sin6_addr.s6_addr) != 1:
        raise ValueError(f"cannot send to {host!r}: an IP literal is needed. Fix: Address.resolve, once, outside the handlers")
    out.in6.sin6_family = AF_INET6
    out.in6.sin6_port = htons(port)
    if scope:
        out.in6.sin6_scope_id = int(scope) if scope.isdigit() else if_nametoindex(scope)
    return 0


cdef int fill_key(object who, tudp_key *out) except -1:
    cdef tudp_sockaddr address
    fill_sockaddr(who, AF_INET6, &address)
    tudp_key_of(&address, out)
    return 0


cdef class ClientTable:
    """Remembers a value per client address, in memory that does not grow.

    The native form of `toolips_udp.clients.ClientTable`, with the same rules:
    silent for `ttl` seconds is forgotten, at most `most` are held, the longest
    silent one makes room, and then `gone(address, value)` is called.
    """

    def __cinit__(self, double ttl, uint32_t most, gone=None, bint by_ip=False):
        cdef uint64_t seed[2]
        if not ttl > 0 or most < 1 or most > 1 << 26:
            raise ValueError(f"a client table needs a time above 0 and room for 1 to 67,108,864, found {ttl=}, {most=}")
        random = os.urandom(16)
        memcpy(seed, <const char *>random, 16)
        self.table = tudp_clients_init(PyMem_RawCalloc(1, tudp_clients_size(most)), most, seed)
        self.values = []
        self.ttl = ttl
        self.ttl_ns = <uint64_t>(ttl * 1e9)
        self.rest_ns = self.ttl_ns // 64
        self.gone = gone
        self.by_ip = by_ip

    def __dealloc__(self):
        PyMem_RawFree(self.table)

    def __len__(self):
        return self.table.count

    cdef object find(self, const tudp_sockaddr *peer, uint64_t now):
        """The value, or None. The client was heard now."""
        cdef tudp_key key
        tudp_key_of(peer, &key)
        return self.find_key(&key, now)

    cdef object find_key(self, tudp_key *key, uint64_t now):
        cdef tudp_client *client
        cdef uint32_t number
        if self.by_ip:
            key.port = 0
        number = tudp_clients_find(self.table, key)
        if number == TUDP_NOBODY:
            return None
        client = tudp_clients_at(self.table, number)
        if now > client.seen + self.rest_ns:  # an exact order of silence is not worth a write per packet
            if now > client.seen + self.ttl_ns:
                self.drop(number)
                return None
            tudp_clients_touch(self.table, number, now)
        return self.values[number]

    cdef int put(self, tudp_key *key, object value, uint64_t now) except -1:
        cdef int fresh = 0
        cdef uint32_t number
        if self.by_ip:
            key.port = 0
        if self.table.count == self.table.most and tudp_clients_find(self.table, key) == TUDP_NOBODY:
            self.drop(self.table.oldest)
        if self.table.count == <uint32_t>len(self.values):
            self.values.append(None)  # first: a client in the table always has a place here, also without memory
        number = tudp_clients_place(self.table, key, now, &fresh)
        self.values[number] = value
        return 0

    cdef int drop(self, uint32_t number) except -1:
        cdef tudp_key key = tudp_clients_at(self.table, number).key
        value = self.values[number]
        self.values[number] = None
        tudp_clients_remove(self.table, number)
        if self.gone is not None:
            self.gone(address_of_key(&key), value)
        return 0

    cdef object take(self, tudp_key *key):
        cdef uint32_t number
        if self.by_ip:
            key.port = 0
        number = tudp_clients_find(self.table, key)
        if number == TUDP_NOBODY:
            return None
        value = self.values[number]
        self.values[number] = None
        tudp_clients_remove(self.table, number)
        return value

    def place(self, client, value, double now):
        """Remember `value` for this client, who was heard just now."""
        cdef tudp_key key
        cdef uint32_t number
        fill_key(client, &key)
        if self.by_ip:
            key.port = 0
        number = tudp_clients_find(self.table, &key)
        if number != TUDP_NOBODY:
            tudp_clients_touch(self.table, number, <uint64_t>(now * 1e9))
        self.expire(now)
        self.put(&key, value, <uint64_t>(now * 1e9))

    def lookup(self, client, double now):
        """The client's value, or None. The client was heard just now."""
        cdef tudp_key key
        fill_key(client, &key)
        return self.find_key(&key, <uint64_t>(now * 1e9))

    def remove(self, client):
        """Forget this client; its value, or None when it was not known."""
        cdef tudp_key key
        fill_key(client, &key)
        return self.take(&key)

    def expire(self, double now):
        """Forget everybody who is silent for too long. Costs nothing when nobody is."""
        cdef uint64_t at = <uint64_t>(now * 1e9)
        cdef uint32_t number
        if at <= self.ttl_ns:
            return
        while True:
            number = tudp_clients_expired(self.table, at - self.ttl_ns)
            if number == TUDP_NOBODY:
                return
            self.drop(number)

    def items(self):
        """Every client and its value, the longest silent first."""
        cdef uint32_t number = self.table.oldest
        found = []
        while number != TUDP_NOBODY:
            found.append((address_of_key(&tudp_clients_at(self.table, number).key), self.values[number]))
            number = tudp_clients_at(self.table, number).newer
        return found

    def __iter__(self):
        return iter([client for client, _ in self.items()])
