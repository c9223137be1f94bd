/* enet_receive.c: what a peer's commands do. Numbers, windows, order, fragments.
 *
 * Each function that acts on a command returns DONE (acknowledge it), REST (do
 * not, and drop the rest of the datagram: back-pressure through the sender's
 * timer) or FAULT (the same, and it was malformed).
 */
#include "enet_inside.h"

#include <string.h>

enum { DONE, REST, FAULT };

typedef struct arrival { /* one command on its way through this file */
    en_host *h;
    tudp_turn *turn;
    en_peer *p;
    const en_header *head;
    en_block *owner;
} arrival;

/* ---- delivering ---- */

/* 0, or -1 without memory: then it has not come, as far as its sender is told. */
static inline int deliver(arrival *a, uint8_t channel, uint8_t delivery, const uint8_t *data, uint32_t length,
                          en_block *owner)
{
    en_event *e = en_event_add(a->h, a->p, EN_EVENT_MESSAGE);
    if (!e)
        return -1;
    e->channel = channel;
    e->delivery = delivery;
    e->data = data;
    e->length = length;
    e->owner = owner;
    if (owner)
        owner->refs++;
    a->p->stats.messages_in[delivery]++;
    a->h->totals.messages_in++;
    return 0;
}

static void wait_free(en_host *h, en_peer *p, en_channel *c, en_wait *w)
{
    en_list_remove(&w->link);
    c->waiting--;
    if (w->count) {
        p->groups--;
        p->group_bytes -= w->bytes;
        h->reassembly -= w->bytes;
    } else {
        c->waiting_bytes -= w->length;
        p->waiting_bytes -= w->length;
    }
    while (w->first) {
        en_piece *piece = w->first;
        w->first = piece->next;
        en_free(&h->pool, piece, sizeof *piece + piece->length);
    }
    en_block_drop(&h->pool, w->seen);
    en_block_drop(&h->pool, w->data);
    en_free(&h->pool, w, sizeof *w);
}

void en_channel_end(en_host *h, en_peer *p, en_channel *c)
{
    while (!en_list_empty(&c->reliable))
        wait_free(h, p, c, (en_wait *)c->reliable.next);
    while (!en_list_empty(&c->unreliable))
        wait_free(h, p, c, (en_wait *)c->unreliable.next);
}

static int complete(const en_wait *w) { return w->count == 0 || w->got == w->count; }

/* Pieces must cover the message exactly: in offset order each begins where the one
 * before it ended. */
static int gapless(const en_wait *w)
{
    uint32_t at = 0;
    for (const en_piece *piece = w->first; piece; piece = piece->next) {
        if (piece->offset != at)
            return 0;
        at += piece->length;
    }
    return at == w->length;
}

static en_block *join_pieces(en_host *h, const en_wait *w)
{
    en_block *whole = en_block_new(&h->pool, w->length);
    for (const en_piece *piece = w->first; whole && piece; piece = piece->next)
        memcpy(whole->data + piece->offset, piece->data, piece->length);
    return whole;
}

/* Delivers a complete entry and frees it. -1: there was no memory for it. A reliable one was acknowledged and
 * will not come again, so that its peer has to go. */
static int deliver_waiting(arrival *a, en_channel *c, uint8_t channel, uint8_t delivery, en_wait *w)
{
    int failed = 0;
    if (w->count && !gapless(w)) {
        a->p->stats.malformed++; /* overlapping pieces: the number is used up, nothing is delivered */
    } else {
        en_block *whole = w->count ? join_pieces(a->h, w) : w->data;
        failed = !whole || deliver(a, channel, delivery, whole->data, w->length, whole);
        if (w->count)
            en_block_drop(&a->h->pool, whole);
    }
    wait_free(a->h, a->p, c, w);
    if (failed && delivery == EN_RELIABLE)
        en_expel(a->h, a->turn, a->p, EN_HOARDING);
    return failed ? -1 : 0;
}

static uint32_t window_distance(const en_channel *c, uint16_t number)
{
    uint32_t d = (number >> 12) - (c->in_reliable >> 12);
    return number < c->in_reliable ? d + 16 : d;
}

static int in_window(const en_channel *c, uint16_t number) { return window_distance(c, number) < 7; }

/* Entries of the current reliable number, in order; what was overtaken goes. */
static void run_unreliable(arrival *a, en_channel *c, uint8_t channel)
{
    for (en_link *at = c->unreliable.next, *next; at != &c->unreliable; at = next) {
        next = at->next;
        en_wait *w = (en_wait *)at;
        if (w->number != c->in_reliable) {
            if (in_window(c, w->number))
                return;
            wait_free(a->h, a->p, c, w);
            continue;
        }
        if (!complete(w))
            continue;
        while (c->unreliable.next != at)
            wait_free(a->h, a->p, c, (en_wait *)c->unreliable.next);
        next = at->next;
        c->in_unreliable = w->unreliable;
        deliver_waiting(a, c, channel, EN_SEQUENCED, w);
    }
}

static void run_reliable(arrival *a, en_channel *c, uint8_t channel, int delivered)
{
    while (!en_list_empty(&c->reliable)) {
        en_wait *w = (en_wait *)c->reliable.next;
        uint16_t ahead = (uint16_t)(w->number - c->in_reliable);
        if (ahead == 0 || ahead >= 0x8000) { /* inside a group that was delivered */
            wait_free(a->h, a->p, c, w);
            continue;
        }
        if (ahead != 1 || !complete(w))
            break;
        c->in_reliable = (uint16_t)(w->number + (w->count ? w->count - 1 : 0));
        if (deliver_waiting(a, c, channel, EN_RELIABLE, w))
            return;
        delivered = 1;
    }
    if (delivered) {
        c->in_unreliable = 0;
        a->p->full = 0;
        if (!en_list_empty(&c->unreliable))
            run_unreliable(a, c, channel);
    }
}

/* ---- waiting ---- */

/* Something did not fit under a cap. For ten seconds that is back-pressure. */
static int no_room(arrival *a)
{
    en_peer *p = a->p;
    if (!p->full) {
        p->full = 1;
        p->full_since = a->h->now;
    } else if (a->h->now - p->full_since >= 10000) {
        en_expel(a->h, a->turn, p, EN_HOARDING);
    }
    return REST;
}

/* The entry at (number, unreliable), or NULL and the entry to insert behind. */
static en_wait *look_up(const en_channel *c, en_link *list, uint16_t number, uint16_t unreliable, en_link **behind)
{
    uint16_t ahead = (uint16_t)(number - c->in_reliable);
    en_link *at = list->prev;
    for (; at != list; at = at->prev) {
        en_wait *w = (en_wait *)at;
        uint16_t its = (uint16_t)(w->number - c->in_reliable);
        if (its == ahead && w->unreliable == unreliable)
            return w;
        if (its < ahead || (its == ahead && w->unreliable < unreliable))
            break;
    }
    *behind = at;
    return NULL;
}

static en_wait *wait_new(en_host *h, en_channel *c, en_link *behind, uint16_t number, uint16_t unreliable)
{
    en_wait *w = en_alloc(&h->pool, sizeof *w);
    if (!w)
        return NULL;
    memset(w, 0, sizeof *w);
    w->number = number;
    w->unreliable = unreliable;
    w->born = h->now;
    en_list_add(behind->next, &w->link);
    c->waiting++;
    return w;
}

static int wait_whole(arrival *a, en_channel *c, en_link *behind, const en_command *m, uint16_t unreliable)
{
    const en_config *config = &a->h->config;
    if (c->waiting >= config->max_waiting || c->waiting_bytes > config->waiting_bytes || /* a reload lowered it */
        m->length > config->waiting_bytes - c->waiting_bytes ||
        a->h->pool.used > config->memory / 100 * 95)
        return no_room(a);
    en_block *data = en_block_new(&a->h->pool, m->length);
    en_wait *w = data ? wait_new(a->h, c, behind, m->number, unreliable) : NULL;
    if (!w) {
        en_block_drop(&a->h->pool, data);
        return REST;
    }
    memcpy(data->data, m->data, m->length);
    w->data = data;
    w->length = m->length;
    c->waiting_bytes += m->length;
    a->p->waiting_bytes += m->length;
    a->p->stats.out_of_order++;
    return DONE;
}

/* ---- the kinds of message ---- */

static int take_reliable(arrival *a, en_channel *c, const en_command *m)
{
    if (m->length > a->h->config.max_message) {
        en_expel(a->h, a->turn, a->p, EN_TOO_BIG);
        return REST;
    }
    uint32_t d = window_distance(c, m->number);
    if (d >= 7) {
        a->p->stats.old_numbers++;
        return DONE;
    }
    if (m->number == c->in_reliable) {
        a->p->stats.duplicates++;
        return DONE;
    }
    if (m->number == (uint16_t)(c->in_reliable + 1) && en_list_empty(&c->reliable)) {
        if (deliver(a, m->channel, EN_RELIABLE, m->data, m->length, a->owner))
            return REST;
        c->in_reliable = m->number;
        run_reliable(a, c, m->channel, 1);
        return DONE;
    }
    en_link *behind = NULL;
    if (look_up(c, &c->reliable, m->number, 0, &behind)) {
        a->p->stats.duplicates++;
        return DONE;
    }
    if (m->number == (uint16_t)(c->in_reliable + 1)) {
        if (deliver(a, m->channel, EN_RELIABLE, m->data, m->length, a->owner))
            return REST;
        c->in_reliable = m->number;
        run_reliable(a, c, m->channel, 1);
        return DONE;
    }
    return wait_whole(a, c, behind, m, 0);
}

static int take_unreliable(arrival *a, en_channel *c, const en_command *m)
{
    uint16_t u = m->u.send.start;
    if (m->length > a->h->config.max_message) {
        en_expel(a->h, a->turn, a->p, EN_TOO_BIG);
        return REST;
    }
    if (!in_window(c, m->number) || (m->number == c->in_reliable && u <= c->in_unreliable)) {
        a->p->stats.old_numbers++;
        return DONE;
    }
    if (m->number == c->in_reliable && en_list_empty(&c->unreliable)) {
        c->in_unreliable = u;
        deliver(a, m->channel, EN_SEQUENCED, m->data, m->length, a->owner);
        return DONE;
    }
    en_link *behind = NULL;
    if (look_up(c, &c->unreliable, m->number, u, &behind)) {
        a->p->stats.duplicates++;
        return DONE;
    }
    int done = wait_whole(a, c, behind, m, u);
    if (done == DONE && m->number == c->in_reliable)
        run_unreliable(a, c, m->channel);
    return done;
}

static int take_unsequenced(arrival *a, const en_command *m)
{
    en_peer *p = a->p;
    if (m->length > a->h->config.max_message) {
        en_expel(a->h, a->turn, p, EN_TOO_BIG);
        return REST;
    }
    uint32_t group = m->u.send.start, base = p->group_base, bit = group % 1024;
    if (group < base)
        group += 65536;
    if (group >= base + 32 * 1024) {
        p->stats.old_numbers++;
        return DONE;
    }
    if (group - bit != base) {
        p->group_base = (group - bit) & 0xffff;
        memset(p->groups_seen, 0, sizeof p->groups_seen);
    } else if (p->groups_seen[bit / 32] >> bit % 32 & 1) {
        p->stats.duplicates++;
        return DONE;
    }
    p->groups_seen[bit / 32] |= 1u << bit % 32;
    deliver(a, m->channel, EN_UNSEQUENCED, m->data, m->length, a->owner);
    return DONE;
}

/* ---- fragments ---- */

/* The oldest open unreliable group of the peer makes place. */
static int drop_oldest_group(en_host *h, en_peer *p)
{
    en_wait *oldest = NULL;
    en_channel *of = NULL;
    for (uint32_t i = 0; i < p->channels; i++) {
        en_channel *c = p->channel[i];
        for (en_link *at = c ? c->unreliable.next : NULL; c && at != &c->unreliable; at = at->next) {
            en_wait *w = (en_wait *)at;
            if (w->count && (!oldest || en_before(w->born, oldest->born))) {
                oldest = w;
                of = c;
            }
        }
    }
    if (!oldest)
        return -1;
    wait_free(h, p, of, oldest);
    return 0;
}

static en_wait *group_new(arrival *a, en_channel *c, en_link *behind, const en_command *m, uint16_t number,
                          uint16_t unreliable)
{
    uint32_t map = (m->u.send.count + 7) / 8;
    en_block *seen = en_block_new(&a->h->pool, map);
    en_wait *w = seen ? wait_new(a->h, c, behind, number, unreliable) : NULL;
    if (!w) {
        en_block_drop(&a->h->pool, seen);
        return NULL;
    }
    memset(seen->data, 0, map);
    w->seen = seen;
    w->count = m->u.send.count;
    w->length = m->u.send.total;
    w->bytes = map;
    a->p->groups++;
    a->p->group_bytes += map;
    a->h->reassembly += map;
    return w;
}

/* Puts a copy of the fragment's data in offset order. */
static int group_add(arrival *a, en_wait *w, const en_command *m)
{
    uint32_t index = m->u.send.index, offset = m->u.send.offset;
    en_piece *piece = en_alloc(&a->h->pool, sizeof *piece + m->length);
    if (!piece)
        return -1;
    piece->offset = offset;
    piece->length = m->length;
    memcpy(piece->data, m->data, m->length);
    en_piece *before = w->last;
    while (before && before->offset > offset)
        before = before->prev;
    piece->prev = before;
    piece->next = before ? before->next : w->first;
    *(before ? &before->next : &w->first) = piece;
    *(piece->next ? &piece->next->prev : &w->last) = piece;
    w->seen->data[index / 8] |= (uint8_t)(1 << index % 8);
    w->got++;
    w->bytes += m->length;
    a->p->group_bytes += m->length;
    a->h->reassembly += m->length;
    return 0;
}

static int group_fits(arrival *a, const en_wait *w, uint32_t more)
{
    const en_config *config = &a->h->config;
    const en_peer *p = a->p;
    return (w || p->groups < config->max_groups) && p->group_bytes <= config->group_bytes &&
           more <= config->group_bytes - p->group_bytes && a->h->reassembly <= config->reassembly_bytes &&
           more <= config->reassembly_bytes - a->h->reassembly;
}

static int take_fragment(arrival *a, en_channel *c, const en_command *m)
{
    const en_config *config = &a->h->config;
    int reliable = m->type == EN_SEND_FRAGMENT;
    uint32_t count = m->u.send.count, index = m->u.send.index, total = m->u.send.total, offset = m->u.send.offset;
    uint16_t number = reliable ? m->u.send.start : m->number, unreliable = reliable ? 0 : m->u.send.start;
    if (m->length == 0 || index >= count || offset >= total || m->length > total - offset || total < count ||
        count > EN_FRAGMENTS_MOST)
        return FAULT;
    if (total > config->max_message || count > config->max_fragments) {
        en_expel(a->h, a->turn, a->p, EN_TOO_BIG);
        return REST;
    }
    uint32_t d = window_distance(c, number);
    if (d >= 7) {
        a->p->stats.old_numbers++;
        return DONE;
    }
    if (number == c->in_reliable && (reliable || unreliable <= c->in_unreliable)) {
        a->p->stats.duplicates++;
        return DONE;
    }
    en_link *list = reliable ? &c->reliable : &c->unreliable, *behind = list;
    en_wait *w = look_up(c, list, number, unreliable, &behind);
    if (w && (w->count != count || w->length != total))
        return FAULT;
    if (w && w->seen->data[index / 8] >> index % 8 & 1) {
        a->p->stats.duplicates++;
        return DONE;
    }
    while (!group_fits(a, w, m->length + (w ? 0 : (count + 7) / 8))) {
        if (reliable || drop_oldest_group(a->h, a->p))
            return reliable ? no_room(a) : DONE;
        w = look_up(c, list, number, unreliable, &behind); /* it may have been this one */
    }
    if (!w && c->waiting >= config->max_waiting)
        return reliable ? no_room(a) : DONE;
    if (!w && !(w = group_new(a, c, behind, m, number, unreliable)))
        return REST;
    if (group_add(a, w, m))
        return REST;
    if (complete(w)) {
        if (reliable)
            run_reliable(a, c, m->channel, 0);
        else if (number == c->in_reliable)
            run_unreliable(a, c, m->channel);
    }
    return DONE;
}

/* ---- commands that are not messages ---- */

static int take_ack(arrival *a, const en_command *m)
{
    en_host *h = a->h;
    en_peer *p = a->p;
    h->totals.acks_in++;
    uint32_t sent = (h->now & 0xffff0000u) | m->u.ack.time;
    if ((sent & 0x8000) > (h->now & 0x8000))
        sent -= 0x10000;
    if (en_before(h->now, sent))
        return DONE;
    int type = en_acked(h, p, m->channel, m->u.ack.number);
    if (!type)
        return DONE;
    uint32_t s = h->now - sent;
    s = s ? s : 1;
    p->last_ack = h->now;
    p->failing = 0;
    en_smooth(p, s, !p->acked);
    if (!p->acked) {
        p->acked = 1;
        p->rtt = s;
        p->var = (s + 1) / 2;
        p->rtt_min = s;
    } else {
        if (p->last_rtt <= p->last_var) {
            p->throttle = p->throttle_limit;
        } else if (s <= p->last_rtt) {
            p->throttle += p->acceleration;
            p->throttle = p->throttle > p->throttle_limit ? p->throttle_limit : p->throttle;
        } else if (s > p->last_rtt + 2 * p->last_var) {
            p->throttle = p->throttle > p->deceleration ? p->throttle - p->deceleration : 0;
        }
        p->var -= p->var / 4;
        uint32_t away = s > p->rtt ? s - p->rtt : p->rtt - s;
        p->var += away / 4;
        p->rtt = s > p->rtt ? p->rtt + away / 8 : p->rtt - away / 8;
    }
    p->lowest_rtt = p->rtt < p->lowest_rtt ? p->rtt : p->lowest_rtt;
    p->highest_var = p->var > p->highest_var ? p->var : p->highest_var;
    p->rtt_min = s < p->rtt_min ? s : p->rtt_min;
    p->jitter_max = p->var > p->jitter_max ? p->var : p->jitter_max;
    if (!p->has_epoch || h->now - p->epoch >= p->interval) {
        p->last_rtt = p->lowest_rtt;
        p->last_var = p->highest_var ? p->highest_var : 1;
        p->lowest_rtt = p->rtt;
        p->highest_var = p->var;
        p->epoch = h->now;
        p->has_epoch = 1;
    }
    if (type == EN_DISCONNECT && p->state == EN_CLOSING) {
        en_peer_gone(h, p, p->word, p->code, 0);
        return REST;
    }
    return DONE;
}

static int take_verify(arrival *a, const en_command *m)
{
    en_host *h = a->h;
    en_peer *p = a->p;
    const en_greeting *g = &m->u.greeting;
    if (p->state == EN_CONNECTED || p->state == EN_DRAINING)
        return DONE; /* a repeat, or nothing to us: acknowledged as stock does, and that is all */
    if (p->state != EN_CONNECTING)
        return FAULT;
    if (g->channels < 1 || g->channels > 255 || g->interval != p->interval || g->acceleration != p->acceleration ||
        g->deceleration != p->deceleration || memcmp(g->connect_id, p->connect_id, 4) || g->peer_id >= EN_NO_ID) {
        en_peer_gone(h, p, EN_LEFT, 0, 1);
        return REST;
    }
    if (en_event_rows(h, 1))
        return REST; /* it comes again */
    en_acked(h, p, EN_CONTROL, 1);
    p->their_id = g->peer_id;
    p->session_in = g->incoming_session & 3;
    p->session_out = g->outgoing_session & 3;
    p->channels = g->channels < p->channels ? g->channels : p->channels;
    uint32_t mtu = g->mtu < EN_MTU_LEAST ? EN_MTU_LEAST : g->mtu > EN_MTU_MOST ? EN_MTU_MOST : g->mtu;
    p->mtu = mtu < p->mtu ? mtu : p->mtu;
    uint32_t window = g->window < EN_WINDOW_LEAST ? EN_WINDOW_LEAST : g->window;
    p->window = window < p->window ? window : p->window;
    p->their_incoming = g->incoming;
    p->state = EN_CONNECTED;
    p->connected_at = p->last_heard = p->last_ack = h->now;
    p->joined = 1;
    h->totals.joins++;
    en_event_add(h, p, EN_EVENT_JOIN);
    en_control(h, p, EN_PING, EN_FLAG_ACK);
    return DONE;
}

static int take_disconnect(arrival *a, const en_command *m)
{
    en_peer *p = a->p;
    if (p->state == EN_CLOSING) {
        en_peer_gone(a->h, p, p->word, p->code, 0);
        return REST;
    }
    if (m->flags & EN_FLAG_ACK && p->state != EN_CONNECTING) {
        en_command ack = {.type = EN_ACKNOWLEDGE, .channel = m->channel, .number = m->number,
                          .u.ack = {m->number, a->head->time}};
        en_say_now(a->h, a->turn, p, &ack);
    }
    if (p->state == EN_DRAINING)
        en_peer_gone(a->h, p, p->word, p->code, 0);
    else
        en_peer_gone(a->h, p, EN_LEFT, m->u.reason, 1);
    return REST;
}

static int take_message(arrival *a, const en_command *m)
{
    en_peer *p = a->p;
    if (m->channel >= p->channels || (p->state != EN_CONNECTED && p->state != EN_DRAINING))
        return p->state == EN_CLOSING || p->state == EN_CONNECTING ? REST : FAULT;
    if (p->state == EN_DRAINING)
        return DONE; /* acknowledged and thrown away */
    if (a->h->pool.used > a->h->config.memory / 100 * 95 && !(m->flags & EN_FLAG_ACK)) {
        a->h->totals.shed++;
        return DONE;
    }
    if (m->type == EN_SEND_UNSEQUENCED)
        return take_unsequenced(a, m);
    en_channel *c = en_channel_of(a->h, p, m->channel);
    if (!c)
        return REST;
    switch (m->type) {
    case EN_SEND_RELIABLE:
        return take_reliable(a, c, m);
    case EN_SEND_UNRELIABLE:
        return take_unreliable(a, c, m);
    default:
        return take_fragment(a, c, m);
    }
}

static int take_command(arrival *a, const en_command *m)
{
    en_peer *p = a->p;
    switch (m->type) {
    case EN_ACKNOWLEDGE:
        return p->state == EN_CONNECTING ? FAULT : take_ack(a, m);
    case EN_VERIFY_CONNECT:
        return take_verify(a, m);
    case EN_DISCONNECT:
        return take_disconnect(a, m);
    case EN_PING:
        return p->state == EN_CONNECTED || p->state == EN_DRAINING ? DONE : REST;
    case EN_BANDWIDTH_LIMIT:
        if (p->state != EN_CONNECTED && p->state != EN_DRAINING)
            return REST;
        p->their_incoming = m->u.bandwidth.incoming;
        p->window = en_window_for(0, p->their_incoming);
        if (!p->their_incoming)
            p->throttle_limit = 32;
        return DONE;
    case EN_THROTTLE_CONFIGURE:
        if (p->state != EN_CONNECTED && p->state != EN_DRAINING)
            return REST;
        p->interval = m->u.throttle.interval;
        p->acceleration = m->u.throttle.acceleration;
        p->deceleration = m->u.throttle.deceleration;
        return DONE;
    case EN_CONNECT:
        return FAULT;
    default:
        return take_message(a, m);
    }
}

/* Stock acknowledges no command, whatever it is, whose number is that far ahead on its channel. */
static int too_far(const en_peer *p, const en_command *m)
{
    if (m->channel >= p->channels)
        return 0;
    static const en_channel fresh;
    const en_channel *c = p->channel ? p->channel[m->channel] : NULL;
    uint32_t d = window_distance(c ? c : &fresh, m->number);
    return d == 7 || d == 8;
}

int en_receive(en_host *h, tudp_turn *turn, en_peer *p, const en_header *head, const uint8_t *commands, uint32_t size,
               en_block *owner)
{
    arrival a = {h, turn, p, head, owner};
    for (int i = 0; size; i++) {
        en_command m;
        if (i == EN_COMMANDS_MOST) {
            h->totals.over_commands++;
            return 1;
        }
        long took = en_command_read(commands, size, &m);
        if (took < 0 || (m.flags & EN_FLAG_ACK && !head->timed))
            return -1;
        int done = take_command(&a, &m);
        if (done == DONE && m.flags & EN_FLAG_ACK && !too_far(p, &m))
            en_ack(h, p, m.channel, m.number, head->time);
        if (done >= REST || p->state == EN_GONE)
            return done == FAULT ? -1 : done == REST;
        commands += took;
        size -= (uint32_t)took;
    }
    return 0;
}
