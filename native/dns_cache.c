/* dns_cache.c: see dns_cache.h. */
#include "dns_cache.h"

#include <stdlib.h>

#include "dns_zone.h" /* dns_pages_take */

#define WAYS 8
#define TAG_SHIFT 40
#define RING_BIT ((uint64_t)1 << 39)
#define PLACE_MASK (RING_BIT - 1)

/* --- memory --------------------------------------------------------------- */

dns_cache *dns_cache_new(uint64_t octets, uint32_t keep_stale, const dns_key *key)
{
    if (octets < 65536)
        return NULL;
    size_t size = sizeof(dns_cache);
    dns_cache *cache = dns_pages_take(&size);
    if (!cache)
        return NULL;
    uint64_t sets = 16;
    while (sets < octets / 1024)
        sets *= 2;
    cache->key = *key;
    cache->keep_stale = keep_stale;
    cache->mask = sets - 1;
    cache->index_size = sets * WAYS * sizeof *cache->set;
    cache->set = dns_pages_take(&cache->index_size);
    uint64_t left = octets - sets * WAYS * sizeof *cache->set;
    for (int i = 0; i < 2; i++) {
        cache->ring[i].size = (i ? left - left / 10 : left / 10) & ~(uint64_t)63;
        if (cache->ring[i].size < 2 * DNS_CACHE_ENTRY_MOST)
            cache->ring[i].size = 2 * DNS_CACHE_ENTRY_MOST;
        cache->ring_size[i] = cache->ring[i].size;
        cache->ring[i].memory = dns_pages_take(&cache->ring_size[i]);
    }
    if (!cache->set || !cache->ring[0].memory || !cache->ring[1].memory) {
        dns_cache_free(cache);
        return NULL;
    }
    return cache;
}

void dns_cache_free(dns_cache *cache)
{
    if (!cache)
        return;
    dns_pages_give(cache->set, cache->index_size);
    dns_pages_give(cache->ring[0].memory, cache->ring_size[0]);
    dns_pages_give(cache->ring[1].memory, cache->ring_size[1]);
    dns_pages_give(cache, (sizeof *cache + 4095) & ~(size_t)4095);
}

/* --- the index -------------------------------------------------------------- */

static uint64_t entry_hash(const dns_cache *cache, const dns_query *q, uint16_t view)
{
    uint64_t rest = (uint64_t)q->qtype | (uint64_t)view << 16 | (uint64_t)q->dnssec_ok << 32 |
                    (uint64_t)(q->flags & DNS_CD ? 1 : 0) << 33;
    return dns_mix(q->hash ^ rest, cache->key.k[1]);
}

static uint64_t slot_of(uint64_t hash, int ring, uint64_t place)
{
    return hash >> TAG_SHIFT << TAG_SHIFT | (ring ? RING_BIT : 0) | (place / 8 + 1);
}

static dns_entry *entry_at(const dns_cache *cache, uint64_t slot)
{
    return (dns_entry *)(cache->ring[slot & RING_BIT ? 1 : 0].memory + ((slot & PLACE_MASK) - 1) * 8);
}

static uint64_t *set_of(const dns_cache *cache, uint64_t hash) { return cache->set + (hash & cache->mask) * WAYS; }

static uint8_t *wire_of(dns_entry *entry) { return (uint8_t *)(entry + 1) + 2u * entry->offsets; }

static int same_question(dns_entry *entry, uint64_t hash, const dns_query *q, uint16_t view)
{
    unsigned flags = (q->dnssec_ok ? DNS_ENTRY_DO : 0) | (q->flags & DNS_CD ? DNS_ENTRY_CD : 0);
    return entry->hash == hash && entry->qtype == q->qtype && entry->view == view &&
           (entry->flags & (DNS_ENTRY_DO | DNS_ENTRY_CD)) == flags && entry->name_len == q->name_len &&
           !memcmp(wire_of(entry) + DNS_HEADER, q->name, q->name_len);
}

static uint64_t *find_slot(dns_cache *cache, uint64_t hash, const dns_query *q, uint16_t view)
{
    uint64_t *set = set_of(cache, hash);
    for (int i = 0; i < WAYS; i++) {
        if (!set[i] || set[i] >> TAG_SHIFT != hash >> TAG_SHIFT)
            continue;
        if (same_question(entry_at(cache, set[i]), hash, q, view))
            return &set[i];
        cache->count.collisions++;
    }
    return NULL;
}

void dns_cache_expect(const dns_cache *cache, const dns_query *q, uint16_t view)
{
    __builtin_prefetch(set_of(cache, entry_hash(cache, q, view)));
}

void dns_cache_fetch(const dns_cache *cache, const dns_query *q, uint16_t view)
{
    uint64_t hash = entry_hash(cache, q, view);
    const uint64_t *set = set_of(cache, hash);
    for (int i = 0; i < WAYS; i++)
        if (set[i] && set[i] >> TAG_SHIFT == hash >> TAG_SHIFT) {
            const uint8_t *entry = (const uint8_t *)entry_at(cache, set[i]);
            __builtin_prefetch(entry, 1); /* its marks of use are written */
            __builtin_prefetch(entry + 64);
            __builtin_prefetch(entry + 128);
            return;
        }
}

static void forget(dns_cache *cache, uint64_t *slot)
{
    entry_at(cache, *slot)->flags |= DNS_ENTRY_DEAD;
    *slot = 0;
    cache->entries--;
}

static uint64_t *slot_naming(dns_cache *cache, uint64_t hash, uint64_t value)
{
    uint64_t *set = set_of(cache, hash);
    for (int i = 0; i < WAYS; i++)
        if (set[i] == value)
            return &set[i];
    return NULL;
}

/* A slot for a new entry: free, else that of an entry not used of late. */
static uint64_t *make_slot(dns_cache *cache, uint64_t hash)
{
    uint64_t *set = set_of(cache, hash), *victim = NULL;
    for (int i = 0; i < WAYS && !victim; i++)
        if (!set[i])
            return &set[i];
    for (int i = 0; i < WAYS && !victim; i++)
        if (!(set[i] & RING_BIT) && !entry_at(cache, set[i])->used)
            victim = &set[i];
    for (int i = 0; i < WAYS && !victim; i++)
        if (!entry_at(cache, set[i])->used)
            victim = &set[i];
    if (!victim)
        victim = &set[hash >> 20 & (WAYS - 1)];
    forget(cache, victim);
    cache->count.evicted++;
    return victim;
}

static int current(const dns_cache *cache, const dns_entry *entry)
{
    return entry->view_generation == cache->generation[entry->view] &&
           entry->scope_generation == cache->scopes[entry->scope];
}

/* --- the rings --------------------------------------------------------------- */

static uint64_t ring_put(dns_cache *cache, int which, uint32_t size, int *chances);

/* Takes the oldest entry away from a ring; a used one may be carried on. */
static void ring_drop(dns_cache *cache, int which, int *chances)
{
    dns_ring *ring = &cache->ring[which];
    dns_entry *entry = (dns_entry *)(ring->memory + ring->tail);
    if (ring->size - ring->tail < sizeof *entry || !entry->size) {
        ring->used -= ring->size - ring->tail;
        ring->tail = 0;
        return;
    }
    uint32_t size = entry->size;
    uint64_t *slot = slot_naming(cache, entry->hash, slot_of(entry->hash, which, ring->tail));
    /* While the main ring has free room, what was asked only once may wait there too. */
    int roomy = which == 0 && cache->ring[1].used + size + DNS_CACHE_ENTRY_MOST <= cache->ring[1].size;
    int keep = slot && current(cache, entry) && ((entry->used && *chances > 0) || roomy);
    if (keep) {
        *chances -= *chances > 0;
        memcpy(cache->carried, entry, size);
    } else if (slot) {
        forget(cache, slot);
        cache->count.evicted++;
    }
    ring->used -= size;
    ring->tail += size;
    if (ring->tail == ring->size)
        ring->tail = 0;
    if (!keep)
        return;
    /* Room is made without further carrying, so this ends. */
    int none = 0;
    *slot |= PLACE_MASK; /* nobody's place while it moves */
    uint64_t moving = *slot, place = ring_put(cache, 1, size, &none);
    slot = slot_naming(cache, ((dns_entry *)cache->carried)->hash, moving);
    dns_entry *moved = (dns_entry *)(cache->ring[1].memory + place);
    memcpy(moved, cache->carried, size);
    moved->used = 0;
    *slot = slot_of(moved->hash, 1, place);
    cache->count.moved++;
}

/* Contiguous room at the head of a ring; the oldest give way. Its place. */
static uint64_t ring_put(dns_cache *cache, int which, uint32_t size, int *chances)
{
    dns_ring *ring = &cache->ring[which];
    for (;;) {
        if (!ring->used)
            ring->head = ring->tail = 0;
        int wrapped = ring->used && ring->head <= ring->tail;
        uint64_t free_here = wrapped ? ring->tail - ring->head : ring->size - ring->head;
        if (size <= free_here)
            break;
        if (!wrapped) {
            if (free_here >= sizeof(dns_entry))
                ((dns_entry *)(ring->memory + ring->head))->size = 0;
            ring->used += free_here;
            ring->head = 0;
            if (ring->used < ring->size)
                continue;
        }
        ring_drop(cache, which, chances);
    }
    uint64_t place = ring->head;
    ring->head += size;
    ring->used += size;
    if (ring->head == ring->size)
        ring->head = 0;
    return place;
}

/* --- storing ------------------------------------------------------------------ */

typedef struct reading {
    uint16_t offset[DNS_CACHE_OFFSETS];
    unsigned offsets;
    uint32_t ttl;            /* the lowest */
    uint32_t end;            /* without OPT */
    uint32_t must_fit;
    uint16_t rcode, counts[3];
    int soa, answered;
} reading;

static int read_reply(const dns_query *q, const uint8_t *msg, size_t len, reading *r)
{
    dns_walk walk;
    dns_record record;
    int more, opt = 0;
    uint8_t name[DNS_NAME_MAX];
    size_t name_len;
    int budget = DNS_CLIENT_HOPS;
    memset(r, 0, sizeof *r);
    r->ttl = UINT32_MAX;
    if (dns_walk_begin(&walk, msg, len) < 0 || dns_get16(msg + 4) != 1)
        return DNS_CACHE_MALFORMED;
    size_t behind = dns_name_read(msg, len, DNS_HEADER, name, &name_len, &budget);
    if (!behind || behind - DNS_HEADER != q->name_len || !dns_same_folded(name, q->name, name_len) ||
        dns_get16(msg + behind) != q->qtype || dns_get16(msg + behind + 2) != DNS_IN)
        return DNS_CACHE_MALFORMED;
    if (dns_get16(msg + 2) & DNS_TC)
        return DNS_CACHE_TRUNCATED;
    r->rcode = msg[3] & 15;
    r->must_fit = r->end = (uint32_t)walk.at;
    while ((more = dns_walk_next(&walk, &record)) == 1) {
        if (opt || record.type == DNS_TSIG)
            return DNS_CACHE_MALFORMED; /* OPT is last; signed messages are not kept */
        if (record.type == DNS_OPT) {
            opt = 1;
            r->rcode |= (uint16_t)(record.ttl >> 24 << 4);
            continue;
        }
        if (r->offsets == DNS_CACHE_OFFSETS || record.rdata_at - 6 > UINT16_MAX)
            return DNS_CACHE_SIZE;
        uint32_t ttl = record.ttl > DNS_CACHE_POSITIVE_MOST ? DNS_CACHE_POSITIVE_MOST : record.ttl;
        if (record.section == 2 && record.type == DNS_SOA) {
            uint32_t minimum = dns_get32(msg + record.end - 4);
            r->soa = 1;
            ttl = minimum < ttl ? minimum : ttl;
        }
        r->answered |= record.section == 1 && (record.type == q->qtype || q->qtype == DNS_ANY);
        r->ttl = ttl < r->ttl ? ttl : r->ttl;
        r->offset[r->offsets++] = (uint16_t)(record.rdata_at - 6);
        r->counts[record.section - 1]++;
        r->end = record.end;
        if (record.section < 3)
            r->must_fit = record.end;
    }
    return more < 0 ? DNS_CACHE_MALFORMED : 0;
}

/* How long an answer lives; 0: not at all. */
static uint32_t lifetime(const reading *r)
{
    if (r->answered && r->rcode == DNS_NOERROR)
        return r->ttl;
    if (r->rcode == DNS_YXDOMAIN && r->offsets)
        return r->ttl;
    if (!r->soa)
        return 0;
    return r->ttl > DNS_CACHE_NEGATIVE_MOST ? DNS_CACHE_NEGATIVE_MOST : r->ttl;
}

static uint16_t flags_of(const dns_query *q, const dns_cache_put *put)
{
    return (uint16_t)((q->dnssec_ok ? DNS_ENTRY_DO : 0) | (q->flags & DNS_CD ? DNS_ENTRY_CD : 0) |
                      (put->secure ? DNS_ENTRY_SECURE : 0) | (put->bogus ? DNS_ENTRY_BOGUS : 0) |
                      (put->fixed ? DNS_ENTRY_FIXED : 0));
}

/* A new entry with room for its wire, found by the index. NULL: too large. */
static dns_entry *new_entry(dns_cache *cache, const dns_query *q, const dns_cache_put *put, unsigned offsets,
                            uint32_t wire_len)
{
    uint64_t hash = entry_hash(cache, q, put->view);
    uint64_t size = (sizeof(dns_entry) + 2u * offsets + wire_len + 7) & ~(uint64_t)7;
    int chances = DNS_CACHE_CHANCES, which = 0;
    if (size > DNS_CACHE_ENTRY_MOST)
        return NULL;
    uint64_t *slot = find_slot(cache, hash, q, put->view);
    if (slot) {
        dns_entry *old = entry_at(cache, *slot);
        which = *slot & RING_BIT || old->hits ? 1 : 0; /* asked again before: it has passed probation */
        forget(cache, slot);
    }
    uint64_t place = ring_put(cache, which, (uint32_t)size, &chances);
    slot = make_slot(cache, hash);
    *slot = slot_of(hash, which, place);
    cache->entries++;
    dns_entry *entry = (dns_entry *)(cache->ring[which].memory + place);
    memset(entry, 0, sizeof *entry);
    entry->hash = hash;
    entry->size = (uint32_t)size;
    entry->view = put->view;
    entry->scope = put->scope;
    entry->view_generation = cache->generation[put->view];
    entry->scope_generation = cache->scopes[put->scope];
    entry->wire_len = (uint16_t)wire_len;
    entry->offsets = (uint16_t)offsets;
    entry->qtype = q->qtype;
    entry->name_len = q->name_len;
    entry->question_end = (uint16_t)(DNS_HEADER + q->name_len + 4u);
    entry->flags = flags_of(q, put);
    entry->stored = put->now;
    return entry;
}

int dns_cache_fail(dns_cache *cache, const dns_query *q, const dns_cache_put *put)
{
    uint64_t hash = entry_hash(cache, q, put->view);
    uint64_t *slot = find_slot(cache, hash, q, put->view);
    dns_entry *old = slot ? entry_at(cache, *slot) : NULL;
    uint16_t failures = 1;
    if (old && current(cache, old)) {
        uint64_t age = (put->now - old->stored) / 1000;
        if (old->flags & DNS_ENTRY_FAILURE)
            failures = (uint16_t)(age < DNS_CACHE_FAILURE_MOST + (uint64_t)old->fresh ? old->failures + 1 : 1);
        else if (!put->bogus && age < (uint64_t)old->fresh + old->stale)
            return DNS_CACHE_KEPT; /* what was good may be served stale */
    }
    uint32_t ttl = failures > 6 ? DNS_CACHE_FAILURE_MOST : (uint32_t)DNS_CACHE_FAILURE_FIRST << (failures - 1);
    dns_entry *entry = new_entry(cache, q, put, 0, DNS_HEADER + q->name_len + 4u);
    if (!entry)
        return DNS_CACHE_SIZE;
    entry->flags |= DNS_ENTRY_FAILURE;
    entry->failures = failures > 1000 ? 1000 : failures;
    entry->fresh = ttl; /* 5 << 5 is below the most */
    entry->must_fit = entry->wire_len;
    entry->rcode = DNS_SERVFAIL;
    uint8_t *wire = wire_of(entry);
    memset(wire, 0, DNS_HEADER);
    memcpy(wire + DNS_HEADER, q->name, q->name_len);
    dns_put16(wire + DNS_HEADER + q->name_len, q->qtype);
    dns_put16(wire + DNS_HEADER + q->name_len + 2, DNS_IN);
    cache->count.stored++;
    return DNS_CACHE_STORED;
}

static int store(dns_cache *cache, const dns_query *q, const uint8_t *msg, size_t len, const dns_cache_put *put)
{
    reading r;
    int failed = read_reply(q, msg, len, &r);
    if (failed)
        return failed;
    if (r.rcode != DNS_NOERROR && r.rcode != DNS_NXDOMAIN && r.rcode != DNS_YXDOMAIN)
        return dns_cache_fail(cache, q, put);
    uint32_t ttl = lifetime(&r);
    if (put->most && ttl > put->most)
        ttl = put->most;
    if (ttl < put->least)
        ttl = put->least;
    if (!ttl)
        return DNS_CACHE_TTL;
    dns_entry *entry = new_entry(cache, q, put, put->fixed ? 0 : r.offsets, r.end);
    if (!entry)
        return DNS_CACHE_SIZE;
    entry->fresh = ttl;
    entry->stale = put->fixed || put->bogus ? 0 : cache->keep_stale;
    entry->must_fit = (uint16_t)r.must_fit;
    entry->rcode = (uint8_t)r.rcode;
    if (dns_get16(msg + 2) & DNS_AA)
        entry->flags |= DNS_ENTRY_AA;
    memcpy(entry + 1, r.offset, 2u * entry->offsets);
    uint8_t *wire = wire_of(entry);
    memcpy(wire, msg, r.end);
    memcpy(wire + DNS_HEADER, q->name, q->name_len);
    for (int i = 0; i < 3; i++)
        dns_put16(wire + 6 + 2 * i, r.counts[i]);
    for (unsigned i = 0; i < entry->offsets; i++)
        if (dns_get32(wire + r.offset[i]) > DNS_CACHE_POSITIVE_MOST)
            dns_put32(wire + r.offset[i], DNS_CACHE_POSITIVE_MOST);
    cache->count.stored++;
    return DNS_CACHE_STORED;
}

int dns_cache_store(dns_cache *cache, const dns_query *q, const uint8_t *msg, size_t len, const dns_cache_put *put)
{
    int result = store(cache, q, msg, len, put);
    cache->count.refused += result < 0;
    return result;
}

/* --- answering ------------------------------------------------------------------ */

static void age_ttls(const dns_entry *entry, uint8_t *out, uint32_t end, uint64_t age, int stale)
{
    const uint8_t *offset = (const uint8_t *)(entry + 1);
    for (unsigned i = 0; i < entry->offsets; i++) {
        uint16_t at;
        memcpy(&at, offset + 2 * i, 2);
        if (at + 4u > end)
            break;
        uint32_t ttl = dns_get32(out + at);
        dns_put32(out + at, stale ? DNS_CACHE_STALE_TTL : ttl > age ? ttl - (uint32_t)age : 0);
    }
}

static size_t write_hit(dns_entry *entry, const dns_server *server, const dns_client *client, const uint8_t *msg,
                        const dns_query *q, uint64_t age, int stale, uint16_t flags, uint8_t *out)
{
    dns_extra extra = {.ede = DNS_EDE_NONE};
    if (stale)
        extra.ede = entry->rcode == DNS_NXDOMAIN ? 19 : 3;
    else if (entry->flags & DNS_ENTRY_FAILURE)
        extra.ede = 13;
    if (flags & DNS_RA)
        flags |= q->flags & DNS_CD;
    if (entry->flags & DNS_ENTRY_FIXED && entry->flags & DNS_ENTRY_AA)
        flags |= DNS_AA;
    if (entry->flags & DNS_ENTRY_SECURE && (q->dnssec_ok || q->flags & DNS_AD))
        flags |= DNS_AD;
    size_t limit = dns_reply_limit(server, client, q) - dns_opt_size(server, client, q, &extra);
    const uint8_t *wire = wire_of(entry);
    uint16_t counts[3] = {dns_get16(wire + 6), dns_get16(wire + 8), dns_get16(wire + 10)};
    uint32_t end = entry->wire_len;
    if (end > limit) {
        if (entry->must_fit > limit)
            return dns_error_write(out, server, client, msg, q, flags | DNS_TC, entry->rcode, &extra);
        end = entry->must_fit;
        counts[2] = 0;
    }
    memcpy(out + DNS_HEADER, msg + DNS_HEADER, q->question_end - (size_t)DNS_HEADER);
    memcpy(out + q->question_end, wire + entry->question_end, end - entry->question_end);
    age_ttls(entry, out, end, age, stale);
    return dns_reply_finish(out, end, server, client, msg, q, flags, entry->rcode, counts, &extra);
}

size_t dns_cache_answer(dns_cache *cache, const dns_server *server, const dns_client *client, const uint8_t *msg,
                        const dns_query *q, uint16_t view, uint64_t now, int how, uint16_t flags,
                        uint8_t *out, dns_cache_found *found)
{
    memset(found, 0, sizeof *found);
    uint64_t hash = entry_hash(cache, q, view);
    uint64_t *slot = find_slot(cache, hash, q, view);
    dns_entry *entry = slot ? entry_at(cache, *slot) : NULL;
    if (entry && !current(cache, entry)) {
        forget(cache, slot);
        entry = NULL;
    }
    uint64_t past = entry && now > entry->stored ? now - entry->stored : 0;
    if (!entry || past >= ((uint64_t)entry->fresh + entry->stale) * 1000) {
        cache->count.misses++;
        return 0;
    }
    found->rcode = entry->rcode;
    found->failures = entry->failures;
    int stale = past >= (uint64_t)entry->fresh * 1000;
    found->state = stale ? DNS_CACHE_STALE : DNS_CACHE_HIT;
    if (stale && !(how & DNS_CACHE_SERVE_STALE)) {
        cache->count.misses++;
        return 0;
    }
    if (how & DNS_CACHE_JUST_STORED)
        return write_hit(entry, server, client, msg, q, past / 1000, stale, flags, out);
    if (stale)
        cache->count.stale++;
    else
        cache->count.hits++;
    entry->used = 1;
    if (entry->hits < 255)
        entry->hits++;
    uint64_t left = (uint64_t)entry->fresh * 1000 - past;
    if (!stale && entry->hits >= 2 && entry->fresh >= 10 && left * 10 <= (uint64_t)entry->fresh * 1000 &&
        !(entry->flags & (DNS_ENTRY_REFRESHING | DNS_ENTRY_FAILURE | DNS_ENTRY_FIXED))) {
        entry->flags |= DNS_ENTRY_REFRESHING;
        found->prefetch = 1;
    }
    return write_hit(entry, server, client, msg, q, past / 1000, stale, flags, out);
}

/* --- forgetting --------------------------------------------------------------------- */

void dns_cache_flush_view(dns_cache *cache, uint16_t view) { cache->generation[view % DNS_CACHE_VIEWS]++; }

void dns_cache_flush_scope(dns_cache *cache, uint16_t scope) { cache->scopes[scope % DNS_CACHE_SCOPES]++; }

/* *at: ring number in the top bit, distance from the tail below it. */
const dns_entry *dns_cache_walk(const dns_cache *cache, uint64_t *at)
{
    for (;;) {
        int which = (int)(*at >> 63);
        uint64_t gone = *at & ~((uint64_t)1 << 63);
        const dns_ring *ring = &cache->ring[which];
        if (gone >= ring->used) {
            if (which)
                return NULL;
            *at = (uint64_t)1 << 63;
            continue;
        }
        uint64_t place = ring->tail + gone;
        if (place >= ring->size)
            place -= ring->size;
        const dns_entry *entry = (const dns_entry *)(ring->memory + place);
        if (ring->size - place < sizeof *entry || !entry->size) {
            *at += ring->size - place;
            continue;
        }
        *at += entry->size;
        if (!(entry->flags & DNS_ENTRY_DEAD) && current(cache, entry))
            return entry;
    }
}

uint32_t dns_cache_flush_name(dns_cache *cache, const uint8_t *name, size_t len, int tree, uint16_t qtype)
{
    dns_query q;
    uint64_t at = 0;
    uint32_t gone = 0;
    const dns_entry *entry;
    if (dns_name_check(name, len) < 0)
        return 0;
    dns_query_name(&q, name, len, &cache->key);
    while ((entry = dns_cache_walk(cache, &at))) {
        const uint8_t *owner = (const uint8_t *)(entry + 1) + 2u * entry->offsets + DNS_HEADER;
        size_t skip = 0;
        while (tree && owner[skip] && entry->name_len - skip > q.name_len)
            skip += owner[skip] + 1u;
        if (entry->name_len - skip != q.name_len || memcmp(owner + skip, q.name, q.name_len) ||
            (qtype && entry->qtype != qtype))
            continue;
        uint64_t *set = set_of(cache, entry->hash);
        for (int i = 0; i < WAYS; i++)
            if (set[i] && entry_at(cache, set[i]) == entry) {
                forget(cache, &set[i]);
                gone++;
            }
    }
    return gone;
}
