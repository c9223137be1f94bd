/* A reader of snapshots in few lines, to test the writer by; it aborts at what it cannot read. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../snapshot.h"

enum { READER_ROWS = 600, READER_WORDS = 1 + SNAP_FIELDS };

typedef struct reader {
    const uint8_t *data;
    size_t bits, at;
} reader;

static uint64_t take(reader *r, unsigned count)
{
    uint64_t value = 0;
    while (count--) {
        assert(r->at < r->bits);
        value = value << 1 | (r->data[r->at >> 3] >> (7 - (r->at & 7)) & 1);
        r->at++;
    }
    return value;
}

static uint64_t golomb(reader *r, unsigned order)
{
    unsigned zeros = 0;
    while (!take(r, 1))
        zeros++;
    assert(zeros <= 32);
    return (UINT64_C(1) << (zeros + order) | take(r, zeros + order)) - (UINT64_C(1) << order);
}

static void read_row(reader *r, const snap_shape *s, const uint32_t *old, uint32_t *row)
{
    uint64_t mask = take(r, s->fields + 1);
    row[0] = old[0] & 0xFFFF;
    if (mask >> s->fields) /* jumped, and whether an odd number of times since it was born */
        row[0] |= SNAP_JUMP << take(r, 1);
    for (unsigned n = 0; n < s->fields; n++) {
        row[1 + n] = old[1 + n];
        if (!(mask >> (s->fields - 1 - n) & 1))
            continue;
        if (s->kind[n] == SNAP_WHOLE) {
            row[1 + n] = (uint32_t)take(r, s->bits[n]);
            continue;
        }
        uint64_t code = golomb(r, 3), size = UINT64_C(1) << s->bits[n];
        int64_t value = (int64_t)old[1 + n] + (int64_t)(code >> 1 ^ -(code & 1));
        if (s->kind[n] == SNAP_ROUND)
            value = (value + (int64_t)size) % (int64_t)size;
        assert(value >= 0 && (uint64_t)value < size);
        row[1 + n] = (uint32_t)value;
    }
}

/* What a client makes of the bits; the number of rows, of which at most READER_ROWS are births. */
static size_t apply(const snap_shape *s, const uint32_t *base, size_t rows, reader *r, uint32_t *out)
{
    size_t words = snap_words(s), kept = 0, count;
    uint32_t last = 0, *births = calloc(READER_ROWS + 1, words * 4), *all = calloc(rows + 1, words * 4);
    for (size_t n = 0; n < rows; n++) {
        const uint32_t *old = base + n * words;
        uint32_t *row = all + kept * words;
        if (!take(r, 1)) {
            memcpy(row, old, words * 4), row[0] &= 0xFFFF, kept++;
        } else if (!take(r, 1)) {
            read_row(r, s, old, row), kept++;
        }
    }
    for (count = 0; take(r, 1); count++) {
        assert(count < READER_ROWS);
        uint32_t *row = births + count * words;
        row[0] = last += (uint32_t)golomb(r, 0) + 1;
        for (unsigned n = 0; n < s->fields; n++)
            row[1 + n] = (uint32_t)take(r, s->bits[n]);
    }
    assert(r->at == r->bits);
    size_t a = 0, b = 0, n = 0; /* both by rising id */
    for (; a < kept || b < count; n++) {
        int old = b == count || (a < kept && (all[a * words] & 0xFFFF) < births[b * words]);
        memcpy(out + n * words, old ? all + a++ * words : births + b++ * words, words * 4);
    }
    free(all);
    free(births);
    return n;
}

/* Whether the jumps that were read are those of the frame since its base. */
static int same_jumps(const snap_shape *s, const uint32_t *base, size_t rows, const uint32_t *got, const uint32_t *frame,
                      size_t count)
{
    size_t words = snap_words(s);
    for (size_t n = 0, b = 0; n < count; n++, got += words, frame += words) {
        while (b < rows && (base[b * words] & 0xFFFF) < (frame[0] & 0xFFFF))
            b++;
        const uint32_t *old = base + b * words;
        uint32_t wanted = 0;
        if (b < rows && !((old[0] ^ frame[0]) & 0xFFFF) && memcmp(old + 1, frame + 1, s->fields * 4) && old[0] != frame[0])
            wanted = SNAP_JUMP << (frame[0] >> 16 & 1);
        if ((got[0] & ~0xFFFFu) != wanted)
            return 0;
    }
    return 1;
}

/* Whether two frames say the same, jumps aside. */
static int equal(const snap_shape *s, const uint32_t *a, const uint32_t *b, size_t rows)
{
    for (size_t n = 0; n < rows; n++, a += snap_words(s), b += snap_words(s))
        if ((a[0] & 0xFFFF) != (b[0] & 0xFFFF) || memcmp(a + 1, b + 1, s->fields * 4))
            return 0;
    return 1;
}
