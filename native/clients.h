/* clients.h: a table of clients in memory that is handed in.
 *
 * Maps a tudp_key to a small number, remembers when each client was last seen,
 * never holds more than `most` clients: the longest silent one makes room. One
 * block of memory, addressed by offset, so that it may lie in shared memory.
 * Used for the positions of MultiHandler and for sessions.
 */
#ifndef TUDP_CLIENTS_H
#define TUDP_CLIENTS_H

#include "tudp.h"

#define TUDP_NOBODY UINT32_MAX

typedef struct tudp_client {
    tudp_key key;
    uint64_t seen; /* ns, the owner's clock */
    uint32_t value;
    uint32_t older, newer; /* order of silence, by number; TUDP_NOBODY ends it */
    uint32_t spare;
} tudp_client;

typedef struct tudp_bucket {
    uint32_t tag;
    uint32_t number; /* of the client plus 1; 0: empty */
} tudp_bucket;

typedef struct tudp_clients {
    uint64_t seed[2];
    uint32_t most;
    uint32_t count;
    uint32_t mask;   /* buckets - 1 */
    uint32_t oldest, newest;
    uint32_t unused; /* first number never used */
    uint32_t freed;  /* chain of freed numbers through `older` */
    uint32_t spare;
    /* tudp_bucket[mask + 1], then tudp_client[most] follow */
} tudp_clients;

/* Bytes of memory for at most `most` clients (1 .. 2^26). Zero-filled pages are
 * touched only as clients come. */
size_t tudp_clients_size(uint32_t most);
/* `memory` must be zero-filled and 8-byte aligned. */
tudp_clients *tudp_clients_init(void *memory, uint32_t most, const uint64_t seed[2]);

/* The number of the client, or TUDP_NOBODY. Does not count as seen. */
uint32_t tudp_clients_find(const tudp_clients *t, const tudp_key *key);
/* Find or add. `*fresh` is 1 when it was added (over the longest silent one if
 * the table was full). */
uint32_t tudp_clients_place(tudp_clients *t, const tudp_key *key, uint64_t now, int *fresh);
/* The client was heard. */
void tudp_clients_touch(tudp_clients *t, uint32_t number, uint64_t now);
void tudp_clients_remove(tudp_clients *t, uint32_t number);
/* The longest silent client if it was last seen before `limit`, else TUDP_NOBODY. */
uint32_t tudp_clients_expired(const tudp_clients *t, uint64_t limit);

static inline tudp_client *tudp_clients_at(tudp_clients *t, uint32_t number)
{
    tudp_bucket *buckets = (tudp_bucket *)(t + 1);
    return (tudp_client *)(buckets + (size_t)t->mask + 1) + number;
}

#endif
