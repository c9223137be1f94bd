/* enet_carry.c: a peer's whole state as bytes, for the process that goes on with its connection.
 *
 * One list of fields serves both ways, so that what is written is what is read. The bytes are for the next
 * process on this machine: its byte order, its monotonic clock, and a version that refuses any other layout.
 * They come from a process of ours; what cannot be is refused all the same, before it is used.
 */
#include "enet_inside.h"

#include <string.h>

enum { VERSION = 1, RECENT = 8, LISTS = 5, TRIP_MOST = 1 << 16, TIMEOUT_MOST = 1 << 20 }; /* the last two: ms */

typedef struct carry {
    en_host *h;
    en_peer *p;
    const uint8_t *in; /* reading, or NULL */
    uint8_t *out;      /* writing; with neither the bytes are only counted */
    uint64_t at, room;
    int bad;
    en_block *recent[RECENT]; /* payloads met last: fragments of a message share one */
    uint32_t next;
} carry;

static void bytes(carry *k, void *value, uint64_t n)
{
    if (k->in && (k->bad || n > k->room - k->at)) {
        k->bad = 1;
        memset(value, 0, n);
        return;
    }
    if (k->in)
        memcpy(value, k->in + k->at, n);
    else if (k->out && k->at <= k->room && n <= k->room - k->at)
        memcpy(k->out + k->at, value, n);
    k->at += n;
}

#define FIELD(x) bytes(k, &(x), sizeof(x))

/* A block of its own, or none. */
static void block(carry *k, en_block **b)
{
    uint8_t some = *b != NULL;
    FIELD(some);
    if (!some)
        return;
    uint32_t size = *b ? (*b)->size : 0;
    FIELD(size);
    if (k->in) {
        *b = !k->bad && size <= k->room - k->at ? en_block_new(&k->h->pool, size) : NULL;
        if (!*b) {
            k->bad = 1;
            return;
        }
    }
    bytes(k, (*b)->data, size);
}

/* A payload that others may share: told once while it is among the last few. */
static void payload(carry *k, en_block **b)
{
    uint8_t which = 0;
    while (which < RECENT && (k->in || k->recent[which] != *b))
        which++;
    if (!*b)
        which = RECENT;
    FIELD(which);
    if (which < RECENT) {
        if (k->in) {
            *b = k->recent[which];
            if (*b)
                (*b)->refs++;
            else
                k->bad = 1;
        }
        return;
    }
    block(k, b);
    if (*b)
        k->recent[k->next++ % RECENT] = *b;
}

static void peer_fields(carry *k)
{
    en_peer *p = k->p;
    FIELD(p->their_id), FIELD(p->session_out), FIELD(p->session_in), FIELD(p->state), FIELD(p->checksum);
    FIELD(p->compress), FIELD(p->joined), FIELD(p->connect_id), FIELD(p->acked), FIELD(p->word), FIELD(p->code);
    FIELD(p->user_data), FIELD(p->mtu), FIELD(p->window), FIELD(p->channels), FIELD(p->their_incoming);
    FIELD(p->connected_at), FIELD(p->last_heard), FIELD(p->last_ack), FIELD(p->rtt), FIELD(p->var);
    FIELD(p->lowest_rtt), FIELD(p->highest_var), FIELD(p->last_rtt), FIELD(p->last_var), FIELD(p->epoch);
    FIELD(p->has_epoch), FIELD(p->rtt_min), FIELD(p->jitter_max), FIELD(p->smooth), FIELD(p->spread);
    FIELD(p->throttle), FIELD(p->throttle_limit), FIELD(p->throttle_counter), FIELD(p->acceleration);
    FIELD(p->deceleration), FIELD(p->interval), FIELD(p->failing_since), FIELD(p->failing);
    FIELD(p->packets_sent), FIELD(p->packets_lost), FIELD(p->loss), FIELD(p->loss_var), FIELD(p->loss_epoch);
    FIELD(p->pass), FIELD(p->pass_bytes), FIELD(p->control), FIELD(p->group), FIELD(p->group_base);
    FIELD(p->groups_seen), FIELD(p->full_since), FIELD(p->full), FIELD(p->limited), FIELD(p->malformed_count);
    FIELD(p->limited_since), FIELD(p->limited_last), FIELD(p->malformed_since), FIELD(p->tokens_at);
    FIELD(p->tokens), FIELD(p->byte_tokens), FIELD(p->stats);
}

/* What the clock says of the past cannot lie ahead. */
static void past(const en_host *h, uint32_t *time)
{
    if (en_before(h->now, *time))
        *time = h->now;
}

static void pasts(const en_host *h, en_peer *p)
{
    uint32_t *times[] = {&p->connected_at, &p->last_heard,   &p->last_ack,     &p->epoch,           &p->failing_since,
                         &p->loss_epoch,   &p->pass,         &p->full_since,   &p->limited_since,   &p->limited_last,
                         &p->tokens_at,    &p->malformed_since};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        past(h, times[i]);
}

static int peer_can_be(const en_peer *p)
{
    if (p->smooth > 8 * TRIP_MOST || p->spread > 4 * TRIP_MOST || p->rtt > TRIP_MOST || p->var > TRIP_MOST)
        return 0;
    return p->state >= EN_CONNECTED && p->state <= EN_CLOSING && p->their_id < EN_NO_ID && p->session_in < 4 &&
           p->session_out < 4 && p->checksum < 2 && p->compress < 2 && p->joined < 2 && p->mtu >= EN_MTU_LEAST &&
           p->mtu <= EN_MTU_MOST && p->channels >= 1 && p->channels <= 255 && p->word < EN_WORDS;
}

/* ---- what waits for its turn ---- */

static void pieces(carry *k, en_wait *w)
{
    uint32_t count = 0;
    for (en_piece *piece = w->first; piece; piece = piece->next)
        count++;
    FIELD(count);
    if (!k->in) {
        for (en_piece *piece = w->first; piece; piece = piece->next) {
            FIELD(piece->offset), FIELD(piece->length);
            bytes(k, piece->data, piece->length);
        }
        return;
    }
    for (; count && !k->bad; count--) {
        uint32_t offset, length;
        FIELD(offset), FIELD(length);
        en_piece *piece = NULL;
        if (!k->bad && length <= k->room - k->at && length <= w->length && offset <= w->length - length)
            piece = en_alloc(&k->h->pool, sizeof *piece + length);
        if (!piece) {
            k->bad = 1;
            return;
        }
        piece->offset = offset;
        piece->length = length;
        piece->next = NULL;
        piece->prev = w->last;
        *(w->last ? &w->last->next : &w->first) = piece;
        w->last = piece;
        bytes(k, piece->data, length);
    }
}

static void wait_fields(carry *k, en_wait *w)
{
    FIELD(w->number), FIELD(w->unreliable), FIELD(w->length), FIELD(w->count), FIELD(w->got), FIELD(w->bytes);
    FIELD(w->born);
    block(k, &w->data);
    block(k, &w->seen);
    pieces(k, w);
}

/* How many there are in a list: counted when it is written, read when it is read. */
static uint32_t count_of(carry *k, const en_link *list)
{
    uint32_t count = 0;
    for (const en_link *at = list->next; at != list; at = at->next)
        count++;
    FIELD(count);
    return count;
}

static void waits(carry *k, en_channel *c, en_link *list)
{
    uint32_t count = count_of(k, list);
    if (!k->in) {
        for (en_link *at = list->next; at != list; at = at->next)
            wait_fields(k, (en_wait *)at);
        return;
    }
    for (; count && !k->bad; count--) {
        en_wait *w = en_alloc(&k->h->pool, sizeof *w);
        if (!w) {
            k->bad = 1;
            return;
        }
        memset(w, 0, sizeof *w);
        en_list_add(list, &w->link);
        wait_fields(k, w);
        past(k->h, &w->born);
        c->waiting++;
        if (w->count) { /* counted before it is judged: en_channel_end takes it back */
            k->p->groups++;
            k->p->group_bytes += w->bytes;
            k->h->reassembly += w->bytes;
            if (w->data || !w->seen || w->count > w->seen->size * 8ull)
                k->bad = 1;
        } else {
            c->waiting_bytes += w->length;
            k->p->waiting_bytes += w->length;
            if (!w->data || w->data->size != w->length || w->seen || w->first)
                k->bad = 1;
        }
    }
}

static void channels(carry *k)
{
    en_peer *p = k->p;
    uint32_t count = 0;
    for (uint32_t i = 0; p->channel && i < p->channels; i++)
        count += p->channel[i] != NULL;
    FIELD(count);
    for (uint32_t i = 0; i < p->channels && count && !k->bad; i++) {
        uint8_t number = (uint8_t)i;
        if (!k->in && !p->channel[i])
            continue;
        FIELD(number);
        en_channel *c = number < p->channels && !k->bad ? en_channel_of(k->h, p, number) : NULL;
        if (!c) {
            k->bad = 1;
            return;
        }
        FIELD(c->out_reliable), FIELD(c->out_unreliable), FIELD(c->in_reliable), FIELD(c->in_unreliable);
        waits(k, c, &c->reliable);
        waits(k, c, &c->unreliable);
        count--;
    }
}

/* ---- what is to be sent ---- */

#define TYPE(type) (1u << (type))
enum { CONTROLS, RESENDS, RELIABLES, UNRELIABLES, SENT };
static const uint32_t types[LISTS] = {
    [CONTROLS] = TYPE(EN_PING) | TYPE(EN_DISCONNECT),
    [RESENDS] = TYPE(EN_PING) | TYPE(EN_DISCONNECT) | TYPE(EN_SEND_RELIABLE) | TYPE(EN_SEND_FRAGMENT),
    [RELIABLES] = TYPE(EN_SEND_RELIABLE) | TYPE(EN_SEND_FRAGMENT),
    [UNRELIABLES] = TYPE(EN_SEND_UNRELIABLE) | TYPE(EN_SEND_UNSEQUENCED) | TYPE(EN_SEND_UNRELIABLE_FRAGMENT),
    [SENT] = TYPE(EN_PING) | TYPE(EN_DISCONNECT) | TYPE(EN_SEND_RELIABLE) | TYPE(EN_SEND_FRAGMENT),
};

static void out_fields(carry *k, en_out *out)
{
    FIELD(out->type), FIELD(out->flags), FIELD(out->channel), FIELD(out->sends), FIELD(out->in_flight);
    FIELD(out->number), FIELD(out->start), FIELD(out->count), FIELD(out->index), FIELD(out->offset);
    FIELD(out->length), FIELD(out->charge), FIELD(out->sent), FIELD(out->timeout), FIELD(out->queued);
    FIELD(out->order);
    payload(k, &out->payload);
}

static int out_can_be(const en_peer *p, const en_out *out, int list)
{
    if (out->type >= EN_TYPES || out->timeout > TIMEOUT_MOST || !(types[list] & TYPE(out->type)))
        return 0;
    if (out->type == EN_PING || out->type == EN_DISCONNECT)
        return out->channel == EN_CONTROL && !out->payload && !out->length && !out->count;
    int cut = out->type == EN_SEND_FRAGMENT || out->type == EN_SEND_UNRELIABLE_FRAGMENT;
    if (!out->payload || out->channel >= p->channels || !p->channel || !p->channel[out->channel] ||
        cut != (out->count > 0) || out->offset > out->payload->size)
        return 0;
    if (cut && list != RESENDS && list != SENT) /* a message that is still to be cut from here on */
        return out->index < out->count && out->offset < out->payload->size;
    return out->length <= out->payload->size - out->offset && out->length <= p->mtu - (p->checksum ? 32 : 28);
}

static void outs(carry *k, en_link *list, int which)
{
    uint32_t count = count_of(k, list);
    if (!k->in) {
        for (en_link *at = list->next; at != list; at = at->next)
            out_fields(k, (en_out *)at);
        return;
    }
    en_peer *p = k->p;
    for (; count && !k->bad; count--) {
        en_out *out = en_out_new(k->h, p, 0, 0, EN_CONTROL);
        if (!out) {
            k->bad = 1;
            return;
        }
        out_fields(k, out);
        past(k->h, &out->sent);
        past(k->h, &out->queued);
        p->queued_bytes += out->charge;
        int tracked = which == RESENDS || which == SENT;
        if (k->bad || !out_can_be(p, out, which) || (tracked && en_track(k->h, out))) {
            en_out_free(k->h, out);
            k->bad = 1;
            return;
        }
        en_list_add(list, &out->link);
        p->queued_reliable += which == RELIABLES;
        p->queued_unreliable += which == UNRELIABLES;
        if (tracked)
            out->in_flight = which == SENT;
        if (which == SENT) {
            p->in_flight_bytes += out->length;
            p->in_flight++;
        }
    }
}

static void acks(carry *k)
{
    uint32_t count = k->p->ack_count;
    FIELD(count);
    if (!k->in) {
        for (en_acks *part = k->p->acks; part; part = part->next)
            for (uint32_t i = 0; i < part->count; i++)
                FIELD(part->at[i].channel), FIELD(part->at[i].number), FIELD(part->at[i].time);
        return;
    }
    for (; count && !k->bad; count--) {
        uint8_t channel;
        uint16_t number, time;
        FIELD(channel), FIELD(number), FIELD(time);
        if (!k->bad)
            en_ack(k->h, k->p, channel, number, time);
    }
}

static void queues(carry *k)
{
    en_peer *p = k->p;
    uint32_t order = p->order;
    FIELD(order);
    en_link *lists[LISTS] = {&p->control_queue, &p->resend, &p->reliable, &p->unreliable, &p->sent};
    for (int i = 0; i < LISTS && !k->bad; i++)
        outs(k, lists[i], i);
    p->order = order;
    acks(k);
}

/* ---- the three verbs ---- */

static void identity(carry *k, uint32_t *version, tudp_key *key, tudp_sockaddr *address, tudp_local *local,
                     uint16_t *our_id)
{
    FIELD(*version), FIELD(*key), FIELD(*address), FIELD(*local), FIELD(*our_id);
}

uint64_t en_peer_save(en_host *h, en_peer *p, uint8_t *out, uint64_t room)
{
    if (p->client || !p->joined || p->state < EN_CONNECTED || p->state > EN_CLOSING)
        return 0;
    carry k = {.h = h, .p = p, .out = out, .room = room};
    uint32_t version = VERSION;
    identity(&k, &version, &p->key, &p->address, &p->local, &p->our_id);
    peer_fields(&k);
    channels(&k);
    queues(&k);
    return k.at;
}

en_peer *en_peer_load(en_host *h, uint64_t now, const uint8_t *data, uint64_t len)
{
    en_begin(h, now);
    carry k = {.h = h, .in = data, .room = len};
    uint32_t version;
    tudp_key key, its;
    tudp_sockaddr address;
    tudp_local local;
    uint16_t our_id;
    identity(&k, &version, &key, &address, &local, &our_id);
    if (k.bad || version != VERSION || our_id >= EN_NO_ID)
        return NULL;
    tudp_key_of(&address, &its);
    uint64_t hash = en_hash_key(h->config.secret, &key);
    if (memcmp(&its, &key, sizeof key) || en_find(h, &key, hash, our_id))
        return NULL;
    en_peer *p = k.p = en_peer_new(h, &key, hash, our_id, &address, &local);
    if (!p)
        return NULL;
    peer_fields(&k);
    if (k.bad || !peer_can_be(p)) {
        p->state = EN_CONNECTED;
        p->channels = 1;
        p->their_id = EN_NO_ID;
        en_peer_forget(h, p);
        return NULL;
    }
    pasts(h, p);
    channels(&k);
    if (!k.bad)
        queues(&k);
    if (k.bad || k.at != len) {
        en_peer_forget(h, p);
        return NULL;
    }
    if (en_peer_index(h, p)) {
        en_peer_forget(h, p);
        return NULL;
    }
    for (en_link *at = p->sent.next; at != &p->sent; at = at->next) {
        const en_out *out = (const en_out *)at;
        uint32_t expires = out->sent + out->timeout;
        if (!p->has_resend_at || en_before(expires, p->resend_at))
            p->resend_at = expires;
        p->has_resend_at = 1;
    }
    en_schedule(h, p, h->now + 1);
    en_dirty(h, p);
    return p;
}

void en_peer_forget(en_host *h, en_peer *p)
{
    uint32_t rows = h->event_count;
    uint8_t joined = p->joined;
    en_peer_gone(h, p, EN_LEFT, 0, 0);
    h->event_count = rows; /* nobody is told */
    h->totals.leaves -= joined;
}
