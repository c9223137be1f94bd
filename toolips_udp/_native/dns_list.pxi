# Lists of names read from text. Included by dns.pyx.

cdef extern from "dns_list.h" nogil:
    ctypedef struct dns_named:
        uint64_t hash
    ctypedef struct dns_names:
        size_t count, room
    ctypedef struct dns_list_line:
        size_t start, end
        uint32_t number
    ctypedef struct dns_list:
        dns_rules *rules
        dns_names *set[4]
        uint64_t count
        dns_list_line *left
        size_t lefts
    int dns_names_add(dns_names *names, uint64_t hash, uint32_t line)
    void dns_names_seal(dns_names *names)
    uint32_t dns_names_find(const dns_names *names, uint64_t hash)
    void dns_names_free(dns_names *names)
    uint32_t dns_list_lines(const uint8_t *text, size_t len)
    int dns_list_read(dns_list *list, int kind, const uint8_t *text, size_t len)

LIST_KINDS = {"hosts": 0, "names": 1, "adblock": 2}


cdef class NameSet:
    """Wire names with a number above 0 each, 16 octets for a name: `add` all, then `seal`, then `find`."""

    cdef dns_names n

    def __dealloc__(self):
        dns_names_free(&self.n)

    cdef uint64_t hash_of(self, bytes name) except? 0:
        cdef dns_query q
        if dns_name_check(<const uint8_t *>PyBytes_AS_STRING(name), len(name)) < 0:
            raise FormatError(f"{name!r} is not a wire name.")
        dns_query_name(&q, <const uint8_t *>PyBytes_AS_STRING(name), len(name), &process_key)
        return q.hash

    def add(self, bytes name not None, uint32_t number):
        if dns_names_add(&self.n, self.hash_of(name), number) < 0:
            raise MemoryError

    def seal(self):
        """Sort what was added; of equal names the lowest number stays."""
        with nogil:
            dns_names_seal(&self.n)

    def find(self, bytes name not None):
        """The number of this very name, or None."""
        return dns_names_find(&self.n, self.hash_of(name)) or None

    def __len__(self):
        return self.n.count

    @property
    def octets(self):
        return self.n.room * sizeof(dns_named)


def read_list(const uint8_t[::1] text not None, str kind not None, NameSet exact not None, NameSet below not None,
              NameSet allow_exact not None, NameSet allow_below not None):
    """Read the plain lines of a list (`hosts`, `names`, `adblock`) into rules and sets, without the GIL.

    Returns `(rules, count, left)`: the Rules, how many there are, and the lines that C does not
    judge as `(number, octets)`. The sets are to be sealed by the caller.
    """
    cdef dns_list l
    cdef Rules made = Rules.__new__(Rules)
    cdef size_t size = text.shape[0], i
    cdef const uint8_t *at = &text[0] if size else NULL
    cdef int number = LIST_KINDS[kind], failed
    memset(&l, 0, sizeof(l))
    l.set[0], l.set[1], l.set[2], l.set[3] = &exact.n, &below.n, &allow_exact.n, &allow_below.n
    with nogil:
        dns_rules_free(made.r)
        made.r = dns_rules_new(dns_list_lines(at, size), size, &process_key)
        l.rules = made.r
        failed = -1 if made.r == NULL else dns_list_read(&l, number, at, size)
    try:
        if failed:
            raise MemoryError
        left = [(l.left[i].number, bytes(text[l.left[i].start:l.left[i].end])) for i in range(l.lefts)]
    finally:
        free(l.left)
    return made, l.count, left
