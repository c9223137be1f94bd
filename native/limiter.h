/* limiter.h: rates per prefix of address, in memory that does not grow.
 *
 * One 64-bit number per bucket (the generic cell rate algorithm, ITU-T I.371:
 * the time at which the bucket would be empty). Buckets are shared by hash, so
 * a collision can only make the limit stricter. Houses call tudp_limiter_take
 * after their own parse.
 */
#ifndef TUDP_LIMITER_H
#define TUDP_LIMITER_H

#include "tudp.h"

#define TUDP_LEVELS 8u

typedef struct tudp_level {
    uint8_t family;    /* AF_INET or AF_INET6 */
    uint8_t bits;      /* prefix length: 1..32, 1..128 */
    uint16_t spare;
    uint32_t times;    /* multiple of the base rate and burst */
} tudp_level;

typedef struct tudp_limiter {
    uint64_t seed[2];
    uint64_t cost;     /* ns that one datagram takes of a bucket at the base rate */
    uint64_t burst;    /* ns that a bucket may run ahead */
    uint32_t mask;     /* buckets - 1 */
    uint32_t levels;
    uint32_t loopback; /* 1: limit loopback sources too */
    uint32_t spare;
    tudp_level level[TUDP_LEVELS];
    /* uint64_t[mask + 1] follow */
} tudp_limiter;

/* Bytes for 2^bits buckets. */
size_t tudp_limiter_size(uint32_t bits);
/* `memory` is zero-filled and 8-byte aligned; `rate` per second > 0, `burst` >= 1 datagrams. */
tudp_limiter *tudp_limiter_init(void *memory, uint32_t bits, double rate, double burst, const uint64_t seed[2]);
/* 0, or -ENOSPC when there are TUDP_LEVELS already, -EINVAL for impossible bits. */
int tudp_limiter_level(tudp_limiter *l, int family, uint32_t bits, uint32_t times);
/* 1: the datagram from `key` may pass and is charged. 0: it is over a rate, and
 * nothing is charged. `weight` datagrams' worth at once. */
int tudp_limiter_take(tudp_limiter *l, const tudp_key *key, uint64_t now, uint32_t weight);

static inline int tudp_is_four(const tudp_key *key)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(key->ip, mapped, 12) == 0;
}

static inline int tudp_is_loopback(const tudp_key *key)
{
    static const uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    return (tudp_is_four(key) && key->ip[12] == 127) || memcmp(key->ip, one, 16) == 0;
}

#endif
