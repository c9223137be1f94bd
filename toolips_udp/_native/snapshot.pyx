# distutils: sources = native/snapshot.c
"""Snapshots made in C: binds native/snapshot.c. Called by game/snapshot.py; game/making.py is its Python twin.

Frames are `bytes`: rows of 32-bit words, so that clients may share them and rings of them cost no more than
their numbers. Scratch memory belongs to the plan of one `Snapshots` and grows with its largest room.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport floor
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset


cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1

cdef extern from "snapshot.h":
    enum: SNAP_IDS, SNAP_STEP, SNAP_WHOLE, SNAP_ROUND, SNAP_FIELDS
    const uint32_t SNAP_JUMP
    ctypedef struct snap_shape:
        uint32_t fields
        uint8_t *bits
        uint8_t *kind
    ctypedef struct snap_place:
        pass
    ctypedef struct snap_grid:
        double size, inner, outer
        uint32_t buckets
        uint32_t *starts
        snap_place *places
    ctypedef struct snap_urgent:
        double urgency
        uint64_t id
    ctypedef struct snap_choice:
        const uint32_t *now
        const uint32_t *base
        size_t rows, base_rows
        const uint64_t *visible
        const double *weight
        const snap_urgent *urgent
        size_t urgents
        uint32_t own
        uint8_t *state
        uint32_t *cost
        uint32_t *order
        double *urgency
        uint32_t *frame
        size_t frame_rows
        snap_urgent *left
        size_t lefts
    uint64_t snap_delta(const snap_shape *shape, const uint32_t *base, size_t base_rows, const uint32_t *frame,
                        size_t frame_rows, uint8_t *out, size_t room) nogil
    void snap_grid_fill(snap_grid *grid, const snap_shape *shape, const uint32_t *frame, size_t rows,
                        const double *x, const double *y) nogil
    void snap_around(const snap_grid *grid, double x, double y, uint32_t own, const uint64_t *held,
                     uint64_t *visible) nogil
    void snap_hold(const snap_shape *shape, const uint32_t *frame, size_t rows, uint64_t *held, int on) nogil
    uint64_t snap_choose(const snap_shape *shape, snap_choice *c, uint8_t *out, size_t room) nogil


cdef enum:
    PLAIN, LINE, TURN, OTHER  # how a field's value becomes its whole number: see `Field.recipe`


cdef class Plan:
    """What all snapshots of one kind have in common. `near` is None or the view; `budget` bytes of the bits."""

    cdef snap_shape shape
    cdef int how[SNAP_FIELDS]
    cdef double low[SNAP_FIELDS]
    cdef double scale[SNAP_FIELDS]
    cdef int64_t top[SNAP_FIELDS]
    cdef list q
    cdef object get, near
    cdef size_t budget, room  # bytes; rows that the scratch holds
    cdef int x, y  # which fields are the place
    cdef void *memory
    cdef uint8_t *out
    cdef double *xs
    cdef double *ys
    cdef double *weights
    cdef uint64_t *held
    cdef uint64_t *visible
    cdef snap_grid grid
    cdef snap_choice choice
    cdef readonly object made  # the Made that the scratch belongs to now

    def __cinit__(self, dict fields, object get, object near, size_t budget):
        self.shape.fields = <uint32_t>len(fields)
        self.get, self.near, self.budget, self.q = get, near, budget, []
        if len(fields) > SNAP_FIELDS:
            raise ValueError(f"at most {SNAP_FIELDS} fields, found {len(fields)}")
        names = list(fields)
        for n, field in enumerate(fields.values()):
            self.shape.bits[n] = field.bits
            self.shape.kind[n] = SNAP_WHOLE if field.raw else SNAP_ROUND if field.wraps else SNAP_STEP
            how, self.low[n], self.scale[n], self.top[n] = field.recipe()
            self.how[n] = {"plain": PLAIN, "line": LINE, "turn": TURN}.get(how, OTHER)
            self.q.append(field.q)
        if near is not None:
            self.x, self.y = names.index(near.x), names.index(near.y)
            self.grid.size = near.radius * near.out
            self.grid.inner, self.grid.outer = near.radius**2, self.grid.size**2

    def __dealloc__(self):
        PyMem_Free(self.memory)

    cdef int grow(self, size_t rows) except -1:
        """Make the scratch large enough; one piece of memory for all of it."""
        cdef size_t words = 1 + self.shape.fields, buckets = 16, size
        cdef char *at
        if self.memory != NULL and rows <= self.room:
            return 0
        rows = rows + rows // 2 + 64
        while buckets < rows:
            buckets *= 2
        # 8-byte things first, so that all are aligned
        size = (
            rows * 8 * 4 + SNAP_IDS // 8 + (rows // 64 + 1) * 8 + rows * (sizeof(snap_place) + sizeof(snap_urgent))
            + (buckets + 1) * 4 + rows * 8 + rows * words * 4 + rows + self.budget + 64
        )
        PyMem_Free(self.memory)
        self.room = 0
        self.memory = PyMem_Malloc(size)
        if self.memory == NULL:
            raise MemoryError
        memset(self.memory, 0, size)
        at = <char *>self.memory
        self.xs = <double *>at; at += rows * 8
        self.ys = <double *>at; at += rows * 8
        self.weights = <double *>at; at += rows * 8
        self.choice.urgency = <double *>at; at += rows * 8
        self.held = <uint64_t *>at; at += SNAP_IDS // 8
        self.visible = <uint64_t *>at; at += (rows // 64 + 1) * 8
        self.choice.left = <snap_urgent *>at; at += rows * sizeof(snap_urgent)
        self.grid.places = <snap_place *>at; at += rows * sizeof(snap_place)
        self.grid.starts = <uint32_t *>at; at += (buckets + 1) * 4
        self.choice.cost = <uint32_t *>at; at += rows * 4
        self.choice.order = <uint32_t *>at; at += rows * 4
        self.choice.frame = <uint32_t *>at; at += rows * words * 4
        self.choice.state = <uint8_t *>at; at += rows
        self.out = <uint8_t *>at
        self.grid.buckets = <uint32_t>buckets
        self.room = rows
        return 0

    cdef int64_t whole(self, int n, object value) except -1:
        """A field's value as its whole number; rare kinds ask the field."""
        cdef double v
        cdef int64_t q
        cdef int over = 0
        if self.how[n] == PLAIN:
            if PyLong_CheckExact(value):
                q = PyLong_AsLongLongAndOverflow(value, &over)
                if over:
                    return self.top[n] if over > 0 else 0
                return min(max(q, 0), self.top[n])
        elif self.how[n] != OTHER:
            if PyFloat_CheckExact(value):
                v = PyFloat_AS_DOUBLE(value)
            elif PyLong_CheckExact(value):
                q = PyLong_AsLongLongAndOverflow(value, &over)
                if over or not -(1 << 52) < q < 1 << 52:
                    return self.q[n](value)
                v = <double>q
            else:
                return self.q[n](value)
            v = floor((v - self.low[n]) * self.scale[n] + 0.5)
            if not -4503599627370496.0 < v < 4503599627370496.0:  # also when it is no number
                return self.q[n](value)
            q = <int64_t>v
            if self.how[n] == TURN:
                return (q % (self.top[n] + 1) + self.top[n] + 1) % (self.top[n] + 1)
            return min(max(q, 0), self.top[n])
        return self.q[n](value)


cdef class Made:
    """One snapshot of a room: `body(urgent, base, own)` gives each client its bits. Valid until the plan makes another."""

    cdef Plan plan
    cdef readonly bytes now
    cdef size_t rows
    cdef dict bodies

    def __init__(self, Plan plan, list entities):
        """`entities` by rising id."""
        cdef size_t words = 1 + plan.shape.fields, n, i, fields = plan.shape.fields
        cdef uint32_t *row
        cdef tuple values
        cdef int64_t q
        self.plan, self.bodies, self.rows = plan, {}, len(entities)
        plan.made = self
        plan.grow(self.rows)
        self.now = PyBytes_FromStringAndSize(NULL, self.rows * words * 4)
        row = <uint32_t *>PyBytes_AS_STRING(self.now)
        near = plan.near
        weigh = None if near is None else near.weight
        plan.choice.weight = NULL if weigh is None else plan.weights
        for n in range(self.rows):
            entity = entities[n]
            values = plan.get(entity)
            row[0] = <uint32_t>entity.id | <uint32_t>entity._jumps * SNAP_JUMP
            for i in range(fields):
                q = plan.whole(<int>i, values[i])
                row[1 + i] = <uint32_t>q
            if near is not None:
                plan.xs[n], plan.ys[n] = values[plan.x], values[plan.y]
                if weigh is not None:
                    plan.weights[n] = weigh(entity)
            row += words
        if near is not None:
            snap_grid_fill(
                &plan.grid, &plan.shape, <const uint32_t *>PyBytes_AS_STRING(self.now), self.rows, plan.xs, plan.ys
            )

    def body(self, bytes urgent, bytes base, object own):
        """The bits for a client with this base and this own entity; what it will hold; what it still misses."""
        cdef Plan plan = self.plan
        cdef snap_choice *c = &plan.choice
        cdef size_t words = 1 + plan.shape.fields
        cdef uint64_t bits
        cdef tuple whole
        if plan.made is not self:
            raise RuntimeError("this snapshot is over: its plan has made another one")
        c.base = <const uint32_t *>PyBytes_AS_STRING(base)
        c.base_rows = PyBytes_GET_SIZE(base) // (words * 4)
        c.now = <const uint32_t *>PyBytes_AS_STRING(self.now)
        c.rows = self.rows
        c.own = 0 if own is None else own.id
        c.visible = NULL
        if plan.near is None:
            whole = self.bodies.get(id(base))
            if whole is None:
                bits = snap_delta(&plan.shape, c.base, c.base_rows, c.now, c.rows, plan.out, plan.budget)
                whole = self.bodies[id(base)] = (base, self.packed(bits) if bits <= plan.budget * 8 else None)
            if whole[1] is not None:
                return whole[1], self.now, b""
        elif own is not None:
            self.look(own)
            c.visible = plan.visible
        c.urgent = <const snap_urgent *>PyBytes_AS_STRING(urgent)
        c.urgents = PyBytes_GET_SIZE(urgent) // sizeof(snap_urgent)
        bits = snap_choose(&plan.shape, c, plan.out, plan.budget)
        if bits > plan.budget * 8:
            return None
        frame = PyBytes_FromStringAndSize(<char *>c.frame, c.frame_rows * words * 4)
        left = PyBytes_FromStringAndSize(<char *>c.left, c.lefts * sizeof(snap_urgent))
        return self.packed(bits), frame, left

    cdef bytes packed(self, uint64_t bits):
        return PyBytes_FromStringAndSize(<char *>self.plan.out, (bits + 7) // 8)

    cdef int look(self, object own) except -1:
        """Mark what is in view from a client's own entity."""
        cdef Plan plan = self.plan
        cdef snap_choice *c = &plan.choice
        cdef double x = getattr(own, plan.near.x), y = getattr(own, plan.near.y)
        memset(plan.visible, 0, (self.rows // 64 + 1) * 8)
        snap_hold(&plan.shape, c.base, c.base_rows, plan.held, 1)
        snap_around(&plan.grid, x, y, c.own, plan.held, plan.visible)
        snap_hold(&plan.shape, c.base, c.base_rows, plan.held, 0)
        return 0
