#include "limiter.h"

#include <errno.h>

size_t tudp_limiter_size(uint32_t bits) { return sizeof(tudp_limiter) + ((size_t)1 << bits) * sizeof(uint64_t); }

tudp_limiter *tudp_limiter_init(void *memory, uint32_t bits, double rate, double burst, const uint64_t seed[2])
{
    tudp_limiter *l = memory;
    l->seed[0] = seed[0];
    l->seed[1] = seed[1];
    l->cost = (uint64_t)(1e9 / rate);
    l->burst = (uint64_t)(1e9 / rate * (burst - 1));
    l->mask = (uint32_t)(((size_t)1 << bits) - 1);
    return l;
}

int tudp_limiter_level(tudp_limiter *l, int family, uint32_t bits, uint32_t times)
{
    if (bits < 1 || bits > (family == AF_INET ? 32u : 128u) || times < 1)
        return -EINVAL;
    if (l->levels == TUDP_LEVELS)
        return -ENOSPC;
    l->level[l->levels++] = (tudp_level){(uint8_t)family, (uint8_t)bits, 0, times};
    return 0;
}

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t r = (__uint128_t)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static uint64_t *bucket(tudp_limiter *l, const uint8_t *ip, uint32_t bits, uint32_t number)
{
    uint8_t prefix[16] = {0};
    uint64_t a, b;
    memcpy(prefix, ip, bits / 8);
    if (bits % 8)
        prefix[bits / 8] = (uint8_t)(ip[bits / 8] & (0xff00u >> (bits % 8)));
    memcpy(&a, prefix, 8);
    memcpy(&b, prefix + 8, 8);
    a = fold(a ^ l->seed[0] ^ number, b ^ l->seed[1]);
    a = fold(a ^ l->seed[1], 0x9e3779b97f4a7c15u ^ number);
    return (uint64_t *)(l + 1) + (a & l->mask);
}

int tudp_limiter_take(tudp_limiter *l, const tudp_key *key, uint64_t now, uint32_t weight)
{
    uint64_t *at[TUDP_LEVELS], then[TUDP_LEVELS];
    uint32_t i, used = 0;
    int four = tudp_is_four(key), family = four ? AF_INET : AF_INET6;
    const uint8_t *ip = four ? key->ip + 12 : key->ip;
    if (!l->loopback && tudp_is_loopback(key))
        return 1;
    for (i = 0; i < l->levels; i++) {
        const tudp_level *level = &l->level[i];
        uint64_t *b, start;
        if (level->family != family)
            continue;
        b = bucket(l, ip, level->bits, i);
        start = *b > now ? *b : now;
        if (start - now > l->burst)
            return 0;
        at[used] = b;
        then[used++] = start + l->cost * weight / level->times;
    }
    for (i = 0; i < used; i++)
        *at[i] = then[i];
    return 1;
}
