/* dns_cache.h: answers by question, in fixed memory (spec section 4).
 *
 * Two rings of octets. A new answer enters the small ring (probation); what was
 * asked again by the time the ring comes round to it moves to the main ring,
 * where an answer that was used since the last round stays for another. So a
 * flood of names asked once turns over a tenth of the memory and no more.
 * An index of eight-way sets finds answers. One writer, one thread.
 */
#ifndef DNS_CACHE_H
#define DNS_CACHE_H

#include "dns_message.h"

#define DNS_CACHE_VIEWS 256
#define DNS_CACHE_SCOPES 4096    /* generations of zones, by hash of their origin */
#define DNS_CACHE_POSITIVE_MOST 86400
#define DNS_CACHE_NEGATIVE_MOST 3600
#define DNS_CACHE_FAILURE_FIRST 5
#define DNS_CACHE_FAILURE_MOST 300
#define DNS_CACHE_STALE_TTL 30
#define DNS_CACHE_OFFSETS 400    /* more records than this are not kept */
#define DNS_CACHE_ENTRY_MOST 16384 /* octets; larger answers are not kept */
#define DNS_CACHE_CHANCES 8      /* used entries that one store may carry on */

enum { DNS_ENTRY_DO = 1, DNS_ENTRY_CD = 2, DNS_ENTRY_SECURE = 4, DNS_ENTRY_BOGUS = 8, DNS_ENTRY_FAILURE = 16,
       DNS_ENTRY_DEAD = 32, DNS_ENTRY_REFRESHING = 64, DNS_ENTRY_FIXED = 128, DNS_ENTRY_AA = 256 };

/* One answer, in a ring: then `offsets` 16-bit places of TTLs, then the wire
 * (header, folded question, sections without OPT). Sizes are multiples of 8. */
typedef struct dns_entry {
    uint64_t hash;
    uint32_t size;           /* whole; 0: the ring goes on at its beginning */
    uint32_t view_generation, scope_generation;
    uint32_t fresh, stale;   /* seconds after `stored` */
    uint16_t wire_len, must_fit, offsets, question_end;
    uint16_t qtype, view, scope, flags;
    uint16_t failures;
    uint8_t hits, used, name_len, rcode;
    uint64_t stored;         /* milliseconds */
} dns_entry;

typedef struct dns_ring {
    uint8_t *memory;
    uint64_t size, head, tail, used; /* the oldest entry stands at tail */
} dns_ring;

typedef struct dns_cache_counts {
    uint64_t hits, misses, stale, stored, evicted, refused, collisions, moved;
} dns_cache_counts;

typedef struct dns_cache {
    dns_key key;
    uint64_t *set;           /* eight slots of {tag 24 bits, ring 1 bit, offset / 8} each */
    uint64_t mask;
    dns_ring ring[2];        /* probation, main */
    uint32_t entries;
    uint32_t keep_stale;     /* seconds past expiry */
    uint32_t generation[DNS_CACHE_VIEWS];
    uint32_t scopes[DNS_CACHE_SCOPES];
    dns_cache_counts count;
    size_t index_size, ring_size[2];
    uint8_t carried[DNS_CACHE_ENTRY_MOST]; /* an entry on its way from one place to another */
} dns_cache;

/* `octets` in all, index included; at least 65,536. NULL without memory. */
dns_cache *dns_cache_new(uint64_t octets, uint32_t keep_stale, const dns_key *key);
void dns_cache_free(dns_cache *cache);

/* Why something was not stored: a negative number. */
enum { DNS_CACHE_STORED = 0, DNS_CACHE_MALFORMED = -1, DNS_CACHE_TRUNCATED = -2, DNS_CACHE_TTL = -3,
       DNS_CACHE_SIZE = -4, DNS_CACHE_KEPT = -5 };

typedef struct dns_cache_put {
    uint64_t now;            /* milliseconds, monotonic */
    uint16_t view, scope;
    uint8_t secure;          /* validated: AD for who asks */
    uint8_t bogus;           /* a failure that is never served stale */
    uint8_t fixed;           /* from a zone of ours: TTLs do not age */
    uint32_t least;          /* floor of the lifetime in seconds, also of what is never kept */
    uint32_t most;           /* cap on the lifetime in seconds, 0: none (signatures, handlers) */
} dns_cache_put;

/* Stores the reply `msg` to the question of `q` (name, type, DO, CD). The TTLs and
 * RCODE in it decide how long (C2, C3). DNS_CACHE_*. */
int dns_cache_store(dns_cache *cache, const dns_query *q, const uint8_t *msg, size_t len, const dns_cache_put *put);

/* Remembers that nobody answered (C3). */
int dns_cache_fail(dns_cache *cache, const dns_query *q, const dns_cache_put *put);

/* What a look-up found. */
enum { DNS_CACHE_MISS = 0, DNS_CACHE_HIT = 1, DNS_CACHE_STALE = 2 };

typedef struct dns_cache_found {
    int state;
    uint8_t prefetch;        /* once for each entry: ask again behind this answer (C9) */
    uint16_t rcode;
    uint16_t failures;
} dns_cache_found;

/* How to look up: stale answers too, or for who waited for this answer (no hit: it has not been asked again). */
enum { DNS_CACHE_SERVE_STALE = 1, DNS_CACHE_JUST_STORED = 2 };

/* Looks up and writes the reply for this client. Fresh answers always; stale ones
 * with DNS_CACHE_SERVE_STALE (TTL 30, EDE 3 or 19). Returns the length, 0 for a miss
 * (found->state is DNS_CACHE_STALE when a stale one is there). */
size_t dns_cache_answer(dns_cache *cache, const dns_server *server, const dns_client *client, const uint8_t *msg,
                        const dns_query *q, uint16_t view, uint64_t now, int how, uint16_t flags,
                        uint8_t *out, dns_cache_found *found);

/* Hints to memory that `q` will be asked: first its set of the index, then its entry. */
void dns_cache_expect(const dns_cache *cache, const dns_query *q, uint16_t view);
void dns_cache_fetch(const dns_cache *cache, const dns_query *q, uint16_t view);

/* Forgets. A view or a zone in one step (C12); a name, with all below it or not,
 * of one type or all (0), by a walk over the rings. The number of entries. */
void dns_cache_flush_view(dns_cache *cache, uint16_t view);
void dns_cache_flush_scope(dns_cache *cache, uint16_t scope);
uint32_t dns_cache_flush_name(dns_cache *cache, const uint8_t *name, size_t len, int tree, uint16_t qtype);
/* Live entries one by one: *at begins as 0; NULL at the end. */
const dns_entry *dns_cache_walk(const dns_cache *cache, uint64_t *at);

#endif
