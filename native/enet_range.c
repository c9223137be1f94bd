/* enet_range.c: see enet_range.h. The model is a tree of contexts of at most two
 * values; each context keeps its counts in a binary tree ordered by value. */
#include "enet_range.h"

enum {
    ROOT = 0,
    NODES_MOST = 4094,    /* at this many the model is forgotten */
    STEP = 2,             /* added to a count of a context */
    ROOT_STEP = 3,        /* and of the root */
    ESCAPE_STEP = 5,
    COUNT_MOST = 251,     /* a count above this halves its context */
    ROOT_COUNT_MOST = 250,
    TOTAL_MOST = 65280,
};

#define RANGE_TOP (1u << 24)
#define RANGE_BOTTOM (1u << 16)

static void forget(en_range *m)
{
    m->node[ROOT] = (en_range_node){.escape = 1, .total = 257};
    m->made = 1;
    m->now = ROOT;
    m->order = 0;
}

static uint16_t make_entry(en_range *m, uint8_t value, uint8_t count)
{
    uint16_t at = (uint16_t)m->made++;
    m->node[at] = (en_range_node){.under = count, .value = value, .count = count};
    return at;
}

/* Halves the counts of the table at `at`; returns their sum. Depth <= 256. */
static uint32_t halve_table(en_range *m, uint16_t at)
{
    uint32_t sum = 0;
    while (at) {
        en_range_node *n = &m->node[at];
        n->count = (uint8_t)(n->count - n->count / 2);
        uint32_t left = n->left ? halve_table(m, n->left) : 0;
        n->under = (uint16_t)(left + n->count);
        sum += n->under;
        at = n->right;
    }
    return sum;
}

static void halve(en_range *m, uint16_t context)
{
    en_range_node *c = &m->node[context];
    c->escape = (uint16_t)(c->escape - c->escape / 2);
    c->total = (uint16_t)(c->escape + halve_table(m, c->table) + (context == ROOT ? 256 : 0));
}

/* Adds `step` to the count of `value`, making its entry if there is none. Gives
 * the count before and the counts of smaller values. Returns the entry. */
static uint16_t count_value(en_range *m, uint16_t context, uint8_t value, uint8_t step, uint32_t *before,
                            uint32_t *below)
{
    uint16_t *link = &m->node[context].table;
    uint32_t smaller = 0;
    while (*link) {
        en_range_node *n = &m->node[*link];
        if (value < n->value) {
            n->under = (uint16_t)(n->under + step);
            link = &n->left;
        } else if (value > n->value) {
            smaller += n->under;
            link = &n->right;
        } else {
            *before = n->count;
            *below = smaller + n->under - n->count;
            n->under = (uint16_t)(n->under + step);
            n->count = (uint8_t)(n->count + step);
            return *link;
        }
    }
    *before = 0;
    *below = smaller;
    return *link = make_entry(m, value, step);
}

static void settle(en_range *m, uint16_t context, uint32_t before)
{
    en_range_node *c = &m->node[context];
    if (context == ROOT) {
        c->total = (uint16_t)(c->total + ROOT_STEP);
        if (before + 1 > ROOT_COUNT_MOST || c->total > TOTAL_MOST) /* not reached: the total; NODES_MOST comes first */
            halve(m, context);
        return;
    }
    if (before == 0) {
        c->escape = (uint16_t)(c->escape + ESCAPE_STEP);
        c->total = (uint16_t)(c->total + ESCAPE_STEP);
    }
    c->total = (uint16_t)(c->total + STEP);
    if (before > COUNT_MOST || c->total > TOTAL_MOST) /* not reached: the total, by 9,000 octets or less */
        halve(m, context);
}

/* Steps 3 to 5: chain the children of this value, choose the next context. */
static void advance(en_range *m, const uint16_t *child, int children)
{
    for (int i = 0; i + 1 < children; i++)
        m->node[child[i]].parent = child[i + 1];
    m->now = child[0];
    if (m->order < 2)
        m->order++;
    else
        m->now = m->node[m->now].parent;
    if (m->made >= NODES_MOST)
        forget(m);
}

typedef struct encoder {
    uint32_t low, range;
    uint8_t *out, *end;
} encoder;

static int encode(encoder *e, uint32_t start, uint32_t size, uint32_t total)
{
    e->range /= total;
    e->low += start * e->range;
    e->range *= size;
    for (;;) {
        if ((e->low ^ (e->low + e->range)) >= RANGE_TOP) {
            if (e->range >= RANGE_BOTTOM)
                return 0;
            e->range = (0u - e->low) & 0xffff;
        }
        if (e->out == e->end)
            return -1;
        *e->out++ = (uint8_t)(e->low >> 24);
        e->low <<= 8;
        e->range <<= 8;
    }
}

static int encode_value(en_range *m, encoder *e, uint8_t value)
{
    uint16_t child[8]; /* contexts hold at most two values: three levels with the root */
    int children = 0;
    uint32_t before = 0, below;
    uint16_t context = m->now;
    while (context != ROOT) {
        en_range_node *c = &m->node[context];
        uint32_t escape = c->escape, total = c->total;
        child[children++] = count_value(m, context, value, STEP, &before, &below);
        if (before > 0) {
            if (encode(e, escape + below, before, total))
                return -1;
        } else if (escape > 0 && escape < total && encode(e, 0, escape, total)) { /* not reached: escape == total > 0 */
            return -1;
        }
        settle(m, context, before);
        if (before > 0)
            break;
        context = m->node[context].parent;
    }
    if (context == ROOT) {
        uint32_t total = m->node[ROOT].total, escape = m->node[ROOT].escape;
        child[children++] = count_value(m, ROOT, value, ROOT_STEP, &before, &below);
        if (encode(e, escape + value + below, before + 1, total))
            return -1;
        settle(m, ROOT, before);
    }
    advance(m, child, children);
    return 0;
}

size_t en_range_compress(en_range *m, const uint8_t *in, size_t len, uint8_t *out, size_t room)
{
    encoder e = {0, UINT32_MAX, out, out + room};
    forget(m);
    for (size_t i = 0; i < len; i++)
        if (encode_value(m, &e, in[i]))
            return 0;
    while (e.low) {
        if (e.out == e.end)
            return 0;
        *e.out++ = (uint8_t)(e.low >> 24);
        e.low <<= 8;
    }
    return (size_t)(e.out - out);
}

typedef struct decoder {
    uint32_t low, range, code;
    const uint8_t *in, *end;
} decoder;

/* The place in a total, or `total` itself when the input is corrupt. */
static uint32_t decode_read(decoder *d, uint32_t total)
{
    d->range /= total;
    if (d->range == 0) /* not reached: decode_take leaves 2^16 or more, and no total is above TOTAL_MOST */
        return total;
    uint32_t place = (d->code - d->low) / d->range;
    return place < total ? place : total;
}

static void decode_take(decoder *d, uint32_t start, uint32_t size)
{
    d->low += start * d->range;
    d->range *= size;
    for (;;) {
        if ((d->low ^ (d->low + d->range)) >= RANGE_TOP) {
            if (d->range >= RANGE_BOTTOM)
                return;
            d->range = (0u - d->low) & 0xffff;
        }
        d->code <<= 8;
        if (d->in < d->end)
            d->code |= *d->in++;
        d->low <<= 8;
        d->range <<= 8;
    }
}

/* Finds the entry whose interval holds `place` and counts it, in a context that
 * is not the root. Returns 0 when there is none. */
static uint16_t find_place(en_range *m, uint16_t context, uint32_t place, uint32_t *before, uint32_t *below)
{
    uint16_t at = m->node[context].table;
    uint32_t smaller = 0;
    while (at) { /* not reached: its end, some interval holds the place */
        en_range_node *n = &m->node[at];
        uint32_t start = smaller + n->under - n->count;
        if (place < start) {
            n->under = (uint16_t)(n->under + STEP);
            at = n->left;
        } else if (place >= smaller + n->under) {
            smaller += n->under;
            at = n->right;
        } else {
            *before = n->count;
            *below = start;
            n->under = (uint16_t)(n->under + STEP);
            n->count = (uint8_t)(n->count + STEP);
            return at;
        }
    }
    return 0; /* not reached: as above */
}

/* The same in the root, where every value weighs 1 + count. */
static uint8_t find_root_value(const en_range *m, uint32_t place)
{
    uint16_t at = m->node[ROOT].table;
    uint32_t smaller = 0;
    while (at) {
        const en_range_node *n = &m->node[at];
        uint32_t start = n->value + smaller + n->under - n->count;
        if (place < start) {
            at = n->left;
        } else if (place > start + n->count) {
            smaller += n->under;
            at = n->right;
        } else {
            return n->value;
        }
    }
    return (uint8_t)(place - smaller);
}

/* 1: a value, 0: end of data, -1: corrupt. */
static int decode_value(en_range *m, decoder *d, uint8_t *value)
{
    uint16_t child[8], passed[8];
    int children = 0, skipped = 0;
    uint32_t before, below, place;
    uint16_t context = m->now;
    uint16_t found = 0;
    for (; context != ROOT; context = m->node[context].parent) {
        en_range_node *c = &m->node[context];
        uint32_t escape = c->escape, total = c->total;
        passed[skipped++] = context;
        if (total == 0 || escape >= total) /* not reached: escape >= total > 0, a context has a value at least */
            continue;
        place = decode_read(d, total);
        if (place == total)
            return -1;
        if (place < escape) {
            decode_take(d, 0, escape);
            continue;
        }
        skipped--;
        found = find_place(m, context, place - escape, &before, &below);
        if (!found) /* not reached: the counts of a context's table add up to its total */
            return -1;
        *value = m->node[found].value;
        decode_take(d, escape + below, before);
        settle(m, context, before);
        break;
    }
    if (context == ROOT) {
        uint32_t total = m->node[ROOT].total, escape = m->node[ROOT].escape;
        place = decode_read(d, total);
        if (place == total)
            return -1;
        if (place < escape)
            return 0;
        *value = find_root_value(m, place - escape);
        found = count_value(m, ROOT, *value, ROOT_STEP, &before, &below);
        decode_take(d, escape + *value + below, before + 1);
        settle(m, ROOT, before);
    }
    for (int i = 0; i < skipped; i++) {
        child[children++] = count_value(m, passed[i], *value, STEP, &before, &below);
        if (before)
            return -1;
        settle(m, passed[i], 0);
    }
    child[children++] = found;
    advance(m, child, children);
    return 1;
}

long en_range_decompress(en_range *m, const uint8_t *in, size_t len, uint8_t *out, size_t room)
{
    decoder d = {0, UINT32_MAX, 0, in, in + len};
    size_t made = 0;
    for (int i = 0; i < 4; i++) {
        d.code <<= 8;
        if (d.in < d.end)
            d.code |= *d.in++;
    }
    forget(m);
    for (;;) {
        uint8_t value;
        int got = decode_value(m, &d, &value);
        if (got <= 0)
            return got ? -1 : (long)made;
        if (made == room)
            return -1;
        out[made++] = value;
    }
}
