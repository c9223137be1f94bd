/* The range coder against what nobody coded: every input of up to two bytes, noise, damaged and cut datagrams, bombs.
 * It must stop at the room it is given, write nothing behind it, and give the same answer again.
 *
 * `test_enet_range FROM COUNT` opens the inputs FROM .. FROM + COUNT - 1 of an endless row; each depends on its
 * number alone, so that 10^9 of them can be had in pieces and each found again. Prints what it opened. */
#include "enet_range.h"

#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROOM = 4092, LONGEST = 256 };

static en_range model;
static uint64_t opened, refused, bytes_in, bytes_out;

static uint64_t mixed(uint64_t x) /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Exactly as large as it is said to be, so that the sanitizers see a byte too far. */
static long open_exactly(const uint8_t *data, size_t len, size_t room)
{
    uint8_t *in = malloc(len ? len : 1), *out = malloc(room + 1);
    memcpy(in, data, len);
    out[room] = 0xA5;
    long n = en_range_decompress(&model, in, len, out, room);
    assert(n == -1 || (n >= 0 && (size_t)n <= room));
    assert(out[room] == 0xA5);
    free(in);
    free(out);
    return n;
}

/* The datagram of a game: few letters, much said twice. */
static size_t plain_of(uint64_t seed, uint8_t *to, size_t most)
{
    size_t len = mixed(seed) % most;
    uint32_t letters = 1 + mixed(seed + 1) % 40;
    for (size_t i = 0; i < len; i++)
        to[i] = i > 8 && mixed(seed + i) % 3 ? to[i - 8] : (uint8_t)(mixed(seed + 99 + i) % letters);
    return len;
}

/* The input of this number: noise, a good one that is damaged or cut, or a short one of a bomb's letters. */
static size_t input_of(uint64_t number, uint8_t *to)
{
    uint8_t plain[LONGEST];
    uint64_t dice = mixed(number ^ 0xb13);
    size_t len = dice >> 8 & 63;
    switch (dice & 3) {
    case 0:
    case 1:
        for (size_t i = 0; i < len; i += 8) {
            uint64_t word = mixed(dice + i);
            memcpy(to + i, &word, 8);
        }
        return len;
    case 2:
        len = plain_of(dice, plain, 64);
        len = en_range_compress(&model, plain, len, to, 4 * LONGEST);
        for (unsigned n = dice >> 16 & 3; len && n; n--)
            to[mixed(dice + n) % len] ^= (uint8_t)(1u << (mixed(dice + n + 9) & 7));
        return dice & 1 << 20 && len ? mixed(dice + 3) % len : len;
    default:
        memset(to, dice & 4 ? 0 : 0xff, len); /* what claims the most for the least */
        if (len)
            to[mixed(dice) % len] = (uint8_t)(dice >> 24);
        return len;
    }
}

static void one(uint64_t number)
{
    static uint8_t in[4 * LONGEST], out[ROOM + 8], again[ROOM + 8];
    size_t len = input_of(number, in);
    memset(out + ROOM, 0xA5, 8);
    long n = en_range_decompress(&model, in, len, out, ROOM);
    assert(n == -1 || (n >= 0 && n <= ROOM));
    for (int i = 0; i < 8; i++)
        assert(out[ROOM + i] == 0xA5);
    if (number % 64 == 0) { /* nothing is left over from one to the next */
        assert(en_range_decompress(&model, in, len, again, ROOM) == n);
        assert(n < 0 || !memcmp(out, again, (size_t)n));
    }
    opened += n >= 0;
    refused += n < 0;
    bytes_in += len;
    bytes_out += n > 0 ? (uint64_t)n : 0;
}

static void every_input_of_two_bytes_ends(void)
{
    uint8_t in[2] = {0};
    assert(open_exactly(in, 0, ROOM) == 0);
    for (unsigned a = 0; a < 256; a++) {
        in[0] = (uint8_t)a;
        open_exactly(in, 1, ROOM);
        for (unsigned b = 0; b < 256; b++) {
            in[1] = (uint8_t)b;
            open_exactly(in, 2, ROOM);
        }
    }
}

static void whatever_room_there_is_is_enough_or_refused(void)
{
    uint8_t in[4 * LONGEST], plain[LONGEST];
    for (uint64_t number = 0; number < 3000; number++) {
        size_t len = input_of(number, in);
        long whole = open_exactly(in, len, ROOM);
        for (size_t room = 0; room < 64; room += 1 + number % 7)
            assert(open_exactly(in, len, room) == (whole >= 0 && (size_t)whole <= room ? whole : -1));
        size_t size = plain_of(number, plain, LONGEST);
        len = en_range_compress(&model, plain, size, in, sizeof in);
        assert(len <= sizeof in && (!size || len));
        assert(open_exactly(in, len, ROOM) == (long)size);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* CPU of one input, ns: the least of some tries. */
static double cost(const uint8_t *in, size_t len)
{
    static uint8_t out[ROOM];
    double best = 1e18;
    for (int n = 0; n < 9; n++) {
        double began = now();
        en_range_decompress(&model, in, len, out, ROOM);
        double took = now() - began;
        best = took < best ? took : best;
    }
    return best;
}

/* 16 bytes that claim 4 KiB cost at most ten times what the same output costs honestly. */
static void a_bomb_costs_no_more_than_an_honest_datagram_of_its_size(void)
{
    static uint8_t plain[ROOM], coded[4 * ROOM];
    for (size_t i = 0; i < ROOM; i++)
        plain[i] = (uint8_t)(mixed(i) % 40);
    size_t len = en_range_compress(&model, plain, ROOM, coded, sizeof coded);
    double honest = cost(coded, len), worst = 0;
    for (uint64_t number = 0; number < 4000; number++) {
        uint8_t in[4 * LONGEST];
        size_t size = input_of(number, in);
        double took = cost(in, size < 16 ? size : 16);
        worst = took > worst ? took : worst;
    }
    assert(worst <= 10 * honest);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        uint64_t from = strtoull(argv[1], NULL, 10), count = strtoull(argv[2], NULL, 10);
        for (uint64_t number = from; number < from + count; number++)
            one(number);
        printf("range: %llu opened, %llu refused, %llu bytes made of %llu\n", (unsigned long long)opened,
               (unsigned long long)refused, (unsigned long long)bytes_out, (unsigned long long)bytes_in);
        return 0;
    }
    every_input_of_two_bytes_ends();
    whatever_room_there_is_is_enough_or_refused();
    a_bomb_costs_no_more_than_an_honest_datagram_of_its_size();
    for (uint64_t number = 0; number < 20000; number++)
        one(number);
    assert(opened && refused && opened + refused == 20000);
    puts("range: ok");
    return 0;
}
