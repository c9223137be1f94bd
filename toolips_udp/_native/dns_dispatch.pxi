# From a passed datagram to a plain Python function and back. Included by dns.pyx.

from asyncio import CancelledError, current_task

from cpython.ref cimport Py_XDECREF, PyObject

cdef extern from "Python.h":
    const int PYGEN_RETURN
    const int PYGEN_NEXT
    int PyIter_Send(object coro, object value, PyObject **result) except -1


cdef class Done:
    """What an async handler that has nothing to wait for returns: it ends at the first step."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

cdef Done DONE = Done()


cdef class Waiting:
    """An async handler on its way: what the endpoint steps, and its task from the first wait on.

    A coroutine in all but type: it steps the handler, writes the value that it returns, and
    leaves to `finish` (a coroutine of the service) what is more than records.
    """

    cdef Dispatcher dispatcher
    cdef Connection connection
    cdef Question question
    cdef object handler, coro, task
    cdef readonly bint done
    cdef bint late, finishing

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef PyObject *result = NULL
        cdef int status = 0
        try:
            status = PyIter_Send(self.coro, value, &result)
        except BaseException as error:
            self.failed(error)
        given = <object>result
        Py_XDECREF(result)
        if status == PYGEN_RETURN:
            return self.returned(given)
        if self.task is None:
            self.task = current_task()
            self.handler.deadlines.add(self)
        return given

    def throw(self, error, value=None, traceback=None):
        try:
            given = self.coro.throw(error)
        except StopIteration as over:
            return self.returned(over.value)
        except BaseException as raised:
            self.failed(raised)
        return given

    def close(self):
        self.coro.close()
        self.end()

    def expire(self):
        """The handler's time is over: its task is cancelled, and the question gets SERVFAIL."""
        if not self.done:
            self.late = True
            self.task.cancel()

    cdef object returned(self, value):
        cdef Question q = self.question
        cdef Connection c = self.connection
        cdef Dispatcher dispatcher = self.dispatcher
        if self.finishing or dispatcher.write(c, q, value):
            self.end()
            dispatcher.reuse(q, c)
            raise StopIteration
        self.finishing = True
        self.coro = dispatcher.finish(c, q, self.handler, value)
        return self.send(None)

    cdef object failed(self, error):
        cdef Question q = self.question
        cdef Connection c = self.connection
        handler = self.handler
        finishing = self.finishing
        if self.late and isinstance(error, CancelledError):
            self.task.uncancel()
            error = TimeoutError(f"{handler.name} took over {handler.timeout} s")
        self.end()
        if finishing and not self.late or not isinstance(error, Exception):
            raise error
        self.dispatcher.failing(c, q)
        raise self.dispatcher.failed(handler, q, error) from error

    cdef void end(self):
        if not self.done:
            self.done = True
            self.handler.in_flight -= 1
            self.handler.deadlines.trim()
            self.question = None
            self.connection = None
            self.coro = self.task = None


cdef class Group:
    """The plain handlers of one base name: for the name itself and for names below it, by type (0: all types)."""

    cdef int labels
    cdef dict exact, below

    def __init__(self, int labels, dict exact, dict below):
        self.labels = labels
        self.exact = exact
        self.below = below

    cdef object find(self, int labels, int qtype):
        cdef dict table = self.exact if labels == self.labels else self.below
        found = table.get(qtype)
        return table.get(0) if found is None else found


cdef class Dispatcher:
    """The handler of a DNS service on the native endpoint: plain functions are called here, the rest goes to `fallback`.

    `passed(c)` is the service's coroutine for a datagram that the stage has passed on, `fallback(c)` that for
    one that no stage has seen. `finish(c, q, handler, value)` is its
    coroutine for a value that is more than records. `question` is the class handed to functions,
    `record` and `answer` the classes whose values are written here. `groups` are numbered as the
    stage's ASK_PYTHON rules are.
    """

    cdef Stage stage
    cdef object fallback, passed, finish, failed, question, record, answer
    cdef list groups
    cdef bint recursive
    cdef Question spare
    cdef public bint plain  # nobody watches answers: functions may be called here

    def __init__(self, Stage stage not None, *, fallback, passed, finish, failed, question, record, answer):
        self.stage = stage
        self.fallback = fallback
        self.passed = passed
        self.finish = finish
        self.failed = failed
        self.question = question
        self.record = record
        self.answer = answer
        self.groups = []
        self.plain = True

    def set_groups(self, groups, bint recursive):
        """`groups` of `(labels, {type: handler}, {type: handler})`, by rule number."""
        self.groups = [Group(*group) for group in groups]
        self.recursive = recursive

    def __call__(self, c):
        cdef Connection conn
        cdef dns_notes *notes
        cdef Group group
        cdef Question q
        if not isinstance(c, Connection):
            return self.fallback(c)  # the portable transport has no stages
        conn = <Connection>c
        if conn.slot == NULL:
            return self.passed(c)
        notes = dns_stage_notes(&self.stage.s, conn.slot)
        if self.stage.proxied:
            conn._address = client_address(&notes.client)
        if not self.plain:
            return self.passed(c)
        if notes.python == 0 or notes.python > len(self.groups):
            return self.passed(c)
        group = <Group>self.groups[notes.python - 1]
        handler = group.find(notes.q.labels, notes.q.qtype)
        if handler is None or handler is False:
            return self.passed(c)
        q = self.spare
        self.spare = None
        if q is None:
            q = self.question.__new__(self.question)
        self.fill(q, conn, notes)
        if handler.is_async:
            return self.begin(conn, q, handler)
        try:
            value = handler.fn(q)
        except Exception as error:
            self.failing(conn, q)
            raise self.failed(handler, q, error) from error
        if not self.write(conn, q, value):
            return self.finish(c, q, handler, value)
        self.reuse(q, conn)
        return DONE

    cdef Waiting begin(self, Connection c, Question q, handler):
        """An async handler: called here, stepped by the endpoint."""
        cdef Waiting waiting
        if handler.in_flight >= handler.at_most:
            self.failing(c, q)
            raise self.failed(handler, q, handler.too_many())
        waiting = Waiting.__new__(Waiting)
        waiting.dispatcher = self
        waiting.connection = c
        waiting.question = q
        waiting.handler = handler
        waiting.coro = handler.fn(q)
        handler.in_flight += 1
        return waiting

    cdef void reuse(self, Question q, Connection c):
        """The question is answered: the next one may have its object, if nobody kept it."""
        q.connection = None
        if Py_REFCNT(q) == 1:
            self.spare = q
        else:
            q.connection = c

    cdef void fill(self, Question q, Connection conn, dns_notes *notes):
        memcpy(&q.q, &notes.q, <size_t>(<char *>&notes.q.hashes[notes.q.labels + 1] - <char *>&notes.q))
        q.c = notes.client
        q.settings = self.stage.server
        q.result = 0
        q.keep(conn.slot.data)
        q._name = q._labels = None
        q.connection = conn
        q.verified = notes.verified
        q.may_recurse = (notes.meaning & DNS_MAY_RECURSE) != 0
        q.renew()

    cdef bint write(self, Connection conn, Question q, value) except -1:
        """Writes a record, or several, as the answer. False: it is something else."""
        cdef dns_writer w
        cdef uint16_t counts[3]
        cdef size_t n
        cdef uint16_t flags = DNS_AA
        if self.recursive and q.may_recurse:
            flags |= DNS_RA
        kind = type(value)
        memcpy(answer_room, q.kept, q.q.question_end)
        dns_writer_begin(&w, answer_room, q.q.question_end, dns_reply_limit(&q.settings.s, &q.c, &q.q)
                         - dns_opt_size(&q.settings.s, &q.c, &q.q, NULL))
        counts[0] = counts[1] = counts[2] = 0
        if kind is self.record:
            done = self.put(&w, q, value, counts)
        else:
            if kind is self.answer:
                if (value.rcode or value.share or value.scope or value.ede is not None or value.authority or value.additional
                        or not value.records):
                    return False
                value = value.records
            elif kind is not list and kind is not tuple:
                return False
            if not value:
                return False
            done = True
            for record in value:
                if type(record) is not self.record:
                    return False
                done = done and self.put(&w, q, record, counts)
        if done:
            n = dns_reply_finish(answer_room, w.at, &q.settings.s, &q.c, q.kept, &q.q, flags, 0, counts, NULL)
        else:
            n = dns_error_write(answer_room, &q.settings.s, &q.c, q.kept, &q.q, flags | DNS_TC, 0, NULL)
        conn.reply(answer_room, n)
        self.told(conn, q, 0, DNS_EDE_NONE, answer_room, n)
        return True

    cdef int told(self, Connection conn, Question q, int rcode, int ede, const uint8_t *reply, size_t n) except -1:
        """An answer of a function has gone out: count it and note it in the log."""
        self.stage.s.answers[DNS_FROM_PYTHON][rcode] += 1
        self.stage.s.transports[0] += 1
        if self.stage.s.log != NULL:
            dns_log_note(self.stage.s.log, &q.c, &q.q, <uint64_t>q.c.now * 1000000000, 0, DNS_FROM_PYTHON, rcode, ede, 0)
        if self.stage.s.tap != NULL:
            packet, now = conn.packet, time.time_ns()
            dns_tap_answer(self.stage.s.tap, &q.c, <const uint8_t *>PyBytes_AS_STRING(packet), len(packet), reply, n,
                           now, now)
        return 0

    cdef int failing(self, Connection conn, Question q) except -1:
        """SERVFAIL for a function that failed."""
        cdef bytes reply = q.error(DNS_SERVFAIL, DNS_RA if self.recursive and q.may_recurse else 0, 0)
        conn.respond(reply)
        return self.told(conn, q, DNS_SERVFAIL, 0, <const uint8_t *>PyBytes_AS_STRING(reply), len(reply))

    cdef bint put(self, dns_writer *w, Question q, record, uint16_t *counts) except -1:
        cdef bytes data = record.data
        cdef const uint8_t *owner = NULL
        name = record.owner
        if name is not None:
            owner = <const uint8_t *>PyBytes_AS_STRING(name)
        if counts[0] == 0:
            dns_writer_know(w, q.kept + 12, 12, 0)
        if dns_writer_record(w, owner, record.type, 1, record.ttl, <const uint8_t *>PyBytes_AS_STRING(data),
                             len(data)) < 0:
            return False
        counts[0] += 1
        return True
