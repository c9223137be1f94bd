# What a handler holds in its hand, as far as it is in the path of every packet.


cdef class SlotBuffer:
    """Lends the memory of a slot to a memoryview.

    A slot whose buffer is still lent when its turn ends gets a fresh one, so a
    kept view never shows another client's packet.
    """

    cdef uint8_t *data
    cdef Py_ssize_t size
    cdef Py_ssize_t lent
    cdef bint owned            # the memory is ours to give back
    cdef Endpoint endpoint     # keeps the memory alive

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)
        self.lent += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.lent -= 1

    def __dealloc__(self):
        if self.owned:
            PyMem_RawFree(self.data)


cdef class Connection:
    """One datagram in: the native half of `UDPConnection`."""

    cdef const tudp_sockaddr *who(self) noexcept:
        return &self.slot.from_ if self.slot != NULL else &self.peer

    cdef const tudp_local *where(self) noexcept:
        return &self.slot.local if self.slot != NULL else &self.local

    cdef int leave(self) except -1:
        """The turn ends while somebody still holds this: take along what lies in the slot."""
        if self.slot != NULL:
            if self._packet is None:
                self._packet = PyBytes_FromStringAndSize(<char *>self.slot.data, self.slot.len)
            self.peer = self.slot.from_
            self.local = self.slot.local
            self.slot = NULL
        return 0

    @property
    def packet(self):
        """The datagram, as bytes of your own."""
        if self._packet is None:
            self._packet = PyBytes_FromStringAndSize(<char *>self.slot.data, self.slot.len)
        return self._packet

    @property
    def text(self):
        """The datagram as UTF-8 text; what is not UTF-8 is replaced. Never raises."""
        if self.slot != NULL:
            return PyUnicode_DecodeUTF8(<char *>self.slot.data, self.slot.len, "replace")
        return self._packet.decode("utf-8", "replace")

    @property
    def view(self):
        """The datagram without a copy. Read-only; what you keep stays what it was."""
        if self.slot == NULL:
            return memoryview(self._packet)
        return self.endpoint.lend(self.slot)

    @property
    def address(self):
        """The client's `Address`."""
        if self._address is None:
            self._address = self.endpoint.address_of(self.who())
        return self._address

    @property
    def listener(self):
        """The `Address` of the socket that received the datagram."""
        return self.endpoint.address

    @property
    def ip(self):
        """The client's host as text."""
        return self.address[0]

    @property
    def port(self):
        """The client's port."""
        cdef const tudp_sockaddr *peer = self.who()
        return ntohs(peer.in4.sin_port if peer.sa.sa_family == AF_INET else peer.in6.sin6_port)

    @property
    def now(self):
        """When this turn began: monotonic seconds."""
        return self.now_ns / 1e9

    @property
    def server(self):
        """The `Server` that received the datagram."""
        return self.endpoint.server

    @property
    def data(self):
        """The server's shared mapping."""
        return self.endpoint.server.data

    def __getitem__(self, key):
        return self.endpoint.server.data[key]

    def __setitem__(self, key, value):
        self.endpoint.server.data[key] = value

    def __delitem__(self, key):
        del self.endpoint.server.data[key]

    def __contains__(self, key):
        return key in self.endpoint.server.data

    @property
    def session(self):
        """This client's own dict; it ends after `session_timeout` seconds of silence."""
        return self.endpoint.session_of(self.who())

    @property
    def max_reply(self):
        """The most bytes that one `respond` takes."""
        cdef double ratio = self.endpoint.max_ratio
        if ratio > 0:
            return max(0, min(TUDP_LARGEST, <Py_ssize_t>(ratio * self.bytes_in) - self.bytes_out))
        return TUDP_LARGEST

    cdef int reply(self, const uint8_t *data, size_t size) except -1:
        """Queue one datagram for the client. `TooLong` when it does not fit."""
        cdef Endpoint endpoint = self.endpoint
        if size > TUDP_LARGEST or (endpoint.max_ratio > 0 and <Py_ssize_t>size > self.max_reply):
            raise TooLong(f"an answer of {size:,} bytes to {self.address} is too long. "
                          f"Expected at most {self.max_reply:,} bytes in one datagram")
        self.answered = True
        self.bytes_out += <uint32_t>size
        if PyThread_get_thread_ident() != endpoint.thread:
            endpoint.from_afar(PyBytes_FromStringAndSize(<const char *>data, <Py_ssize_t>size), self.address, self)
            return 0
        if endpoint.closed:
            return endpoint.refuse()
        tudp_batch_push(endpoint.b, data, <uint32_t>size, self.who(), self.where())
        if not endpoint.in_turn:
            endpoint.soon()
        return 0

    def respond(self, data):
        """Answer the client that sent this packet; see `toolips_udp.respond`."""
        cdef Py_ssize_t size = 0
        cdef const char *text
        cdef Py_buffer view
        if type(data) is bytes:
            self.reply(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        elif type(data) is str:
            text = PyUnicode_AsUTF8AndSize(data, &size)
            self.reply(<const uint8_t *>text, size)
        elif PyObject_CheckBuffer(data):
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                self.reply(<const uint8_t *>view.buf, view.len)
            finally:
                PyBuffer_Release(&view)
        else:
            data = self.endpoint.encode(data, self)
            self.reply(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def send(self, data, to):
        """Send one datagram to any address, out of the server's own socket."""
        self.answered = True
        self.endpoint.send(data, to, self)

    def set_handler(self, name, client=None):
        """The next packet of this client, or of `client`, goes to the handler `name`."""
        self.endpoint.choose(self, name, client)

    def remove_handler(self, client=None):
        """The next packet of this client, or of `client`, goes to the main handler again."""
        self.endpoint.choose(self, None, client)
