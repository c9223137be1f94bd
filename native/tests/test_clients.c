/* The table of clients, the limiter and the access list. */
#include "access.h"
#include "clients.h"
#include "limiter.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static tudp_key key_of(uint32_t n)
{
    tudp_key k;
    memset(&k, 0, sizeof k);
    k.ip[10] = k.ip[11] = 0xff;
    k.ip[12] = 192;
    k.ip[14] = (uint8_t)(n >> 16);
    k.ip[15] = 2;
    k.port = (uint16_t)n;
    return k;
}

/* Against a plain array that does the same slowly. */
static void the_table_agrees_with_a_plain_list(uint32_t most, unsigned seed)
{
    enum { KEYS = 300 };
    uint64_t last[KEYS] = {0}, words[2] = {seed, 77}, now = 1;
    uint32_t live = 0;
    void *memory = calloc(1, tudp_clients_size(most));
    tudp_clients *t = tudp_clients_init(memory, most, words);
    srand(seed);
    for (int step = 0; step < 20000; step++, now++) {
        uint32_t n = (uint32_t)rand() % KEYS;
        tudp_key k = key_of(n);
        uint32_t found = tudp_clients_find(t, &k);
        assert((found != TUDP_NOBODY) == (last[n] != 0));
        if (rand() % 3) {
            int fresh;
            uint32_t number = tudp_clients_place(t, &k, now, &fresh);
            assert(fresh == !last[n] && tudp_clients_at(t, number)->seen == now);
            if (!last[n] && live == most) { /* the longest silent one made room */
                uint32_t oldest = 0;
                for (uint32_t i = 0; i < KEYS; i++)
                    if (last[i] && (!last[oldest] || last[i] < last[oldest]))
                        oldest = i;
                last[oldest] = 0;
                live--;
            }
            live += !last[n];
            last[n] = now;
        } else if (found != TUDP_NOBODY) {
            tudp_clients_remove(t, found);
            last[n] = 0;
            live--;
        }
        assert(t->count == live && live <= most);
    }
    while ((tudp_clients_expired(t, now)) != TUDP_NOBODY)
        tudp_clients_remove(t, t->oldest);
    assert(t->count == 0 && t->oldest == TUDP_NOBODY && t->newest == TUDP_NOBODY);
    free(memory);
}

static void a_limiter_counts_per_prefix(void)
{
    uint64_t words[2] = {1, 2};
    void *memory = calloc(1, tudp_limiter_size(10));
    tudp_limiter *l = tudp_limiter_init(memory, 10, 10, 5, words);
    tudp_key k = key_of(1);
    int taken = 0;
    assert(tudp_limiter_level(l, AF_INET, 33, 1) == -EINVAL && tudp_limiter_level(l, AF_INET6, 129, 1) == -EINVAL);
    assert(tudp_limiter_level(l, AF_INET, 32, 1) == 0 && tudp_limiter_level(l, AF_INET, 20, 2) == 0);
    for (int i = 0; i < 20; i++)
        taken += tudp_limiter_take(l, &k, 1000000000u, 1);
    assert(taken == 5);
    for (unsigned i = 2; i < TUDP_LEVELS; i++)
        assert(tudp_limiter_level(l, AF_INET6, 64, 1) == 0);
    assert(tudp_limiter_level(l, AF_INET6, 64, 1) == -ENOSPC);
    assert(tudp_limiter_level(l, AF_INET, 0, 1) == -EINVAL && tudp_limiter_level(l, AF_INET, 8, 0) == -EINVAL);
    free(memory);
}

static void a_limiter_lets_loopback_pass_unless_told(void)
{
    uint64_t words[2] = {1, 2};
    void *memory = calloc(1, tudp_limiter_size(10));
    tudp_limiter *l = tudp_limiter_init(memory, 10, 1, 1, words);
    tudp_key home = key_of(1), home6, six;
    home.ip[12] = 127;
    memset(&home6, 0, sizeof home6);
    home6.ip[15] = 1;
    six = home6;
    six.ip[0] = 0x20;
    assert(tudp_limiter_level(l, AF_INET, 32, 1) == 0 && tudp_limiter_level(l, AF_INET6, 61, 1) == 0);
    for (int i = 0; i < 3; i++)
        assert(tudp_limiter_take(l, &home, 1000000000u, 1) && tudp_limiter_take(l, &home6, 1000000000u, 1));
    assert(tudp_limiter_take(l, &six, 1000000000u, 1) && !tudp_limiter_take(l, &six, 1000000000u, 1));
    l->loopback = 1;
    assert(tudp_limiter_take(l, &home, 1000000000u, 1) && !tudp_limiter_take(l, &home, 1000000000u, 1));
    free(memory);
}

static void an_access_list_finds_the_range_of_an_address(void)
{
    tudp_access *a = calloc(1, sizeof *a + 4 * sizeof(tudp_range));
    uint8_t ip[16] = {0};
    a->count = 4;
    for (uint8_t i = 0; i < 4; i++) {
        a->range[i].from[15] = (uint8_t)(i * 10);
        a->range[i].allowed = i & 1;
    }
    for (unsigned n = 0; n < 256; n++) {
        ip[15] = (uint8_t)n;
        assert(tudp_access_check(a, ip) == (n < 10 ? 0 : n < 20 ? 1 : n < 30 ? 0 : 1));
    }
    ip[0] = 255;
    assert(tudp_access_check(a, ip) == 1);
    free(a);
}

int main(void)
{
    for (unsigned seed = 1; seed <= 5; seed++) {
        the_table_agrees_with_a_plain_list(20, seed);
        the_table_agrees_with_a_plain_list(1, seed);
        the_table_agrees_with_a_plain_list(1000, seed);
    }
    a_limiter_counts_per_prefix();
    a_limiter_lets_loopback_pass_unless_told();
    an_access_list_finds_the_range_of_an_address();
    puts("clients: ok");
    return 0;
}
