/* Snapshots against a reader of their own: random rooms, what is not there, what does not fit. */
#include "snapshot_reader.h"

enum { ROWS = 300, WORDS = READER_WORDS };

static uint64_t dice = 88172645463325252u;

static uint32_t roll(uint32_t sides)
{
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return (uint32_t)(dice >> 20) % sides;
}

static void shape_of(snap_shape *s)
{
    s->fields = 1 + roll(SNAP_FIELDS);
    for (unsigned n = 0; n < s->fields; n++) {
        s->bits[n] = (uint8_t)(1 + roll(32));
        s->kind[n] = (uint8_t)roll(3);
    }
}

static uint32_t value_of(const snap_shape *s, unsigned n)
{
    uint64_t top = (UINT64_C(1) << s->bits[n]) - 1;
    return (uint32_t)(roll(4) == 0 ? (roll(2) ? top : 0) : (dice >> 7) & top);
}

/* A frame, or one some time after another. */
static size_t frame_of(const snap_shape *s, const uint32_t *before, size_t rows, uint32_t *out)
{
    size_t words = snap_words(s), n = 0;
    uint32_t id = 0;
    for (size_t old = 0; n < ROWS;) {
        int born = old >= rows || roll(8) == 0;
        if (old >= rows && roll(20) == 0)
            break;
        if (born) {
            uint32_t next = old < rows ? before[old * words] & 0xFFFF : 65536, gap = next - id;
            if (gap <= 1) {
                if (old >= rows)
                    break;
                born = 0;
            } else {
                id += 1 + roll(gap - 1 < 300 ? gap - 1 : 300);
            }
        }
        uint32_t *row = out + n * words;
        if (born) {
            row[0] = id;
            for (unsigned f = 0; f < s->fields; f++)
                row[1 + f] = value_of(s, f);
            n++;
            continue;
        }
        memcpy(row, before + old++ * words, words * 4);
        id = row[0] & 0xFFFF;
        if (roll(6) == 0)
            continue; /* gone */
        for (unsigned f = 0; f < s->fields; f++)
            if (roll(3) == 0)
                row[1 + f] = value_of(s, f);
        if (roll(5) == 0)
            row[0] += SNAP_JUMP;
        n++;
    }
    return n;
}

static void what_is_written_is_what_is_read(void)
{
    static uint32_t base[WORDS * ROWS], now[WORDS * ROWS], got[WORDS * ROWS * 2];
    static uint8_t out[ROWS * 200];
    snap_shape s;
    for (int round = 0; round < 3000; round++) {
        shape_of(&s);
        size_t b = frame_of(&s, NULL, 0, base), n = frame_of(&s, base, b, now);
        uint64_t bits = snap_delta(&s, base, b, now, n, out, sizeof out);
        assert(bits <= 8 * sizeof out);
        reader r = {out, bits, 0};
        assert(apply(&s, base, b, &r, got) == n && equal(&s, got, now, n) && same_jumps(&s, base, b, got, now, n));
        /* Too little room is told, and nothing is written beyond it. */
        size_t room = roll((uint32_t)(bits / 8) + 2);
        uint8_t *exact = malloc(room + 1);
        exact[room] = 0xA5;
        assert(snap_delta(&s, base, b, now, n, exact, room) == bits && exact[room] == 0xA5);
        assert(bits > room * 8 || memcmp(exact, out, room < (bits + 7) / 8 ? room : (bits + 7) / 8) == 0);
        free(exact);
    }
}

static void a_choice_fits_and_its_frame_is_what_the_client_reads(void)
{
    static uint32_t base[WORDS * ROWS], now[WORDS * ROWS], got[WORDS * ROWS * 2], frame[WORDS * ROWS];
    static uint32_t cost[ROWS], order[ROWS];
    static uint8_t out[2000], state[ROWS];
    static double urgency[ROWS], x[ROWS], y[ROWS], weight[ROWS];
    static snap_urgent urgent[ROWS], left[ROWS];
    static uint64_t held[SNAP_IDS / 64], visible[ROWS / 64 + 1];
    static uint32_t starts[513];
    static snap_place places[ROWS];
    snap_shape s;
    for (int round = 0; round < 3000; round++) {
        shape_of(&s);
        size_t b = frame_of(&s, NULL, 0, base), n = frame_of(&s, base, b, now), words = snap_words(&s), room = roll(2000);
        if (!n)
            continue;
        for (size_t i = 0; i < n; i++)
            x[i] = roll(100), y[i] = roll(100), weight[i] = 1 + roll(3);
        snap_grid grid = {10, 64, 100, 512, starts, places};
        snap_grid_fill(&grid, &s, now, n, x, y);
        memset(visible, 0, sizeof visible);
        uint32_t me = roll((uint32_t)n);
        snap_hold(&s, base, b, held, 1);
        snap_around(&grid, x[me], y[me], now[me * words] & 0xFFFF, held, visible);
        for (size_t i = 0; i < n; i++) {
            double d = (x[i] - x[me]) * (x[i] - x[me]) + (y[i] - y[me]) * (y[i] - y[me]);
            uint32_t id = now[i * words] & 0xFFFF;
            int in = i == me || d <= 64 || (d <= 100 && held[id / 64] >> id % 64 & 1);
            assert((visible[i / 64] >> i % 64 & 1) == (uint64_t)in);
        }
        snap_hold(&s, base, b, held, 0);
        for (size_t i = 0; i < SNAP_IDS / 64; i++)
            assert(!held[i]);
        uint64_t from_afar[sizeof visible / sizeof *visible] = {0}; /* who looks from elsewhere sees itself all the same */
        snap_around(&grid, x[me] + 9, y[me], now[me * words] & 0xFFFF, held, from_afar);
        assert(from_afar[me / 64] >> me % 64 & 1);
        snap_around(&grid, 1e300, -1e300, 0, held, from_afar); /* and nobody is beyond all bounds */
        snap_choice c = {
            .now = now, .base = base, .rows = n, .base_rows = b, .visible = roll(2) ? visible : NULL,
            .weight = roll(2) ? weight : NULL, .urgent = urgent, .urgents = 0, .own = now[me * words] & 0xFFFF,
            .state = state, .cost = cost, .order = order, .urgency = urgency, .frame = frame, .left = left,
        };
        uint64_t bits = snap_choose(&s, &c, out, room);
        assert(c.frame_rows <= n && c.lefts <= n);
        if (bits > room * 8)
            continue; /* not even what must be said fits */
        reader r = {out, bits, 0};
        assert(apply(&s, base, b, &r, got) == c.frame_rows && equal(&s, got, frame, c.frame_rows));
        for (size_t i = 0; i < c.lefts; i++)
            assert(left[i].urgency >= 1 && (!i || left[i - 1].id < left[i].id));
    }
}

static void one_bit_for_each_that_did_not_change(void)
{
    snap_shape s = {.fields = 1, .bits = {8}};
    uint32_t base[20], now[20];
    uint8_t out[8];
    for (uint32_t n = 0; n < 10; n++)
        base[2 * n] = now[2 * n] = n + 1, base[2 * n + 1] = now[2 * n + 1] = n;
    assert(snap_delta(&s, base, 10, now, 10, out, sizeof out) == 11 && !out[0] && !out[1]);
    assert(snap_delta(&s, NULL, 0, NULL, 0, out, sizeof out) == 1 && !out[0]);
    now[1] = 1; /* changed, not gone; no jump, this field; 2 zig-zag, 4 bits */
    assert(snap_delta(&s, base, 10, now, 10, out, sizeof out) == 2 + 2 + 4 + 10 && out[0] == 0x9A);
}

int main(void)
{
    one_bit_for_each_that_did_not_change();
    what_is_written_is_what_is_read();
    a_choice_fits_and_its_frame_is_what_the_client_reads();
    return 0;
}
