#include "clients.h"

static uint32_t buckets_for(uint32_t most)
{
    uint32_t n = 16;
    while (n < most * 2u)
        n *= 2;
    return n;
}

size_t tudp_clients_size(uint32_t most)
{
    return sizeof(tudp_clients) + (size_t)buckets_for(most) * sizeof(tudp_bucket) +
           (size_t)most * sizeof(tudp_client);
}

tudp_clients *tudp_clients_init(void *memory, uint32_t most, const uint64_t seed[2])
{
    tudp_clients *t = memory;
    t->seed[0] = seed[0];
    t->seed[1] = seed[1];
    t->most = most;
    t->mask = buckets_for(most) - 1;
    t->oldest = t->newest = t->freed = TUDP_NOBODY;
    return t;
}

static inline tudp_bucket *buckets_of(const tudp_clients *t) { return (tudp_bucket *)(t + 1); }

static inline const tudp_client *client_at(const tudp_clients *t, uint32_t number)
{
    return tudp_clients_at((tudp_clients *)t, number);
}

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t r = (__uint128_t)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

/* Keyed, so that a stranger cannot choose addresses that collide. */
static inline uint32_t hash_of(const tudp_clients *t, const tudp_key *key)
{
    uint64_t a, b, c;
    memcpy(&a, (const uint8_t *)key, 8);
    memcpy(&b, (const uint8_t *)key + 8, 8);
    memcpy(&c, (const uint8_t *)key + 16, 8);
    a = fold(a ^ t->seed[0], b ^ t->seed[1]);
    a = fold(a ^ c ^ 0x9e3779b97f4a7c15u, t->seed[0] | 1);
    return (uint32_t)(a ^ (a >> 32));
}

/* The bucket of `key`, or the empty one where it would stand. */
static uint32_t bucket_of(const tudp_clients *t, const tudp_key *key, uint32_t hash)
{
    const tudp_bucket *buckets = buckets_of(t);
    uint32_t at = hash & t->mask;
    while (buckets[at].number) {
        if (buckets[at].tag == hash && memcmp(&client_at(t, buckets[at].number - 1)->key, key, sizeof *key) == 0)
            break;
        at = (at + 1) & t->mask;
    }
    return at;
}

static void unlink_client(tudp_clients *t, tudp_client *c)
{
    if (c->older == TUDP_NOBODY)
        t->oldest = c->newer;
    else
        tudp_clients_at(t, c->older)->newer = c->newer;
    if (c->newer == TUDP_NOBODY)
        t->newest = c->older;
    else
        tudp_clients_at(t, c->newer)->older = c->older;
}

static void link_newest(tudp_clients *t, tudp_client *c, uint32_t number)
{
    c->older = t->newest;
    c->newer = TUDP_NOBODY;
    if (t->newest == TUDP_NOBODY)
        t->oldest = number;
    else
        tudp_clients_at(t, t->newest)->newer = number;
    t->newest = number;
}

uint32_t tudp_clients_find(const tudp_clients *t, const tudp_key *key)
{
    const tudp_bucket *bucket = &buckets_of(t)[bucket_of(t, key, hash_of(t, key))];
    return bucket->number ? bucket->number - 1 : TUDP_NOBODY;
}

void tudp_clients_touch(tudp_clients *t, uint32_t number, uint64_t now)
{
    tudp_client *c = tudp_clients_at(t, number);
    c->seen = now;
    if (t->newest != number) {
        unlink_client(t, c);
        link_newest(t, c, number);
    }
}

uint32_t tudp_clients_place(tudp_clients *t, const tudp_key *key, uint64_t now, int *fresh)
{
    uint32_t hash = hash_of(t, key);
    uint32_t at = bucket_of(t, key, hash);
    uint32_t number;
    tudp_client *c;
    *fresh = 0;
    if (buckets_of(t)[at].number) {
        number = buckets_of(t)[at].number - 1;
        tudp_clients_touch(t, number, now);
        return number;
    }
    if (t->count == t->most) {
        tudp_clients_remove(t, t->oldest);
        at = bucket_of(t, key, hash); /* removing moves buckets */
    }
    if (t->freed != TUDP_NOBODY) {
        number = t->freed;
        t->freed = tudp_clients_at(t, number)->older;
    } else {
        number = t->unused++;
    }
    c = tudp_clients_at(t, number);
    c->key = *key;
    c->seen = now;
    c->value = 0;
    link_newest(t, c, number);
    buckets_of(t)[at].tag = hash;
    buckets_of(t)[at].number = number + 1;
    t->count++;
    *fresh = 1;
    return number;
}

void tudp_clients_remove(tudp_clients *t, uint32_t number)
{
    tudp_bucket *buckets = buckets_of(t);
    tudp_client *c = tudp_clients_at(t, number);
    uint32_t hole = bucket_of(t, &c->key, hash_of(t, &c->key));
    uint32_t at = hole;
    for (;;) { /* close the gap, so that no search ends too early */
        at = (at + 1) & t->mask;
        if (!buckets[at].number)
            break;
        if (((at - (buckets[at].tag & t->mask)) & t->mask) >= ((at - hole) & t->mask)) {
            buckets[hole] = buckets[at];
            hole = at;
        }
    }
    buckets[hole].number = 0;
    unlink_client(t, c);
    c->older = t->freed;
    t->freed = number;
    t->count--;
}

uint32_t tudp_clients_expired(const tudp_clients *t, uint64_t limit)
{
    if (t->oldest == TUDP_NOBODY || client_at(t, t->oldest)->seen >= limit)
        return TUDP_NOBODY;
    return t->oldest;
}
