/* enet_half.c: addresses that asked to connect and have not yet proven that they
 * receive what is sent to them. A fixed table, oldest out; nothing here reaches
 * Python, and never more bytes leave than came.
 *
 * The proof is 28 bits that only the receiver sees: our peer id and the time field
 * of VERIFY_CONNECT, which a client echoes. Both are a keyed hash.
 */
#include "enet_inside.h"

#include <stdlib.h>
#include <string.h>

enum { TRIES_FRESH = 32, TRIES_FIT = 8, SECRET_MS = 60000, UNPROVEN_RATE = 1000, UNPROVEN_BURST = 2000 };

int en_half_init(en_host *h)
{
    h->half = calloc(h->config.half_open, sizeof *h->half);
    h->bucket = calloc(EN_BUCKETS, sizeof *h->bucket);
    if (!h->half || !h->bucket)
        return -1;
    for (int i = 0; i < 2; i++) {
        uint64_t word = (uint64_t)'h' + (uint64_t)i;
        h->half_secret[0][i] = h->half_secret[1][i] = en_sip(h->config.secret, &word, 1);
    }
    return 0;
}

void en_half_end(en_host *h)
{
    free(h->half);
    free(h->bucket);
    en_map_end(&h->half_by_id);
    en_map_end(&h->half_by_address);
}

static uint64_t id_key(uint64_t hash, uint16_t id) { return hash ^ (uint64_t)(id + 1u) * 0x9e3779b97f4a7c15u; }

static void half_drop(en_host *h, en_half *e)
{
    en_map_remove(&h->half_by_id, id_key(e->hash, e->our_id));
    if (e->next)
        h->half[e->next - 1].prev = e->prev;
    if (e->prev) {
        h->half[e->prev - 1].next = e->next;
    } else if (e->next) {
        h->half[e->next - 1].guesses = e->guesses;
        uint64_t *first = en_map_find(&h->half_by_address, e->hash);
        if (first)
            *first = e->next;
    } else {
        en_map_remove(&h->half_by_address, e->hash);
    }
    e->used = 0;
    h->half_count--;
}

static en_half *half_find(en_host *h, const tudp_key *key, uint64_t hash, uint16_t our_id)
{
    uint64_t *at = en_map_find(&h->half_by_id, id_key(hash, our_id));
    if (!at)
        return NULL;
    en_half *e = &h->half[*at - 1];
    if (e->our_id != our_id || memcmp(&e->key, key, sizeof *key))
        return NULL;
    if (h->now - e->born > EN_HALF_OPEN_MS) {
        half_drop(h, e);
        return NULL;
    }
    return e;
}

static en_half *half_new(en_host *h, const tudp_key *key, uint64_t hash, uint16_t our_id)
{
    en_half *e = &h->half[h->half_next];
    if (e->used) {
        half_drop(h, e);
        h->totals.half_dropped++;
    }
    uint64_t *by_id = en_map_make(&h->half_by_id, id_key(hash, our_id));
    if (!by_id)
        return NULL;
    uint32_t at = h->half_next + 1;
    *by_id = at;
    uint64_t *first = en_map_make(&h->half_by_address, hash);
    if (!first) {
        en_map_remove(&h->half_by_id, id_key(hash, our_id));
        return NULL;
    }
    memset(e, 0, sizeof *e);
    e->key = *key;
    e->hash = hash;
    e->our_id = our_id;
    e->born = h->now;
    e->used = 1;
    e->next = (uint32_t)*first;
    if (e->next) {
        e->guesses = h->half[e->next - 1].guesses;
        h->half[e->next - 1].prev = at;
    }
    *first = at;
    h->half_next = at % h->config.half_open;
    h->half_count++;
    return e;
}

/* A wrong id, session or time from an address with entries: 16 end them all. */
static void guess(en_host *h, uint64_t hash)
{
    uint64_t *first = en_map_find(&h->half_by_address, hash);
    if (!first)
        return;
    h->totals.guesses++;
    if (++h->half[*first - 1].guesses < EN_GUESSES)
        return;
    while ((first = en_map_find(&h->half_by_address, hash)))
        half_drop(h, &h->half[*first - 1]);
}

static int bucket_takes(en_host *h, uint64_t hash, uint32_t times)
{
    struct en_bucket *b = &h->bucket[hash % EN_BUCKETS];
    uint32_t tag = (uint32_t)(hash >> 32) | 1, most = UNPROVEN_BURST * times;
    if (b->tag != tag) {
        *b = (struct en_bucket){tag, h->now, most};
    } else if (h->now != b->at) {
        uint64_t more = (uint64_t)(h->now - b->at) * times; /* 1,000 a second is one a ms */
        b->tokens = b->tokens + more > most ? most : (uint32_t)(b->tokens + more);
        b->at = h->now;
    }
    if (!b->tokens)
        return 0;
    b->tokens--;
    return 1;
}

static int unproven_limited(en_host *h, const tudp_key *key)
{
    if (en_is_loopback(key) && !h->config.limit_loopback)
        return 0;
    uint64_t words[3] = {0, 0, 'u'};
    memcpy(words, key->ip, 16);
    if (!bucket_takes(h, en_sip(h->config.secret, words, 3), 1))
        return 1;
    words[2] = 'p';
    uint8_t *ip = (uint8_t *)words;
    if (key->ip[10] == 0xff && key->ip[11] == 0xff)
        ip[15] = 0;
    else
        memset(ip + 7, 0, 9);
    return !bucket_takes(h, en_sip(h->config.secret, words, 3), 4);
}

static void renew_secret(en_host *h)
{
    if (h->ms - h->half_secret_at < SECRET_MS)
        return;
    h->half_secret_at = h->ms;
    memcpy(h->half_secret[1], h->half_secret[0], sizeof h->half_secret[1]);
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t words[4] = {h->half_secret[1][0], h->half_secret[1][1], h->turn_now, i};
        h->half_secret[0][i] = en_sip(h->half_secret[1], words, 4);
    }
}

/* Reads a CONNECT in one of its forms. Gives whether it has a checksum. */
static int read_connect(en_host *h, const uint8_t *data, uint32_t len, const en_header *head, en_command *c,
                        int *checksum)
{
    static const uint8_t none[4];
    if (!head->timed || len > EN_MTU_MOST)
        return -1;
    for (int with = 0; with < 2; with++) {
        if (with ? h->config.checksum == 0 : h->config.checksum == 1)
            continue;
        const uint8_t *commands;
        uint32_t size;
        en_block *owner;
        if (en_open(h, head, data, len, with, none, &commands, &size, &owner))
            continue;
        int right = size == 48 && en_command_read(commands, size, c) == 48 && c->type == EN_CONNECT;
        en_block_drop(&h->pool, owner); /* the greeting is copied, nothing points into it */
        if (right) {
            *checksum = with;
            return 0;
        }
    }
    return -1;
}

static int refuse(en_host *h, tudp_turn *turn, const en_greeting *g, int checksum, uint32_t code,
                  const tudp_sockaddr *to, const tudp_local *local)
{
    h->totals.refused++;
    if (h->config.silent)
        return TUDP_DROP(TUDP_DENIED);
    uint8_t *room = turn->ops->room(turn, 64);
    if (room) {
        uint8_t *at = en_header_write(room, g->peer_id, 0, 0, 0) + (checksum ? 4 : 0);
        uint32_t header = (uint32_t)(at - room);
        en_command c = {.type = EN_DISCONNECT, .flags = EN_FLAG_UNSEQUENCED, .channel = EN_CONTROL, .number = 1,
                        .u.reason = code};
        at = en_command_write(at, &c);
        uint32_t len = en_seal(h, room, header, (uint32_t)(at - room), checksum, g->connect_id, 0);
        h->totals.unproven_out += len;
        turn->ops->send(turn, len, NULL, 0, to, local);
    }
    return TUDP_DROP(TUDP_DENIED);
}

static uint8_t next_session(uint8_t asked)
{
    return (uint8_t)((asked + 1) & 3); /* an id is never used twice in a row here: no last value to avoid */
}

/* Writes VERIFY_CONNECT for an entry and returns its length. */
static uint32_t write_verify(en_host *h, const en_half *e, uint8_t *room)
{
    uint8_t *at = en_header_write(room, e->their_id, e->session_out, 1, e->time) + (e->checksum ? 4 : 0);
    uint32_t header = (uint32_t)(at - room);
    en_command c = {.type = EN_VERIFY_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1};
    en_greeting *g = &c.u.greeting;
    g->peer_id = e->our_id;
    g->incoming_session = e->session_out;
    g->outgoing_session = e->session_in;
    g->mtu = e->mtu;
    uint32_t window = e->window;
    g->window = window < EN_WINDOW_LEAST ? EN_WINDOW_LEAST : window > EN_WINDOW_MOST ? EN_WINDOW_MOST : window;
    g->channels = e->channels;
    g->interval = e->interval;
    g->acceleration = e->acceleration;
    g->deceleration = e->deceleration;
    memcpy(g->connect_id, e->connect_id, 4);
    at = en_command_write(at, &c);
    return en_seal(h, room, header, (uint32_t)(at - room), e->checksum, e->connect_id, e->compress);
}

static void candidate(const en_host *h, int secret, uint64_t hash, const en_greeting *g, int attempt, uint16_t *id,
                      uint16_t *time)
{
    uint64_t words[2] = {hash, (uint64_t)attempt << 48 | (uint64_t)g->peer_id << 32};
    uint32_t connect_id;
    memcpy(&connect_id, g->connect_id, 4);
    words[1] |= connect_id;
    uint64_t value = en_sip(h->half_secret[secret], words, 2);
    *id = (uint16_t)((value >> 32) % EN_NO_ID);
    *time = (uint16_t)value;
}

/* The entry of a repeated CONNECT, if it still stands. */
static en_half *half_again(en_host *h, const tudp_key *key, uint64_t hash, const en_greeting *g)
{
    uint64_t *first = en_map_find(&h->half_by_address, hash);
    if (!first)
        return NULL;
    int secrets = h->ms - h->half_secret_at <= EN_HALF_OPEN_MS ? 2 : 1;
    for (int secret = 0; secret < secrets; secret++) {
        for (int i = 0; i < TRIES_FRESH; i++) {
            uint16_t id, time;
            candidate(h, secret, hash, g, i, &id, &time);
            en_half *e = half_find(h, key, hash, id);
            if (e && e->their_id == g->peer_id && !memcmp(e->connect_id, g->connect_id, 4))
                return e;
            if (!e && !en_find(h, key, hash, id))
                break;
        }
    }
    return NULL;
}

static void half_fill(const en_host *h, en_half *e, const en_greeting *g, int checksum, int compress)
{
    uint32_t mtu = g->mtu < EN_MTU_LEAST ? EN_MTU_LEAST : g->mtu > EN_MTU_MOST ? EN_MTU_MOST : g->mtu;
    e->their_id = g->peer_id;
    memcpy(e->connect_id, g->connect_id, 4);
    e->mtu = (uint16_t)(mtu < h->config.mtu ? mtu : h->config.mtu);
    e->window = g->window;
    e->channels = (uint8_t)(g->channels < h->config.channels ? g->channels : h->config.channels);
    e->incoming = g->incoming;
    e->interval = g->interval;
    e->acceleration = g->acceleration;
    e->deceleration = g->deceleration;
    e->data = g->data;
    e->session_out = next_session(g->incoming_session);
    e->session_in = next_session(g->outgoing_session);
    e->checksum = (uint8_t)checksum;
    e->compress = (uint8_t)compress;
}

/* Answers a CONNECT of `len` bytes with a new entry: the first value of the hash
 * whose id is free at that address and whose answer is no longer than the bytes
 * that came. */
static int answer_new(en_host *h, tudp_turn *turn, const tudp_key *key, uint64_t hash, const en_greeting *g,
                      int checksum, int compress, uint32_t len, uint8_t *room, const tudp_sockaddr *from,
                      const tudp_local *local)
{
    en_half draft = {0};
    half_fill(h, &draft, g, checksum, compress);
    int misfits = 0;
    for (int attempt = 0; attempt < TRIES_FRESH + EN_NO_ID && misfits < TRIES_FIT; attempt++) {
        uint16_t last = draft.our_id;
        candidate(h, 0, hash, g, attempt < TRIES_FRESH ? attempt : TRIES_FRESH, &draft.our_id, &draft.time);
        if (attempt > TRIES_FRESH) /* an address with thousands of connections: the next free id */
            draft.our_id = (uint16_t)((last + 1) % EN_NO_ID);
        if (en_find(h, key, hash, draft.our_id) || half_find(h, key, hash, draft.our_id))
            continue;
        uint32_t size = write_verify(h, &draft, room);
        if (size > len) {
            misfits++;
            continue;
        }
        en_half *e = half_new(h, key, hash, draft.our_id);
        if (!e)
            return TUDP_DROP(TUDP_SHED);
        e->time = draft.time;
        half_fill(h, e, g, checksum, compress);
        e->bytes_in = len;
        e->bytes_out = size;
        h->totals.answered++;
        h->totals.unproven_out += size;
        return turn->ops->send(turn, size, NULL, 0, from, local) ? TUDP_DROP(TUDP_SHED) : TUDP_ANSWERED;
    }
    return TUDP_DROP(TUDP_SHED);
}

int en_half_connect(en_host *h, tudp_turn *turn, const uint8_t *data, uint32_t len, const en_header *head,
                    const tudp_key *key, uint64_t hash, const tudp_sockaddr *from, const tudp_local *local)
{
    en_command c;
    int checksum;
    if (unproven_limited(h, key))
        return TUDP_DROP(TUDP_LIMITED);
    if (read_connect(h, data, len, head, &c, &checksum))
        return en_map_find(&h->by_address, hash) ? TUDP_DROP(TUDP_MALFORMED) : TUDP_PASS;
    en_greeting *g = &c.u.greeting;
    h->totals.connects++;
    h->totals.unproven_in += len;
    if (g->channels < 1 || g->channels > 255 || g->peer_id >= EN_NO_ID)
        return TUDP_DROP(TUDP_MALFORMED);
    if (en_banned(h, key))
        return refuse(h, turn, g, checksum, (uint32_t)EN_CODE_BANNED, from, local);
    en_peer *live = en_find_client(h, key, hash, g->peer_id);
    if (live && !memcmp(live->connect_id, g->connect_id, 4))
        return TUDP_ANSWERED; /* a late repeat */
    if ((h->peer_count >= h->config.max_peers && !live) || (en_prefix_full(h, key) && !live) ||
        h->pool.used > h->config.memory / 10 * 8)
        return refuse(h, turn, g, checksum, (uint32_t)EN_CODE_FULL, from, local);
    uint8_t *room = turn->ops->room(turn, 128);
    if (!room)
        return TUDP_DROP(TUDP_SHED);
    renew_secret(h);
    en_half *e = half_again(h, key, hash, g);
    if (!e)
        return answer_new(h, turn, key, hash, g, checksum, head->compressed, len, room, from, local);
    e->bytes_in += len;
    uint32_t size = write_verify(h, e, room);
    if (size > e->bytes_in - e->bytes_out)
        return TUDP_ANSWERED;
    e->bytes_out += size;
    h->totals.answered++;
    h->totals.unproven_out += size;
    return turn->ops->send(turn, size, NULL, 0, from, local) ? TUDP_DROP(TUDP_SHED) : TUDP_ANSWERED;
}

/* Is one of the commands the ack that proves the address? */
static int proves(const en_half *e, const uint8_t *commands, uint32_t size)
{
    for (int i = 0; i < EN_COMMANDS_MOST && size; i++) {
        en_command c;
        long took = en_command_read(commands, size, &c);
        if (took < 0)
            return 0;
        if (c.type == EN_ACKNOWLEDGE && c.channel == EN_CONTROL && c.u.ack.time == e->time &&
            (c.u.ack.number == 1 || (c.u.ack.number == 2 && e->pinged)))
            return 1;
        commands += took;
        size -= (uint32_t)took;
    }
    return 0;
}

static int has_wrong_ack(const uint8_t *commands, uint32_t size)
{
    en_command c;
    return en_command_read(commands, size, &c) > 0 && c.type == EN_ACKNOWLEDGE && c.channel == EN_CONTROL;
}

/* The client has our answer, but its ack was lost: ask for another, with the same
 * time, in no more bytes than came. */
static int ask_again(en_host *h, tudp_turn *turn, en_half *e, const tudp_sockaddr *from, const tudp_local *local)
{
    uint32_t size = e->checksum ? 12 : 8;
    uint8_t *room = e->bytes_in - e->bytes_out >= size ? turn->ops->room(turn, 32) : NULL;
    if (!room)
        return TUDP_ANSWERED;
    uint8_t *at = en_header_write(room, e->their_id, e->session_out, 1, e->time) + (e->checksum ? 4 : 0);
    uint32_t header = (uint32_t)(at - room);
    en_command c = {.type = EN_PING, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 2};
    at = en_command_write(at, &c);
    size = en_seal(h, room, header, (uint32_t)(at - room), e->checksum, e->connect_id, 0);
    e->bytes_out += size;
    e->pinged = 1;
    h->totals.pings_for_proof++;
    h->totals.unproven_out += size;
    return turn->ops->send(turn, size, NULL, 0, from, local) ? TUDP_DROP(TUDP_SHED) : TUDP_ANSWERED;
}

/* A proven entry becomes a peer. */
static en_peer *promote(en_host *h, en_half *e, const tudp_sockaddr *from, const tudp_local *local)
{
    en_half was = *e;
    en_peer *old = en_find_client(h, &was.key, was.hash, was.their_id);
    en_peer *p = en_peer_new(h, &was.key, was.hash, was.our_id, from, local);
    if (!p)
        return NULL; /* the entry stands: its next datagram tries again */
    int failed = en_event_rows(h, 1);
    if (!failed) {
        p->their_id = was.their_id;
        failed = en_peer_index(h, p);
    }
    if (failed) {
        p->their_id = EN_NO_ID; /* it was not indexed by that */
        en_peer_forget(h, p);
        return NULL;
    }
    half_drop(h, e);
    if (old)
        en_peer_gone(h, old, EN_REPLACED, 0, 0);
    memcpy(p->connect_id, was.connect_id, 4);
    p->state = EN_CONNECTED;
    p->session_out = was.session_out;
    p->session_in = was.session_in;
    p->checksum = was.checksum;
    p->compress = was.compress;
    p->mtu = was.mtu;
    p->channels = was.channels;
    p->window = en_window_for(0, was.incoming);
    p->their_incoming = was.incoming;
    p->interval = was.interval;
    p->acceleration = was.acceleration;
    p->deceleration = was.deceleration;
    p->user_data = was.data;
    p->control = was.pinged ? 2 : 1;
    uint32_t sample = h->now - was.born;
    p->rtt = sample ? sample : 1;
    p->var = (p->rtt + 1) / 2;
    p->lowest_rtt = p->last_rtt = p->rtt_min = p->rtt;
    p->highest_var = p->last_var = p->jitter_max = p->var;
    en_smooth(p, p->rtt, 1);
    p->acked = p->has_epoch = 1;
    p->epoch = h->now;
    p->joined = 1;
    h->totals.joins++;
    h->totals.proofs++;
    en_event_add(h, p, EN_EVENT_JOIN)->code = p->user_data; /* there is a row for it */
    en_schedule(h, p, h->now + h->config.ping);
    return p;
}

int en_half_take(en_host *h, tudp_turn *turn, const uint8_t *data, uint32_t len, const en_header *head,
                 const tudp_key *key, uint64_t hash, const tudp_sockaddr *from, const tudp_local *local,
                 en_peer **proven)
{
    *proven = NULL;
    if (!en_map_find(&h->half_by_address, hash))
        return TUDP_PASS;
    if (unproven_limited(h, key))
        return TUDP_DROP(TUDP_LIMITED);
    h->totals.unproven_in += len;
    en_half *e = half_find(h, key, hash, head->id);
    if (!e || e->session_in != head->session) {
        guess(h, hash);
        return TUDP_DROP(TUDP_DENIED);
    }
    e->bytes_in += len;
    const uint8_t *commands;
    uint32_t size;
    en_block *owner;
    int opened = -1;
    if (len <= EN_MTU_MOST)
        opened = en_open(h, head, data, len, e->checksum, e->connect_id, &commands, &size, &owner);
    if (opened > 0)
        return TUDP_DROP(TUDP_SHED);
    if (opened < 0) {
        guess(h, hash);
        return TUDP_DROP(TUDP_MALFORMED);
    }
    int verdict = TUDP_ANSWERED;
    if (proves(e, commands, size)) {
        if (h->peer_count >= h->config.max_peers && !en_find_client(h, key, hash, e->their_id)) {
            en_greeting g = {.peer_id = e->their_id};
            memcpy(g.connect_id, e->connect_id, 4);
            int checksum = e->checksum;
            half_drop(h, e);
            verdict = refuse(h, turn, &g, checksum, (uint32_t)EN_CODE_FULL, from, local);
        } else if (!(*proven = promote(h, e, from, local))) {
            verdict = TUDP_DROP(TUDP_SHED);
        }
    } else if (has_wrong_ack(commands, size)) {
        guess(h, hash);
        verdict = TUDP_DROP(TUDP_DENIED);
    } else if (len >= 8) {
        verdict = ask_again(h, turn, e, from, local);
    }
    en_block_drop(&h->pool, owner);
    return verdict;
}
