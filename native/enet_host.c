/* enet_host.c: the host, its peers and their indexes, the timing wheel, events. */
#include "enet_inside.h"

#include <stdlib.h>
#include <string.h>

void en_config_default(en_config *c)
{
    *c = (en_config){
        .memory = (uint64_t)1 << 30, .reassembly_bytes = 16 << 20, .max_peers = 10000, .per_prefix = 1024, .half_open = 65536,
        .channels = 255, .mtu = EN_MTU, .max_message = 65536, .max_fragments = 121, .max_groups = 16,
        .group_bytes = 512 << 10, .max_waiting = 1024, .waiting_bytes = 512 << 10, .queue_bytes = 512 << 10,
        .queue_age = 1000, .max_acks = 1024, .rate = 500, .byte_rate = 512 << 10, .max_malformed = 16,
        .ping = 5000, .checksum = 2,
    };
}

en_host *en_host_new(const en_config *config)
{
    en_host *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->config = *config;
    if (h->config.channels < 1 || h->config.channels > 255)
        h->config.channels = 255;
    if (h->config.mtu < EN_MTU_LEAST || h->config.mtu > EN_MTU_MOST)
        h->config.mtu = EN_MTU;
    if (h->config.half_open < 1 || h->config.half_open > 1 << 24)
        h->config.half_open = 65536;
    en_list_init(&h->peers);
    en_list_init(&h->dirty);
    en_list_init(&h->gone);
    h->coder = malloc(sizeof *h->coder);
    if (!h->coder || (config->accept && en_half_init(h))) {
        en_host_free(h);
        return NULL;
    }
    h->now = config->clock;
    h->wheel_now = h->now;
    return h;
}

static void peer_free(en_host *h, en_peer *p)
{
    en_queues_end(h, p); /* first: what is unacked counts in its channel */
    if (p->channel) {
        for (uint32_t i = 0; i < p->channels; i++) {
            if (!p->channel[i])
                continue;
            en_channel_end(h, p, p->channel[i]);
            en_free(&h->pool, p->channel[i], sizeof(en_channel));
        }
        en_free(&h->pool, p->channel, p->channels * sizeof *p->channel);
    }
    en_free(&h->pool, p, sizeof *p);
}

static void release_held(en_host *h)
{
    for (uint32_t i = 0; i < h->held_count; i++)
        en_block_drop(&h->pool, h->held[i]);
    h->held_count = 0;
}

/* Frees peers that are gone; one whose last word has not left yet stays. */
static void bury(en_host *h, int all)
{
    for (en_link *at = h->gone.next, *next; at != &h->gone; at = next) {
        next = at->next;
        en_peer *p = EN_OF(en_peer, all, at);
        if (p->dirty.next && !all)
            continue;
        en_list_remove(at);
        if (p->dirty.next)
            en_list_remove(&p->dirty);
        peer_free(h, p);
    }
}

void en_host_free(en_host *h)
{
    if (!h)
        return;
    en_events_done(h);
    release_held(h);
    bury(h, 1);
    while (!en_list_empty(&h->peers)) {
        en_peer *p = EN_OF(en_peer, all, h->peers.next);
        en_list_remove(&p->all);
        peer_free(h, p);
    }
    en_half_end(h);
    en_map *maps[] = {&h->by_id, &h->by_client, &h->by_address, &h->by_prefix, &h->bans, &h->unacked};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        en_map_end(maps[i]);
    en_pool_end(&h->pool);
    free(h->coder);
    free(h->event);
    free(h->held);
    free(h);
}

void en_host_limits(en_host *h, const en_config *config)
{
    en_config was = h->config;
    h->config = *config;
    memcpy(h->config.secret, was.secret, sizeof was.secret);
    h->config.half_open = was.half_open;
    h->config.clock = was.clock;
    h->config.compress = was.compress;
    h->config.accept = was.accept;
}

const en_config *en_host_config(const en_host *h) { return &h->config; }

/* What the last turn lent out is free again, and the clock moves. */
void en_begin(en_host *h, uint64_t now)
{
    if (now == h->turn_now)
        return;
    release_held(h);
    if (h->event_count == 0)
        bury(h, 0);
    if (now < h->turn_now)
        return; /* a clock that steps back stands still here */
    if (h->turn_now == 0) /* the wheel starts where the clock does */
        h->wheel_now = (uint32_t)(now / 1000000) + h->config.clock;
    h->turn_now = now;
    h->ms = now / 1000000;
    h->now = (uint32_t)h->ms + h->config.clock;
}

/* ---- events ---- */

/* Beyond the rows that are used every peer has one free, so that its LEAVE needs no memory: whoever was told
 * of a peer is told of its end. */
int en_event_rows(en_host *h, uint32_t more)
{
    uint32_t need = h->event_count + h->peer_count + more, room = h->event_room ? h->event_room : 64;
    if (need <= h->event_room)
        return 0;
    while (room < need)
        room *= 2;
    en_event *event = realloc(h->event, room * sizeof *event);
    if (!event)
        return -1;
    h->event = event;
    h->event_room = room;
    return 0;
}

static en_event *next_row(en_host *h, en_peer *p, int kind)
{
    en_event *e = &h->event[h->event_count++];
    *e = (en_event){.peer = p, .kind = (uint8_t)kind};
    return e;
}

en_event *en_event_add(en_host *h, en_peer *p, int kind)
{
    if (h->event_count + h->peer_count >= h->event_room && en_event_rows(h, 1))
        return NULL;
    return next_row(h, p, kind);
}

uint32_t en_event_count(const en_host *h) { return h->event_count; }
en_event *en_event_at(en_host *h, uint32_t index) { return &h->event[index]; }

void en_events_done(en_host *h)
{
    for (uint32_t i = 0; i < h->event_count; i++)
        en_block_drop(&h->pool, h->event[i].owner);
    h->event_count = 0;
}

/* ---- peers and their indexes ---- */

uint64_t en_hash_key(const uint64_t secret[2], const tudp_key *key)
{
    uint64_t words[3];
    memcpy(words, key, sizeof words);
    return en_sip(secret, words, 3);
}

static uint64_t id_key(uint64_t hash, uint16_t id) { return hash ^ (uint64_t)(id + 1u) * 0x9e3779b97f4a7c15u; }

int en_is_loopback(const tudp_key *key)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    return (!memcmp(key->ip, mapped, 12) && key->ip[12] == 127) || !memcmp(key->ip, one, 16);
}

static uint64_t prefix_key(const en_host *h, const tudp_key *key)
{
    uint64_t words[2];
    memcpy(words, key->ip, 16);
    uint8_t *p = (uint8_t *)words;
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (!memcmp(p, mapped, 12))
        p[15] = 0; /* /24 */
    else
        memset(p + 7, 0, 9); /* /56 */
    return en_sip(h->config.secret, words, 2);
}

int en_prefix_full(en_host *h, const tudp_key *key)
{
    if (!h->config.per_prefix || (en_is_loopback(key) && !h->config.limit_loopback))
        return 0;
    uint64_t *count = en_map_find(&h->by_prefix, prefix_key(h, key));
    return count && *count >= h->config.per_prefix;
}

static uint64_t ban_key(const en_host *h, const uint8_t ip[16])
{
    uint64_t words[3] = {0, 0, 'b'};
    memcpy(words, ip, 16);
    return en_sip(h->config.secret, words, 3);
}

int en_banned(en_host *h, const tudp_key *key)
{
    if (!h->bans.count)
        return 0;
    uint64_t k = ban_key(h, key->ip), *until = en_map_find(&h->bans, k);
    if (!until)
        return 0;
    if (*until > h->turn_now)
        return 1;
    en_map_remove(&h->bans, k);
    return 0;
}

int en_ban(en_host *h, const uint8_t ip[16], uint64_t until)
{
    uint64_t k = ban_key(h, ip);
    if (!until) {
        en_map_remove(&h->bans, k);
        return 0;
    }
    uint64_t *at = en_map_make(&h->bans, k);
    if (!at)
        return EN_NO_MEMORY;
    *at = until;
    return 0;
}

en_peer *en_find(en_host *h, const tudp_key *key, uint64_t hash, uint16_t our_id)
{
    uint64_t *at = en_map_find(&h->by_id, id_key(hash, our_id));
    if (!at)
        return NULL;
    en_peer *p = (en_peer *)(uintptr_t)*at;
    return p->our_id == our_id && !memcmp(&p->key, key, sizeof *key) ? p : NULL;
}

en_peer *en_find_client(en_host *h, const tudp_key *key, uint64_t hash, uint16_t their_id)
{
    uint64_t *at = en_map_find(&h->by_client, id_key(hash, their_id));
    if (!at)
        return NULL;
    en_peer *p = (en_peer *)(uintptr_t)*at;
    return p->their_id == their_id && !memcmp(&p->key, key, sizeof *key) ? p : NULL;
}

static void count_down(en_map *map, uint64_t key)
{
    uint64_t *count = en_map_find(map, key);
    if (count && --*count == 0)
        en_map_remove(map, key);
}

en_peer *en_peer_new(en_host *h, const tudp_key *key, uint64_t hash, uint16_t our_id, const tudp_sockaddr *address,
                     const tudp_local *local)
{
    uint64_t *by_id = en_map_make(&h->by_id, id_key(hash, our_id));
    en_peer *p = by_id ? en_alloc(&h->pool, sizeof *p) : NULL;
    uint64_t *by_address = p && !en_event_rows(h, 1) ? en_map_make(&h->by_address, hash) : NULL;
    uint64_t *prefix = by_address ? en_map_make(&h->by_prefix, prefix_key(h, key)) : NULL;
    if (!prefix) {
        if (by_address && !*by_address)
            en_map_remove(&h->by_address, hash);
        if (p)
            en_free(&h->pool, p, sizeof *p);
        en_map_remove(&h->by_id, id_key(hash, our_id));
        return NULL;
    }
    memset(p, 0, sizeof *p);
    *by_id = (uint64_t)(uintptr_t)p;
    ++*by_address;
    ++*prefix;
    p->key = *key;
    p->hash = hash;
    p->serial = ++h->serials;
    p->our_id = our_id;
    p->their_id = EN_NO_ID;
    p->address = *address;
    if (local)
        p->local = *local;
    p->loopback = (uint8_t)en_is_loopback(key);
    p->mtu = h->config.mtu;
    p->rtt = p->lowest_rtt = p->last_rtt = 500;
    p->smooth = 8 * 480; /* and the slack: 500 ms before any sample */
    p->throttle = p->throttle_limit = 32;
    p->acceleration = p->deceleration = 2;
    p->interval = 5000;
    p->last_heard = p->last_ack = p->connected_at = p->loss_epoch = p->pass = p->tokens_at = h->now;
    p->tokens = h->config.rate;
    p->byte_tokens = h->config.byte_rate;
    en_link *lists[] = {&p->control_queue, &p->resend, &p->reliable, &p->unreliable, &p->sent};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        en_list_init(lists[i]);
    en_list_add(&h->peers, &p->all);
    h->peer_count++;
    return p;
}

int en_peer_index(en_host *h, en_peer *p)
{
    uint64_t *at = en_map_make(&h->by_client, id_key(p->hash, p->their_id));
    if (!at)
        return -1;
    *at = (uint64_t)(uintptr_t)p;
    return 0;
}

static void unschedule(en_host *h, en_peer *p)
{
    if (!p->in_wheel)
        return;
    en_list_remove(&p->wheel);
    p->in_wheel = 0;
    h->timed--;
    uint32_t slot = p->wheel_at % EN_WHEEL;
    if (en_list_empty(&h->wheel[slot]) && !(h->wheel_used[slot / 64] &= ~((uint64_t)1 << slot % 64)))
        h->wheel_words[slot / 4096] &= ~((uint64_t)1 << slot / 64 % 64);
}

void en_peer_gone(en_host *h, en_peer *p, en_word word, uint32_t code, int by_peer)
{
    if (p->state == EN_GONE)
        return;
    en_event *e = next_row(h, p, EN_EVENT_LEAVE); /* its own, see en_event_rows */
    e->word = (uint8_t)word;
    e->code = code;
    e->by_peer = (uint8_t)by_peer;
    e->joined = p->joined;
    p->state = EN_GONE;
    h->totals.leaves += p->joined;
    unschedule(h, p);
    en_map_remove(&h->by_id, id_key(p->hash, p->our_id));
    if (p->their_id != EN_NO_ID && en_find_client(h, &p->key, p->hash, p->their_id) == p)
        en_map_remove(&h->by_client, id_key(p->hash, p->their_id));
    count_down(&h->by_address, p->hash);
    count_down(&h->by_prefix, prefix_key(h, &p->key));
    en_queues_end(h, p);
    en_list_remove(&p->all);
    en_list_add(&h->gone, &p->all);
    h->peer_count--;
}

en_channel *en_channel_of(en_host *h, en_peer *p, uint8_t channel)
{
    if (!p->channel) {
        p->channel = en_alloc(&h->pool, p->channels * sizeof *p->channel);
        if (!p->channel)
            return NULL;
        memset(p->channel, 0, p->channels * sizeof *p->channel);
    }
    en_channel *c = p->channel[channel];
    if (!c) {
        c = en_alloc(&h->pool, sizeof *c);
        if (!c)
            return NULL;
        memset(c, 0, sizeof *c);
        en_list_init(&c->reliable);
        en_list_init(&c->unreliable);
        p->channel[channel] = c;
    }
    return c;
}

void en_dirty(en_host *h, en_peer *p)
{
    if (!p->dirty.next)
        en_list_add(&h->dirty, &p->dirty);
}

uint32_t en_window_for(uint32_t outgoing, uint32_t incoming)
{
    if (!outgoing && !incoming)
        return EN_WINDOW_MOST;
    uint32_t low = outgoing < incoming ? outgoing : incoming, high = outgoing < incoming ? incoming : outgoing;
    uint64_t window = (uint64_t)((low ? low : high) / 65536) * 4096;
    return window < EN_WINDOW_LEAST ? EN_WINDOW_LEAST : window > EN_WINDOW_MOST ? EN_WINDOW_MOST : (uint32_t)window;
}

/* ---- the timing wheel ---- */

void en_schedule(en_host *h, en_peer *p, uint32_t at)
{
    if (en_before(at, h->wheel_now + 1))
        at = h->wheel_now + 1;
    if (at - h->wheel_now >= EN_WHEEL)
        at = h->wheel_now + EN_WHEEL - 1;
    if (p->in_wheel) {
        if (!en_before(at, p->wheel_at))
            return; /* an early ring costs one look */
        unschedule(h, p);
    }
    uint32_t slot = at % EN_WHEEL;
    uint64_t bit = (uint64_t)1 << slot % 64;
    p->wheel_at = at;
    p->in_wheel = 1;
    if (!(h->wheel_used[slot / 64] & bit))
        en_list_init(&h->wheel[slot]); /* a slot is a list only while it is used */
    en_list_add(&h->wheel[slot], &p->wheel);
    h->wheel_used[slot / 64] |= bit;
    h->wheel_words[slot / 4096] |= (uint64_t)1 << slot / 64 % 64;
    h->timed++;
}

/* ms from wheel_now to the next used slot, 1..8191, or 0 when there is none. */
static uint32_t wheel_next(const en_host *h)
{
    if (!h->timed)
        return 0;
    uint32_t start = (h->wheel_now + 1) % EN_WHEEL;
    uint64_t first = h->wheel_used[start / 64] >> start % 64;
    if (first)
        return 1 + (uint32_t)__builtin_ctzll(first);
    /* the words behind that one, round the wheel: two halves of 64, the first of them twice */
    uint32_t word = start / 64, half = word / 64, past = word % 64 + 1;
    uint64_t used = past < 64 ? h->wheel_words[half] >> past << past : 0;
    for (int i = 0; i < 3; i++, used = h->wheel_words[half ^= 1]) {
        if (!used)
            continue;
        uint32_t found = half * 64 + (uint32_t)__builtin_ctzll(used);
        uint32_t ahead = (found - word - 1) % (EN_WHEEL / 64) + 1;
        return 1 + ahead * 64 - start % 64 + (uint32_t)__builtin_ctzll(h->wheel_used[found]);
    }
    return 0;
}

void en_due(en_host *h, tudp_turn *turn)
{
    en_begin(h, turn->now);
    uint32_t budget = EN_TIMERS_A_CALL;
    while (en_before(h->wheel_now, h->now)) {
        uint32_t step = wheel_next(h);
        if (!step || step > h->now - h->wheel_now) {
            h->wheel_now = h->now;
            return;
        }
        uint32_t at = h->wheel_now + step;
        en_link *slot = &h->wheel[at % EN_WHEEL];
        while (!en_list_empty(slot)) {
            if (budget-- == 0) {
                h->wheel_now = at - 1; /* the rest next time */
                return;
            }
            en_peer *p = EN_OF(en_peer, wheel, slot->next);
            unschedule(h, p);
            uint32_t keep = h->wheel_now;
            h->wheel_now = at; /* so that what it schedules lands behind this slot */
            en_timer(h, turn, p);
            h->wheel_now = keep;
        }
        h->wheel_now = at;
    }
}

uint64_t en_deadline(const en_host *h)
{
    if (!en_list_empty(&h->dirty))
        return h->turn_now;
    uint32_t step = wheel_next(h);
    if (!step)
        return TUDP_NEVER;
    int32_t ahead = (int32_t)(h->wheel_now + step - h->now);
    return ahead <= 0 ? h->turn_now : (h->ms + (uint32_t)ahead) * 1000000;
}

/* ---- datagrams ---- */

int en_open(en_host *h, const en_header *head, const uint8_t *data, uint32_t len, int checksum,
            const uint8_t connect_id[4], const uint8_t **commands, uint32_t *size, en_block **owner)
{
    uint32_t at = head->size + (checksum ? 4u : 0u);
    *owner = NULL;
    if (len < at)
        return -1;
    *commands = data + at;
    *size = len - at;
    if (head->compressed) {
        long got = en_range_decompress(h->coder, data + at, len - at, h->scratch, EN_MTU_MOST - at);
        if (got < 0)
            return -1;
        *owner = en_block_new(&h->pool, (uint32_t)got);
        if (!*owner)
            return 1;
        memcpy((*owner)->data, h->scratch, (size_t)got);
        *commands = (*owner)->data;
        *size = (uint32_t)got;
    }
    if (checksum && en_checksum(data, head->size, connect_id, *commands, *size) != en_get32(data + head->size)) {
        en_block_drop(&h->pool, *owner);
        *owner = NULL;
        return -1;
    }
    return 0;
}

/* The rate of a proven peer. 1: over it. */
static int limited(en_host *h, tudp_turn *turn, en_peer *p, uint32_t len)
{
    if (p->loopback && !h->config.limit_loopback)
        return 0;
    uint32_t passed = h->now - p->tokens_at;
    if (passed) {
        passed = passed > 1000 ? 1000 : passed;
        uint64_t more = (uint64_t)h->config.rate * passed / 1000, bytes = (uint64_t)h->config.byte_rate * passed / 1000;
        if (more || !h->config.rate)
            p->tokens_at = h->now;
        p->tokens = (uint32_t)(p->tokens + more > h->config.rate ? h->config.rate : p->tokens + more);
        if (more || !h->config.rate)
            p->byte_tokens = (uint32_t)(p->byte_tokens + bytes > h->config.byte_rate ? h->config.byte_rate
                                                                                    : p->byte_tokens + bytes);
    }
    if ((!h->config.rate || p->tokens) && (!h->config.byte_rate || p->byte_tokens >= len)) {
        p->tokens -= h->config.rate != 0;
        p->byte_tokens -= h->config.byte_rate ? len : 0;
        return 0;
    }
    p->stats.dropped_limited++;
    if (!p->limited || h->now - p->limited_last > 1000)
        p->limited_since = h->now;
    p->limited = 1;
    p->limited_last = h->now;
    if (h->now - p->limited_since >= 10000)
        en_expel(h, turn, p, EN_FLOOD);
    return 1;
}

static void count_malformed(en_host *h, tudp_turn *turn, en_peer *p)
{
    p->stats.malformed++;
    if (!p->malformed_count || h->now - p->malformed_since > 10000) {
        p->malformed_since = h->now;
        p->malformed_count = 0;
    }
    if (++p->malformed_count >= h->config.max_malformed && h->config.max_malformed)
        en_expel(h, turn, p, EN_BAD);
}

int en_take(en_host *h, tudp_turn *turn, const uint8_t *data, uint32_t len, const tudp_sockaddr *from,
            const tudp_local *local)
{
    en_header head;
    en_begin(h, turn->now);
    if (en_header_read(data, len, &head))
        return TUDP_DROP(TUDP_MALFORMED);
    tudp_key key;
    tudp_key_of(from, &key);
    uint64_t hash = en_hash_key(h->config.secret, &key);
    if (head.id == EN_NO_ID)
        return h->config.accept ? en_half_connect(h, turn, data, len, &head, &key, hash, from, local) : TUDP_PASS;
    uint32_t events = h->event_count;
    en_peer *p = en_find(h, &key, hash, head.id);
    if (!p) {
        int verdict = h->half_count ? en_half_take(h, turn, data, len, &head, &key, hash, from, local, &p) : TUDP_PASS;
        if (!p)
            return verdict != TUDP_PASS || !en_map_find(&h->by_address, hash) ? verdict : TUDP_DROP(TUDP_DENIED);
    } else if (p->state != EN_CONNECTING && head.session != p->session_in) {
        return TUDP_DROP(TUDP_DENIED);
    }
    if (h->bans.count && en_banned(h, &key))
        return TUDP_DROP(TUDP_DENIED);
    if (limited(h, turn, p, len)) {
        if (h->event_count > events)
            h->event[h->event_count - 1].ends = 2;
        return h->event_count > events ? TUDP_HELD : TUDP_DROP(TUDP_LIMITED);
    }
    const uint8_t *commands;
    uint32_t size;
    en_block *owner;
    int fault = -1, opened = -1;
    if (len <= EN_MTU_MOST)
        opened = en_open(h, &head, data, len, p->checksum, p->connect_id, &commands, &size, &owner);
    if (opened == 0) {
        h->totals.datagrams_in++;
        h->totals.bytes_in += len;
        p->stats.datagrams_in++;
        p->stats.bytes_in += len;
        p->stats.compressed_in += head.compressed;
        p->compress |= head.compressed;
        if (p->state != EN_CONNECTING)
            p->last_heard = h->now;
        fault = en_receive(h, turn, p, &head, commands, size, owner);
        en_block_drop(&h->pool, owner);
    }
    if (fault < 0 && opened <= 0)
        count_malformed(h, turn, p);
    if (h->event_count > events) {
        h->event[h->event_count - 1].ends = 1;
        return TUDP_HELD;
    }
    return fault < 0 ? TUDP_DROP(opened > 0 ? TUDP_SHED : TUDP_MALFORMED) : TUDP_ANSWERED;
}

/* ---- the caller's verbs ---- */

static uint32_t code_of(en_word word)
{
    switch (word) {
    case EN_FULL: return (uint32_t)EN_CODE_FULL;
    case EN_BANNED: return (uint32_t)EN_CODE_BANNED;
    case EN_REFUSED: return (uint32_t)EN_CODE_REFUSED;
    case EN_SLOW: return (uint32_t)EN_CODE_SLOW;
    case EN_FLOOD: return (uint32_t)EN_CODE_FLOOD;
    case EN_HOARDING: return (uint32_t)EN_CODE_HOARDING;
    case EN_TOO_BIG: return (uint32_t)EN_CODE_TOO_BIG;
    case EN_BAD: return (uint32_t)EN_CODE_MALFORMED;
    case EN_STOPPING: return (uint32_t)EN_CODE_STOPPING;
    default: return (uint32_t)EN_CODE_KICKED;
    }
}

void en_expel(en_host *h, tudp_turn *turn, en_peer *p, en_word word)
{
    if (p->state == EN_GONE)
        return;
    en_command c = {.type = EN_DISCONNECT, .flags = EN_FLAG_UNSEQUENCED, .channel = EN_CONTROL,
                    .number = ++p->control, .u.reason = code_of(word)};
    en_say_now(h, turn, p, &c);
    en_peer_gone(h, p, word, code_of(word), 0);
}

void en_close(en_host *h, en_peer *p, int how, uint32_t code, en_word word)
{
    if (p->state == EN_GONE || p->state == EN_CLOSING)
        return;
    p->word = word;
    p->code = code;
    if (p->state == EN_CONNECTING) {
        en_peer_gone(h, p, word, code, 0);
        return;
    }
    if (how == EN_CLOSE_NOW) {
        en_peer_gone(h, p, word, code, 0);
        en_out *out = en_control(h, p, EN_DISCONNECT, EN_FLAG_UNSEQUENCED);
        if (out)
            out->index = code;
    } else if (how == EN_CLOSE_DRAINED) {
        p->state = EN_DRAINING;
    } else {
        en_acks *acks = p->acks; /* what was received stays acknowledged */
        uint32_t count = p->ack_count;
        en_acks *last = p->acks_last;
        p->acks = NULL;
        en_queues_end(h, p);
        p->acks = acks;
        p->acks_last = last;
        p->ack_count = count;
        p->state = EN_CLOSING;
        en_out *out = en_control(h, p, EN_DISCONNECT, EN_FLAG_ACK);
        if (!out) {
            en_peer_gone(h, p, word, code, 0);
            return;
        }
        out->index = code;
    }
    en_dirty(h, p);
}

en_peer *en_connect(en_host *h, uint64_t now, const tudp_sockaddr *to, uint32_t channels, uint32_t data)
{
    en_begin(h, now);
    tudp_key key;
    tudp_key_of(to, &key);
    uint64_t hash = en_hash_key(h->config.secret, &key);
    uint32_t tries = 0;
    while (en_map_find(&h->by_id, id_key(hash, (uint16_t)(h->next_id % EN_NO_ID))))
        if (h->next_id++, ++tries == EN_NO_ID)
            return NULL;
    en_peer *p = en_peer_new(h, &key, hash, (uint16_t)(h->next_id++ % EN_NO_ID), to, NULL);
    if (!p)
        return NULL;
    uint64_t seed[2] = {++h->connect_ids, 'c'};
    uint64_t id = en_sip(h->config.secret, seed, 2);
    memcpy(p->connect_id, &id, 4);
    p->client = 1;
    p->state = EN_CONNECTING;
    p->channels = channels < 1 ? 1 : channels > h->config.channels ? h->config.channels : channels;
    p->user_data = data;
    p->checksum = h->config.checksum == 1;
    p->compress = h->config.compress;
    p->window = EN_WINDOW_MOST;
    if (!en_control(h, p, EN_CONNECT, EN_FLAG_ACK)) {
        en_peer_forget(h, p); /* nobody has it, so nobody is told */
        return NULL;
    }
    en_dirty(h, p);
    return p;
}

/* ---- looking ---- */

const en_totals *en_host_totals(const en_host *h) { return &h->totals; }
uint32_t en_host_peers(const en_host *h) { return h->peer_count; }
uint32_t en_host_half_open(const en_host *h) { return h->half_count; }
uint64_t en_host_memory(const en_host *h) { return h->pool.used; }
void *en_peer_user(const en_peer *p) { return p->user; }
void en_peer_set_user(en_peer *p, void *user) { p->user = user; }
int en_peer_state(const en_peer *p) { return p->state; }

void en_peer_look(const en_host *h, const en_peer *p, en_peer_view *v)
{
    const en_out *oldest = en_list_empty(&p->sent) ? NULL : (const en_out *)p->sent.next;
    const en_link *queue = en_list_empty(&p->reliable) ? &p->unreliable : &p->reliable;
    const en_out *first = en_list_empty(queue) ? NULL : (const en_out *)queue->next;
    *v = (en_peer_view){
        .rtt = p->rtt, .rtt_variance = p->var, .rtt_min = p->acked ? p->rtt_min : p->rtt,
        .jitter_max = p->jitter_max, .loss = p->loss, .loss_variance = p->loss_var,
        .throttle = p->throttle, .mtu = p->mtu, .window = p->window, .channels = p->channels,
        .in_flight_bytes = p->in_flight_bytes, .in_flight_commands = p->in_flight,
        .queued_reliable = p->queued_reliable, .queued_unreliable = p->queued_unreliable,
        .queued_bytes = p->queued_bytes, .queue_age = first ? h->now - first->queued : 0,
        .oldest_unacked = oldest ? h->now - oldest->sent : 0, .fragments_open = p->groups,
        .fragment_bytes = p->group_bytes, .waiting_bytes = p->waiting_bytes,
        .idle = h->now - p->last_heard, .connected = h->now - p->connected_at, .user_data = p->user_data,
        .max_unreliable = p->mtu - (p->checksum ? 32 : 28), .our_id = p->our_id, .their_id = p->their_id,
        .state = p->state, .checksum = p->checksum, .compress = p->compress, .address = p->address,
        .key = p->key, .stats = p->stats,
    };
    memcpy(v->connect_id, p->connect_id, 4);
}
