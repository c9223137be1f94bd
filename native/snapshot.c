#include "snapshot.h"

#include <math.h>
#include <string.h>

/* Bits, the most significant first. What is beyond the room is counted, not written. */
typedef struct writer {
    uint8_t *out;
    size_t room, at;
    uint64_t held;
    unsigned bits; /* in held, below 8 between calls */
    uint64_t total;
} writer;

static void put(writer *w, uint64_t value, unsigned count) /* count is 48 at most */
{
    w->total += count;
    w->held = w->held << count | value;
    w->bits += count;
    while (w->bits >= 8) {
        w->bits -= 8;
        if (w->at < w->room)
            w->out[w->at] = (uint8_t)(w->held >> w->bits);
        w->at++;
    }
    w->held &= (1u << w->bits) - 1;
}

static void finish(writer *w)
{
    if (w->bits && w->at < w->room)
        w->out[w->at] = (uint8_t)(w->held << (8 - w->bits));
}

/* Exp-Golomb: small numbers in few bits. */
static unsigned length_of(uint64_t coded)
{
    return 64 - (unsigned)__builtin_clzll(coded);
}

static void put_golomb(writer *w, uint64_t value, unsigned order)
{
    uint64_t coded = value + (UINT64_C(1) << order);
    unsigned size = length_of(coded);
    put(w, 0, size - order - 1);
    put(w, coded, size);
}

static unsigned golomb_bits(uint64_t value, unsigned order)
{
    return 2 * length_of(value + (UINT64_C(1) << order)) - order - 1;
}

enum { ORDER = 3 };

/* A difference, zig-zag: 0, -1, 1, -2 are 0, 1, 2, 3. */
static uint64_t difference(const snap_shape *shape, unsigned field, uint32_t before, uint32_t value)
{
    int64_t d = (int64_t)value - (int64_t)before;
    if (shape->kind[field] == SNAP_ROUND) {
        int64_t half = INT64_C(1) << (shape->bits[field] - 1), size = 2 * half;
        d = ((d + half) % size + size) % size - half;
    }
    return ((uint64_t)d << 1) ^ (uint64_t)(d >> 63);
}

/* Since the base, which is the same entity: until a client has a snapshot that says so, each tells it. */
static unsigned jumped(const uint32_t *old, const uint32_t *row)
{
    return (old[0] ^ row[0]) >= SNAP_JUMP;
}

static void put_changed(writer *w, const snap_shape *shape, const uint32_t *old, const uint32_t *row)
{
    uint64_t mask = jumped(old, row);
    for (unsigned n = 0; n < shape->fields; n++)
        mask = mask << 1 | (old[1 + n] != row[1 + n]);
    put(w, mask, shape->fields + 1);
    if (jumped(old, row))
        put(w, row[0] / SNAP_JUMP & 1, 1);
    for (unsigned n = 0; n < shape->fields; n++) {
        if (old[1 + n] == row[1 + n])
            continue;
        if (shape->kind[n] == SNAP_WHOLE)
            put(w, row[1 + n], shape->bits[n]);
        else
            put_golomb(w, difference(shape, n, old[1 + n], row[1 + n]), ORDER);
    }
}

static uint32_t changed_bits(const snap_shape *shape, const uint32_t *old, const uint32_t *row)
{
    uint32_t bits = shape->fields + 1 + jumped(old, row);
    for (unsigned n = 0; n < shape->fields; n++)
        if (old[1 + n] != row[1 + n])
            bits += shape->kind[n] == SNAP_WHOLE
                        ? shape->bits[n]
                        : golomb_bits(difference(shape, n, old[1 + n], row[1 + n]), ORDER);
    return bits;
}

static uint32_t id_of(const uint32_t *row)
{
    return row[0] & (SNAP_IDS - 1);
}

static int same(const snap_shape *shape, const uint32_t *a, const uint32_t *b)
{
    return memcmp(a + 1, b + 1, shape->fields * sizeof *a) == 0;
}

uint64_t snap_delta(const snap_shape *shape, const uint32_t *base, size_t base_rows, const uint32_t *frame,
                    size_t frame_rows, uint8_t *out, size_t room)
{
    writer w = {.out = out, .room = room};
    const size_t words = snap_words(shape);
    const uint32_t *base_end = base + base_rows * words, *end = frame + frame_rows * words, *row = frame;
    size_t births = frame_rows;
    for (const uint32_t *old = base; old < base_end; old += words) {
        while (row < end && id_of(row) < id_of(old))
            row += words; /* a birth, told below */
        if (row == end || id_of(row) != id_of(old)) {
            put(&w, 3, 2);
            continue;
        }
        births--;
        if (same(shape, old, row)) {
            put(&w, 0, 1);
        } else {
            put(&w, 2, 2);
            put_changed(&w, shape, old, row);
        }
        row += words;
    }
    uint32_t last = 0;
    const uint32_t *old = base;
    for (row = frame; births; row += words) {
        while (old < base_end && id_of(old) < id_of(row))
            old += words;
        if (old < base_end && id_of(old) == id_of(row))
            continue;
        births--;
        put(&w, 1, 1);
        put_golomb(&w, id_of(row) - last - 1, 0);
        for (unsigned n = 0; n < shape->fields; n++)
            put(&w, row[1 + n], shape->bits[n]);
        last = id_of(row);
    }
    put(&w, 0, 1);
    finish(&w);
    return w.total;
}

/* The grid: cells by hash, as a counting sort. */

static int32_t cell(double at, double size)
{
    double n = floor(at / size);
    return n < -1e9 ? -1000000000 : n > 1e9 ? 1000000000 : (int32_t)n;
}

static uint32_t bucket(const snap_grid *grid, int32_t column, int32_t line)
{
    uint32_t mixed = (uint32_t)column * 0x9E3779B1u ^ (uint32_t)line * 0x85EBCA77u;
    return (mixed ^ mixed >> 15) & (grid->buckets - 1);
}

void snap_grid_fill(snap_grid *grid, const snap_shape *shape, const uint32_t *frame, size_t rows, const double *x,
                    const double *y)
{
    const size_t words = snap_words(shape);
    uint32_t *starts = grid->starts;
    memset(starts, 0, (grid->buckets + 1) * sizeof *starts);
    for (size_t n = 0; n < rows; n++)
        starts[bucket(grid, cell(x[n], grid->size), cell(y[n], grid->size)) + 1]++;
    for (uint32_t n = 0; n < grid->buckets; n++)
        starts[n + 1] += starts[n];
    /* Each start moves to its end while its places are filled, from the back, and so comes back. */
    for (size_t n = rows; n-- > 0;) {
        int32_t column = cell(x[n], grid->size), line = cell(y[n], grid->size);
        uint32_t at = --starts[bucket(grid, column, line) + 1];
        grid->places[at] = (snap_place){x[n], y[n], column, line, (uint32_t)n, id_of(frame + n * words)};
    }
    /* starts[b + 1] is now where bucket b begins. */
    memmove(starts, starts + 1, grid->buckets * sizeof *starts);
    starts[grid->buckets] = (uint32_t)rows;
}

void snap_around(const snap_grid *grid, double x, double y, uint32_t own, const uint64_t *held, uint64_t *visible)
{
    const int32_t column = cell(x, grid->size), line = cell(y, grid->size);
    for (int32_t i = column - 1; i <= column + 1; i++)
        for (int32_t j = line - 1; j <= line + 1; j++) {
            uint32_t b = bucket(grid, i, j);
            for (uint32_t n = grid->starts[b]; n < grid->starts[b + 1]; n++) {
                const snap_place *p = &grid->places[n];
                if (p->column != i || p->line != j)
                    continue;
                double d = (p->x - x) * (p->x - x) + (p->y - y) * (p->y - y);
                if (d <= grid->inner || p->id == own ||
                    (d <= grid->outer && held[p->id >> 6] >> (p->id & 63) & 1))
                    visible[p->row >> 6] |= UINT64_C(1) << (p->row & 63);
            }
        }
}

void snap_hold(const snap_shape *shape, const uint32_t *frame, size_t rows, uint64_t *held, int on)
{
    const size_t words = snap_words(shape);
    for (size_t n = 0; n < rows; n++) {
        uint32_t id = id_of(frame + n * words);
        if (on)
            held[id >> 6] |= UINT64_C(1) << (id & 63);
        else
            held[id >> 6] = 0;
    }
}

/* The choice. A row of now is out of view, unchanged, chosen, or left for later. */
enum { HIDDEN, UNCHANGED, CHOSEN, LEFT };

static int seen(const snap_choice *c, size_t row)
{
    return !c->visible || (c->visible[row >> 6] >> (row & 63) & 1);
}

/* State and cost of each row; the bits of all changes; how many of the base are gone. */
static uint64_t reckon(const snap_shape *shape, snap_choice *c, size_t *changes, size_t *gone)
{
    const size_t words = snap_words(shape);
    const uint32_t *old = c->base, *base_end = c->base + c->base_rows * words;
    uint32_t whole = 8;
    uint64_t total = 0;
    size_t met = 0;
    for (unsigned n = 0; n < shape->fields; n++)
        whole += shape->bits[n];
    *changes = 0;
    for (size_t n = 0; n < c->rows; n++) {
        const uint32_t *row = c->now + n * words;
        c->state[n] = HIDDEN;
        if (!seen(c, n))
            continue;
        while (old < base_end && id_of(old) < id_of(row))
            old += words;
        if (old < base_end && id_of(old) == id_of(row)) {
            met++;
            c->state[n] = UNCHANGED;
            if (same(shape, old, row))
                continue;
            c->cost[n] = changed_bits(shape, old, row) + 1;
        } else {
            c->cost[n] = whole;
        }
        c->state[n] = CHOSEN;
        c->order[(*changes)++] = (uint32_t)n;
        total += c->cost[n];
    }
    *gone = c->base_rows - met;
    return total;
}

/* Whether row a goes before row b: the more urgent, then the lower id. */
static int before(const snap_choice *c, uint32_t a, uint32_t b)
{
    return c->urgency[a] > c->urgency[b] || (c->urgency[a] == c->urgency[b] && a < b);
}

static void sift(const snap_choice *c, size_t at, size_t count)
{
    uint32_t *heap = c->order, moved = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(c, heap[child + 1], heap[child]))
            child++;
        if (!before(c, heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* As many as fit, the most urgent first. The chosen end at the back of `order`, the last one chosen
 * first; returns where they begin. */
static size_t most_urgent(const snap_shape *shape, snap_choice *c, size_t changes, int64_t room)
{
    const size_t words = snap_words(shape);
    size_t u = 0, count = changes, begin = changes;
    uint32_t smallest = UINT32_MAX;
    for (size_t n = 0; n < changes; n++) {
        uint32_t row = c->order[n], id = id_of(c->now + row * words);
        while (u < c->urgents && c->urgent[u].id < id)
            u++;
        double gathered = u < c->urgents && c->urgent[u].id == id ? c->urgent[u].urgency : 0.0;
        c->urgency[row] = id == c->own ? INFINITY : gathered + (c->weight ? c->weight[row] : 1.0);
        c->state[row] = LEFT;
        if (c->cost[row] < smallest)
            smallest = c->cost[row];
    }
    for (size_t n = changes / 2; n-- > 0;)
        sift(c, n, changes);
    while (count && room >= (int64_t)smallest) {
        uint32_t row = c->order[0];
        c->order[0] = c->order[--count];
        sift(c, 0, count);
        if (c->cost[row] <= room) {
            room -= c->cost[row];
            c->state[row] = CHOSEN;
            c->order[--begin] = row;
        }
    }
    return begin;
}

/* What the client will hold. */
static void compose(const snap_shape *shape, snap_choice *c)
{
    const size_t words = snap_words(shape);
    const uint32_t *old = c->base, *base_end = c->base + c->base_rows * words;
    uint32_t *to = c->frame;
    for (size_t n = 0; n < c->rows; n++) {
        const uint32_t *row = c->now + n * words, *kept = row;
        if (c->state[n] == HIDDEN)
            continue;
        if (c->state[n] != CHOSEN) {
            while (old < base_end && id_of(old) < id_of(row))
                old += words;
            if (old == base_end || id_of(old) != id_of(row))
                continue; /* not born yet */
            kept = old;
        }
        memcpy(to, kept, words * sizeof *to);
        to += words;
    }
    c->frame_rows = (size_t)(to - c->frame) / words;
}

uint64_t snap_choose(const snap_shape *shape, snap_choice *c, uint8_t *out, size_t room)
{
    const size_t words = snap_words(shape);
    size_t changes, gone, first = 0;
    uint64_t total = reckon(shape, c, &changes, &gone), bits;
    int64_t left = (int64_t)room * 8 - (int64_t)c->base_rows - (int64_t)gone - 8;
    int crowded = (int64_t)total > left;
    if (crowded)
        first = most_urgent(shape, c, changes, left);
    for (;;) {
        compose(shape, c);
        bits = snap_delta(shape, c->base, c->base_rows, c->frame, c->frame_rows, out, room);
        if (bits <= (uint64_t)room * 8 || first == changes)
            break;
        /* Far-apart births cost a little more than was reckoned: the least urgent waits. */
        uint32_t row = crowded ? c->order[first++] : c->order[--changes];
        c->state[row] = LEFT;
        c->urgency[row] = 1.0;
    }
    c->lefts = 0;
    for (size_t n = 0; n < c->rows; n++)
        if (c->state[n] == LEFT)
            c->left[c->lefts++] = (snap_urgent){c->urgency[n], id_of(c->now + n * words)};
    return bits;
}
