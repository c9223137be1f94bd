/* Any two frames: what is written must be read as the second, and a choice must be read as what it says. */
#include "tests/snapshot_reader.h"

enum { MOST = 300 };

typedef struct input {
    const uint8_t *data;
    size_t left;
} input;

static uint32_t next(input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->data++;
}

static uint32_t value(input *in, unsigned bits)
{
    uint32_t v = next(in);
    if (v & 1) /* half of them large */
        v |= next(in) << 8 | next(in) << 16 | next(in) << 24;
    return bits == 32 ? v : v & ((1u << bits) - 1);
}

static size_t frame(input *in, const snap_shape *s, uint32_t *rows, uint32_t jump)
{
    size_t n = 0;
    uint32_t id = 0;
    for (uint32_t count = next(in); n < count && n < MOST; n++) {
        uint32_t step = next(in);
        id += 1 + (step & 15) * (step & 16 ? 600 : 1);
        if (id >= SNAP_IDS)
            break;
        *rows++ = id | (step & 32 ? jump : 0);
        for (unsigned f = 0; f < s->fields; f++)
            *rows++ = value(in, s->bits[f]);
    }
    return n;
}

static void expect(const snap_shape *s, const uint32_t *base, size_t rows, const uint8_t *out, uint64_t bits,
                   const uint32_t *frame, size_t count)
{
    static uint32_t got[READER_WORDS * READER_ROWS];
    reader r = {out, bits, 0};
    if (apply(s, base, rows, &r, got) != count || !equal(s, got, frame, count) ||
        !same_jumps(s, base, rows, got, frame, count))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint32_t base[READER_WORDS * MOST], now[READER_WORDS * MOST], held[READER_WORDS * MOST];
    static uint32_t cost[MOST], order[MOST];
    static uint8_t state[MOST], out[MOST * 300];
    static double urgency[MOST];
    static snap_urgent left[MOST], urgent[MOST];
    uint64_t visible[MOST / 64 + 1] = {0};
    input in = {data, size};
    snap_shape s = {.fields = 1 + next(&in) % SNAP_FIELDS};
    for (unsigned f = 0; f < s.fields; f++) {
        uint32_t how = next(&in);
        s.bits[f] = (uint8_t)(1 + how % 32);
        s.kind[f] = (uint8_t)(how / 32 % 3);
    }
    size_t b = frame(&in, &s, base, 0), n = frame(&in, &s, now, SNAP_JUMP);
    uint64_t bits = snap_delta(&s, base, b, now, n, out, sizeof out);
    expect(&s, base, b, out, bits, now, n);

    for (size_t i = 0; i <= n / 64; i++)
        for (unsigned k = 0; k < 64; k += 8)
            visible[i] |= (uint64_t)next(&in) << k;
    size_t urgents = 0, room = next(&in) << 2 | next(&in) >> 6;
    for (size_t i = 0; i < n; i++)
        if (next(&in) & 1)
            urgent[urgents++] = (snap_urgent){next(&in), now[i * snap_words(&s)] & 0xFFFF};
    snap_choice c = {
        .now = now, .base = base, .rows = n, .base_rows = b, .visible = visible, .urgent = urgent,
        .urgents = urgents, .own = next(&in), .state = state, .cost = cost, .order = order, .urgency = urgency,
        .frame = held, .left = left,
    };
    uint8_t *exact = malloc(room ? room : 1);
    bits = snap_choose(&s, &c, exact, room);
    if (c.frame_rows > n || c.lefts > n)
        abort();
    if (bits <= room * 8)
        expect(&s, base, b, exact, bits, held, c.frame_rows);
    free(exact);
    return 0;
}
