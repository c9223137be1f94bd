/* enet_send.c: queues, windows, resending, and the building of datagrams. */
#include "enet_inside.h"

#include <stdlib.h>
#include <string.h>

enum { TAIL_LEAST = 256, CHARGE = 64, ACKS_A_BLOCK = 8 };

/* ---- commands and their queues ---- */

static uint64_t unacked_key(const en_host *h, const en_peer *p, uint8_t channel, uint16_t number)
{
    uint64_t k = ((uint64_t)p->serial << 24 | (uint64_t)channel << 16 | number) ^ h->config.secret[1];
    k = (k ^ k >> 33) * 0xff51afd7ed558ccdu; /* one to one, so equal keys are equal commands */
    k = (k ^ k >> 33) * 0xc4ceb9fe1a85ec53u;
    return k ^ k >> 33;
}

en_out *en_out_new(en_host *h, en_peer *p, uint8_t type, uint8_t flags, uint8_t channel)
{
    en_out *out = en_alloc(&h->pool, sizeof *out);
    if (!out)
        return NULL;
    memset(out, 0, sizeof *out);
    out->peer = p;
    out->type = type;
    out->flags = flags;
    out->channel = channel;
    out->queued = h->now;
    out->order = ++p->order;
    return out;
}

void en_out_free(en_host *h, en_out *out)
{
    out->peer->queued_bytes -= out->charge;
    en_block_drop(&h->pool, out->payload);
    en_free(&h->pool, out, sizeof *out);
}

static uint32_t few_key(uint8_t channel, uint16_t number) { return 1u << 24 | (uint32_t)channel << 16 | number; }

static en_out *unacked_find(const en_host *h, const en_peer *p, uint8_t channel, uint16_t number)
{
    uint32_t key = few_key(channel, number);
    for (int i = 0; i < EN_FEW; i++)
        if (p->few_key[i] == key)
            return p->few[i];
    uint64_t *at = p->mapped ? en_map_find(&h->unacked, unacked_key(h, p, channel, number)) : NULL;
    return at ? (en_out *)(uintptr_t)*at : NULL;
}

/* From now on `out` is found by its number. -1: no memory. */
static int unacked_add(en_host *h, en_out *out)
{
    en_peer *p = out->peer;
    for (int i = 0; i < EN_FEW; i++) {
        if (p->few_key[i])
            continue;
        p->few_key[i] = few_key(out->channel, out->number);
        p->few[i] = out;
        return 0;
    }
    uint64_t *at = en_map_make(&h->unacked, unacked_key(h, p, out->channel, out->number));
    if (!at)
        return -1;
    *at = (uint64_t)(uintptr_t)out;
    p->mapped++;
    return 0;
}

static void unacked_remove(en_host *h, en_out *out)
{
    en_peer *p = out->peer;
    for (int i = 0; i < EN_FEW; i++) {
        if (p->few_key[i] && p->few[i] == out) {
            p->few_key[i] = 0;
            return;
        }
    }
    en_map_remove(&h->unacked, unacked_key(h, p, out->channel, out->number));
    p->mapped--;
}

/* No ack finds it any more. */
static void untrack(en_host *h, en_out *out)
{
    en_peer *p = out->peer;
    unacked_remove(h, out);
    en_channel *c = out->channel != EN_CONTROL && p->channel ? p->channel[out->channel] : NULL;
    if (c) {
        int w = out->number >> 12;
        if (c->windows[w] && --c->windows[w] == 0)
            c->used &= (uint16_t)~(1u << w);
    }
}

/* Forgets a command that was sent and waited for its ack. */
static void unacked_drop(en_host *h, en_out *out)
{
    en_peer *p = out->peer;
    untrack(h, out);
    en_list_remove(&out->link);
    if (out->in_flight) {
        p->in_flight_bytes -= out->length;
        p->in_flight--;
    }
    en_out_free(h, out);
}

void en_queues_end(en_host *h, en_peer *p)
{
    while (!en_list_empty(&p->sent))
        unacked_drop(h, (en_out *)p->sent.next);
    while (!en_list_empty(&p->resend))
        unacked_drop(h, (en_out *)p->resend.next);
    en_link *lists[] = {&p->control_queue, &p->reliable, &p->unreliable};
    for (int i = 0; i < 3; i++) {
        while (!en_list_empty(lists[i])) {
            en_out *out = (en_out *)lists[i]->next;
            en_list_remove(&out->link);
            en_out_free(h, out);
        }
    }
    p->queued_reliable = p->queued_unreliable = 0;
    while (p->acks) {
        en_acks *next = p->acks->next;
        en_free(&h->pool, p->acks, sizeof *p->acks);
        p->acks = next;
    }
    p->acks_last = NULL;
    p->ack_count = 0;
}

en_out *en_control(en_host *h, en_peer *p, uint8_t type, uint8_t flags)
{
    en_out *out = en_out_new(h, p, type, flags, EN_CONTROL);
    if (!out)
        return NULL;
    out->number = ++p->control;
    en_list_add(&p->control_queue, &out->link);
    en_dirty(h, p);
    return out;
}

void en_ack(en_host *h, en_peer *p, uint8_t channel, uint16_t number, uint16_t time)
{
    if (p->state == EN_GONE || p->state == EN_CLOSING)
        return;
    if (p->acks && p->ack_count >= h->config.max_acks) { /* the oldest go: the sender repeats */
        en_acks *first = p->acks;
        p->ack_count -= first->count;
        p->acks = first->next;
        if (!p->acks)
            p->acks_last = NULL;
        en_free(&h->pool, first, sizeof *first);
    }
    if (!p->acks_last || p->acks_last->count == ACKS_A_BLOCK) {
        en_acks *block = en_alloc(&h->pool, sizeof *block);
        if (!block)
            return;
        block->next = NULL;
        block->count = 0;
        *(p->acks_last ? &p->acks_last->next : &p->acks) = block;
        p->acks_last = block;
    }
    en_acks *last = p->acks_last;
    last->at[last->count].channel = channel;
    last->at[last->count].number = number;
    last->at[last->count].time = time;
    last->count++;
    p->ack_count++;
    en_dirty(h, p);
}

int en_acked(en_host *h, en_peer *p, uint8_t channel, uint16_t number)
{
    en_out *out = unacked_find(h, p, channel, number);
    if (!out)
        return 0;
    int type = out->type;
    unacked_drop(h, out);
    if (!en_list_empty(&p->reliable) || p->state == EN_DRAINING)
        en_dirty(h, p);
    return type;
}

/* ---- queueing messages ---- */

en_block *en_payload(en_host *h, const uint8_t *data, uint32_t len)
{
    en_block *block = en_block_new(&h->pool, len);
    if (block && len)
        memcpy(block->data, data, len);
    return block;
}

void en_payload_drop(en_host *h, en_block *payload) { en_block_drop(&h->pool, payload); }

static uint32_t piece_size(const en_peer *p) { return p->mtu - (p->checksum ? 32 : 28); }

/* A peer that says how much it can take gets its share, once a second. */
static void bandwidth_pass(en_host *h, en_peer *p, uint32_t len)
{
    p->pass_bytes += len;
    if (h->now - p->pass < 1000)
        return;
    uint64_t limit = p->pass_bytes ? (uint64_t)p->their_incoming * 32 / p->pass_bytes : 32;
    p->throttle_limit = limit < 1 ? 1 : limit > 32 ? 32 : (uint32_t)limit;
    p->throttle = p->throttle < p->throttle_limit ? p->throttle : p->throttle_limit;
    p->pass = h->now;
    p->pass_bytes = 0;
}

int en_send(en_host *h, en_peer *p, en_block *payload, uint8_t channel, uint8_t delivery, int fragment)
{
    if (p->state != EN_CONNECTED)
        return EN_CLOSED;
    if (channel >= p->channels)
        return EN_BAD_CHANNEL;
    uint32_t len = payload->size, piece = piece_size(p);
    uint32_t count = len > piece ? (len + piece - 1) / piece : 0;
    int reliable = delivery == EN_RELIABLE;
    if (len > h->config.max_message || count > 24000 || (count && !reliable && !(fragment && delivery == EN_SEQUENCED)))
        return EN_TOO_LONG;
    en_channel *c = en_channel_of(h, p, channel);
    if (!c)
        return EN_NO_MEMORY;
    if (delivery == EN_SEQUENCED && c->out_unreliable == 0xffff)
        reliable = 1; /* the numbers are used up; a reliable message begins anew */
    if (p->queued_bytes + len + CHARGE > h->config.queue_bytes ||
        (!reliable && h->pool.used > h->config.memory / 100 * 95)) {
        p->stats.dropped_queue++;
        if (reliable)
            en_close(h, p, EN_CLOSE_NOW, (uint32_t)EN_CODE_SLOW, EN_SLOW);
        return 0;
    }
    en_out *out = en_out_new(h, p, 0, 0, channel);
    if (!out)
        return EN_NO_MEMORY;
    out->payload = payload;
    payload->refs++;
    out->length = len;
    out->charge = len + CHARGE;
    out->count = count;
    p->queued_bytes += out->charge;
    if (reliable) {
        out->type = count ? EN_SEND_FRAGMENT : EN_SEND_RELIABLE;
        out->flags = EN_FLAG_ACK;
        out->number = out->start = (uint16_t)(c->out_reliable + 1);
        c->out_reliable = (uint16_t)(c->out_reliable + (count ? count : 1));
        c->out_unreliable = 0;
        en_list_add(&p->reliable, &out->link);
        p->queued_reliable++;
    } else {
        if (delivery == EN_UNSEQUENCED) {
            out->type = EN_SEND_UNSEQUENCED;
            out->flags = EN_FLAG_UNSEQUENCED;
            out->start = ++p->group;
        } else {
            out->type = count ? EN_SEND_UNRELIABLE_FRAGMENT : EN_SEND_UNRELIABLE;
            out->number = c->out_reliable;
            out->start = ++c->out_unreliable;
        }
        en_list_add(&p->unreliable, &out->link);
        p->queued_unreliable++;
    }
    if (p->their_incoming)
        bandwidth_pass(h, p, len);
    p->stats.messages_out[delivery]++;
    h->totals.messages_out++;
    en_dirty(h, p);
    return 1;
}

/* ---- building datagrams ---- */

uint32_t en_seal(en_host *h, uint8_t *at, uint32_t header, uint32_t len, int checksum, const uint8_t connect_id[4],
                 int compress)
{
    uint32_t size = len - header, coded = 0;
    if (compress && size > 1) {
        coded = (uint32_t)en_range_compress(h->coder, at + header, size, h->scratch, size - 1);
        if (coded)
            at[0] |= EN_COMPRESSED >> 8;
    }
    if (checksum)
        en_put32(at + header - 4, en_checksum(at, header - 4, connect_id, at + header, size));
    if (!coded)
        return len;
    memcpy(at + header, h->scratch, coded);
    return header + coded;
}

typedef struct pack { /* the datagram that is being built */
    en_host *h;
    tudp_turn *turn;
    en_peer *p;
    uint8_t *room, *body, *at, *end;
    en_block *tail; /* a payload that still stands outside, as the last thing of the datagram */
    uint32_t tail_at, tail_len;
    uint32_t commands;
    int timed;
} pack;

static const uint8_t no_connect_id[4];

/* Keep a payload until the turn has ended; -1: no memory to note it. */
static int hold(en_host *h, en_block *block)
{
    if (h->held_count == h->held_room) {
        uint32_t room = h->held_room ? h->held_room * 2 : 64;
        en_block **held = realloc(h->held, room * sizeof *held);
        if (!held)
            return -1;
        h->held = held;
        h->held_room = room;
    }
    block->refs++;
    h->held[h->held_count++] = block;
    return 0;
}

static int pack_begin(pack *k)
{
    en_peer *p = k->p;
    k->room = k->turn->ops->room(k->turn, p->mtu + 8);
    if (!k->room) {
        k->turn->ops->drain(k->turn);
        k->room = k->turn->ops->room(k->turn, p->mtu + 8);
    }
    if (!k->room)
        return -1;
    k->body = k->at = k->room + 4 + (p->checksum ? 4 : 0);
    k->end = k->body + p->mtu - 4 - (p->checksum ? 4 : 0);
    k->tail_len = k->commands = 0;
    k->timed = 0;
    return 0;
}

static void bring_tail(pack *k)
{
    memcpy(k->at, k->tail->data + k->tail_at, k->tail_len);
    k->at += k->tail_len;
    k->tail_len = 0;
}

static int put(pack *k, const en_command *c, en_block *payload, uint32_t offset)
{
    uint32_t size = en_command_size[c->type] + c->length;
    if (k->commands == EN_COMMANDS_MOST || size > (uint32_t)(k->end - k->at) - k->tail_len)
        return 0;
    if (k->tail_len)
        bring_tail(k);
    k->at = en_command_write(k->at, c);
    /* held at once: an unreliable message lets its payload go as soon as it is put */
    if (c->length >= TAIL_LEAST && !k->p->checksum && !k->p->compress && hold(k->h, payload) == 0) {
        k->tail = payload;
        k->tail_at = offset;
        k->tail_len = c->length;
    } else if (c->length) {
        memcpy(k->at, payload->data + offset, c->length);
        k->at += c->length;
    }
    k->commands++;
    k->timed |= (c->flags & EN_FLAG_ACK) != 0;
    return 1;
}

static void pack_send(pack *k)
{
    en_host *h = k->h;
    en_peer *p = k->p;
    uint32_t header = (k->timed ? 4 : 2) + (p->checksum ? 4 : 0);
    uint32_t body = (uint32_t)(k->at - k->body);
    if (!k->timed)
        memmove(k->room + header, k->body, body);
    int knows = p->state != EN_CONNECTING;
    en_header_write(k->room, knows ? p->their_id : EN_NO_ID, knows ? p->session_out : 0, k->timed, (uint16_t)h->now);
    uint32_t plain = header + body;
    uint32_t len = p->checksum || p->compress
                       ? en_seal(h, k->room, header, plain, p->checksum, knows ? p->connect_id : no_connect_id, p->compress)
                       : plain;
    if (p->compress) {
        p->stats.compressed_out += len < plain;
        p->stats.plain_out += plain;
        p->stats.coded_out += len;
    }
    const uint8_t *tail = k->tail_len ? k->tail->data + k->tail_at : NULL;
    p->stats.datagrams_out++;
    p->stats.bytes_out += len + k->tail_len;
    h->totals.datagrams_out++;
    h->totals.bytes_out += len + k->tail_len;
    k->turn->ops->send(k->turn, len, tail, k->tail_len, &p->address, p->local.family ? &p->local : NULL);
}

void en_say_now(en_host *h, tudp_turn *turn, en_peer *p, const en_command *command)
{
    uint8_t *room = turn->ops->room(turn, 64);
    if (!room || p->their_id == EN_NO_ID)
        return;
    uint8_t *at = en_header_write(room, p->their_id, p->session_out, 0, 0) + (p->checksum ? 4 : 0);
    uint32_t header = (uint32_t)(at - room);
    at = en_command_write(at, command);
    uint32_t len = en_seal(h, room, header, (uint32_t)(at - room), p->checksum, p->connect_id, p->compress);
    h->totals.datagrams_out++;
    h->totals.bytes_out += len;
    turn->ops->send(turn, len, NULL, 0, &p->address, p->local.family ? &p->local : NULL);
}

static int put_acks(pack *k)
{
    en_host *h = k->h;
    en_peer *p = k->p;
    while (p->acks) {
        en_acks *block = p->acks;
        uint32_t done = 0;
        for (; done < block->count; done++) {
            uint16_t number = block->at[done].number;
            en_command c = {.type = EN_ACKNOWLEDGE, .channel = block->at[done].channel, .number = number,
                            .u.ack = {number, block->at[done].time}};
            if (!put(k, &c, NULL, 0))
                break;
            h->totals.acks_out++;
        }
        p->ack_count -= done;
        if (done < block->count) {
            memmove(block->at, block->at + done, (block->count - done) * sizeof *block->at);
            block->count -= done;
            return 0;
        }
        p->acks = block->next;
        en_free(&h->pool, block, sizeof *block);
    }
    p->acks_last = NULL;
    return 1;
}

static void command_of(const en_peer *p, const en_out *out, en_command *c)
{
    *c = (en_command){.type = out->type, .flags = out->flags, .channel = out->channel, .number = out->number};
    switch (out->type) {
    case EN_CONNECT:
        c->u.greeting = (en_greeting){
            .peer_id = p->our_id, .incoming_session = 0xff, .outgoing_session = 0xff, .mtu = p->mtu,
            .window = EN_WINDOW_MOST, .channels = p->channels, .interval = p->interval,
            .acceleration = p->acceleration, .deceleration = p->deceleration, .data = p->user_data};
        memcpy(c->u.greeting.connect_id, p->connect_id, 4);
        break;
    case EN_DISCONNECT:
        c->u.reason = out->index;
        break;
    case EN_PING:
        break;
    default:
        c->u.send.start = out->start;
        c->length = out->length;
    }
}

/* A reliable command has left: its clock runs. */
static void sent(en_host *h, en_out *out)
{
    en_peer *p = out->peer;
    if (out->sends++ == 0) {
        uint32_t timeout = p->smooth / 8 + (p->spread > EN_RTO_SLACK ? p->spread : EN_RTO_SLACK);
        out->timeout = timeout < EN_RTO_LAST ? timeout : EN_RTO_LAST;
    } else {
        p->stats.resent++;
        h->totals.resent++;
    }
    out->sent = h->now;
    out->in_flight = 1;
    p->in_flight_bytes += out->length;
    p->in_flight++;
    p->packets_sent++;
    en_list_add(&p->sent, &out->link);
    uint32_t expires = h->now + out->timeout;
    if (!p->has_resend_at || en_before(expires, p->resend_at)) {
        p->has_resend_at = 1;
        p->resend_at = expires;
        en_schedule(h, p, expires);
    }
}

/* A first sending: from now on an ack finds it. */
int en_track(en_host *h, en_out *out)
{
    if (unacked_add(h, out))
        return -1;
    en_channel *c = out->channel != EN_CONTROL ? out->peer->channel[out->channel] : NULL;
    if (c) {
        c->windows[out->number >> 12]++;
        c->used |= (uint16_t)(1u << (out->number >> 12));
    }
    return 0;
}

static int put_control(pack *k)
{
    en_peer *p = k->p;
    while (!en_list_empty(&p->control_queue)) {
        en_out *out = (en_out *)p->control_queue.next;
        en_command c;
        command_of(p, out, &c);
        if (!put(k, &c, NULL, 0))
            return 0;
        en_list_remove(&out->link);
        if (out->flags & EN_FLAG_ACK && en_track(k->h, out) == 0)
            sent(k->h, out);
        else
            en_out_free(k->h, out);
    }
    return 1;
}

static int put_fields(pack *k, const en_out *out)
{
    en_command c;
    command_of(k->p, out, &c);
    if (out->count) {
        c.u.send.count = out->count;
        c.u.send.index = out->index;
        c.u.send.total = out->payload->size;
        c.u.send.offset = out->offset;
    }
    return put(k, &c, out->payload, out->offset);
}

static int put_resends(pack *k)
{
    en_peer *p = k->p;
    while (!en_list_empty(&p->resend)) {
        en_out *out = (en_out *)p->resend.next;
        if (!put_fields(k, out))
            return 0;
        en_list_remove(&out->link);
        sent(k->h, out);
    }
    return 1;
}

/* May a first reliable sending of `length` bytes leave under both windows? */
static int window_open(const en_peer *p, const en_out *out, uint16_t number, uint32_t length)
{
    const en_channel *c = p->channel[out->channel];
    uint32_t w = number >> 12, wanted = p->throttle * p->window / 32;
    if (p->in_flight_bytes + length > (wanted > p->mtu ? wanted : p->mtu))
        return 0;
    if (number % 4096)
        return 1;
    uint32_t ten = 0x3ffu << w;
    uint16_t blocked = (uint16_t)(ten | ten >> 16);
    return c->windows[(w + 15) % 16] < 4096 && !(c->used & blocked);
}

/* 1: sent, 0: no place in the datagram, -1: the window is closed. */
static int put_reliable(pack *k, en_out *out)
{
    en_host *h = k->h;
    en_peer *p = k->p;
    if (!out->count) {
        if (!window_open(p, out, out->number, out->length))
            return -1;
        if (en_track(h, out)) /* what cannot be sent again does not leave: when acks have come, there is room */
            return -1;
        if (!put_fields(k, out)) {
            untrack(h, out);
            return 0;
        }
        en_list_remove(&out->link);
        p->queued_reliable--;
        sent(h, out);
        return 1;
    }
    uint32_t piece = piece_size(p), left = out->payload->size - out->offset;
    piece = left < piece ? left : piece;
    uint16_t number = (uint16_t)(out->start + out->index);
    if (!window_open(p, out, number, piece))
        return -1;
    en_out *cut = en_out_new(h, p, out->type, out->flags, out->channel);
    if (!cut)
        return -1;
    cut->payload = out->payload;
    cut->payload->refs++;
    cut->offset = out->offset;
    cut->length = piece;
    cut->start = out->start;
    cut->number = number;
    cut->count = out->count;
    cut->index = out->index;
    cut->queued = out->queued;
    int done = en_track(h, cut) ? -1 : put_fields(k, cut);
    if (done <= 0) {
        if (done == 0)
            untrack(h, cut);
        en_out_free(h, cut);
        return done;
    }
    cut->charge = piece;
    out->charge -= piece;
    out->offset += piece;
    out->index++;
    sent(h, cut);
    if (out->offset == out->payload->size) {
        en_list_remove(&out->link);
        p->queued_reliable--;
        en_out_free(h, out);
    }
    return 1;
}

/* 1: sent or dropped, 0: no place in the datagram. */
static int put_unreliable(pack *k, en_out *out)
{
    en_host *h = k->h;
    en_peer *p = k->p;
    int drop = 0;
    if (out->offset == 0 && !out->in_flight) {
        out->in_flight = 1; /* the dice are thrown once a message */
        p->throttle_counter = (p->throttle_counter + 7) % 32;
        drop = p->throttle_counter > p->throttle;
        p->stats.dropped_throttle += (uint32_t)drop;
        if (!drop && h->now - out->queued > h->config.queue_age) {
            drop = 1;
            p->stats.dropped_queue++;
        }
    }
    while (!drop && out->count && out->offset < out->payload->size) {
        uint32_t piece = piece_size(p), left = out->payload->size - out->offset;
        out->length = left < piece ? left : piece;
        if (!put_fields(k, out))
            return 0;
        out->offset += out->length;
        out->index++;
    }
    if (!drop && !out->count && !put_fields(k, out))
        return 0;
    en_list_remove(&out->link);
    p->queued_unreliable--;
    en_out_free(h, out);
    return 1;
}

/* Messages in the order they were queued; a closed window stops reliable ones only. */
static int put_messages(pack *k)
{
    en_peer *p = k->p;
    int closed = 0;
    for (;;) {
        en_out *r = closed || en_list_empty(&p->reliable) ? NULL : (en_out *)p->reliable.next;
        en_out *u = en_list_empty(&p->unreliable) ? NULL : (en_out *)p->unreliable.next;
        if (!r && !u)
            return 1;
        if (r && (!u || (int32_t)(r->order - u->order) < 0)) {
            int done = put_reliable(k, r);
            if (done == 0)
                return 0;
            closed = done < 0;
        } else if (!put_unreliable(k, u)) {
            return 0;
        }
    }
}

static void loss_figure(en_host *h, en_peer *p)
{
    if (h->now - p->loss_epoch < 10000 || !p->packets_sent)
        return;
    uint32_t loss = (uint32_t)((uint64_t)p->packets_lost * 65536 / p->packets_sent);
    uint32_t away = loss > p->loss ? loss - p->loss : p->loss - loss;
    p->loss_var = (3 * p->loss_var + away) / 4;
    p->loss = (7 * p->loss + loss) / 8;
    p->packets_lost = p->packets_sent = 0;
    p->loss_epoch = h->now;
}

/* 0: nothing is left to send now; -1: the turn has no room. */
static int flush_peer(en_host *h, tudp_turn *turn, en_peer *p)
{
    pack k = {.h = h, .turn = turn, .p = p};
    for (;;) {
        if (p->state == EN_DRAINING && en_list_empty(&p->reliable) && en_list_empty(&p->unreliable) &&
            en_list_empty(&p->resend) && en_list_empty(&p->sent)) {
            p->state = EN_CLOSING;
            en_out *out = en_control(h, p, EN_DISCONNECT, EN_FLAG_ACK);
            if (out)
                out->index = p->code;
            else
                en_peer_gone(h, p, p->word, p->code, 0); /* silently: nothing is left that could be lost */
        }
        if (pack_begin(&k))
            return -1;
        int all = put_acks(&k) && put_control(&k) && put_resends(&k) && put_messages(&k);
        if (k.commands)
            pack_send(&k);
        if (all && !(p->state == EN_DRAINING && en_list_empty(&p->reliable) && en_list_empty(&p->sent) &&
                     en_list_empty(&p->resend)))
            break;
    }
    loss_figure(h, p);
    return 0;
}

void en_flush(en_host *h, tudp_turn *turn)
{
    en_begin(h, turn->now);
    while (!en_list_empty(&h->dirty)) {
        en_peer *p = EN_OF(en_peer, dirty, h->dirty.next);
        en_list_remove(&p->dirty);
        if (flush_peer(h, turn, p)) {
            en_dirty(h, p); /* the next turn goes on */
            return;
        }
        if (p->dirty.next) /* en_control marked it again; it is done */
            en_list_remove(&p->dirty);
    }
}

/* ---- timers ---- */

/* Timeouts double, but not above `cap` ms unless the round trip is that long:
 * an idle link that loses a third of everything must not end for want of tries. */
static uint32_t doubled(const en_peer *p, uint32_t timeout, uint32_t cap)
{
    uint32_t most = 2 * (p->rtt + 4 * p->var);
    most = most < cap ? cap : most < EN_RTO_LAST ? most : EN_RTO_LAST;
    return timeout >= most ? timeout : timeout * 2 < most ? timeout * 2 : most;
}

/* Queues again what has waited too long. Ends the peer that does not answer. */
static void resend_expired(en_host *h, en_peer *p)
{
    int crowded = p->in_flight >= 8;
    p->has_resend_at = 0;
    for (en_link *at = p->sent.next, *next; at != &p->sent; at = next) {
        next = at->next;
        en_out *out = (en_out *)at;
        uint32_t expires = out->sent + out->timeout;
        if (en_before(h->now, expires)) {
            if (!p->has_resend_at || en_before(expires, p->resend_at))
                p->resend_at = expires;
            p->has_resend_at = 1;
            continue;
        }
        if (!p->failing || en_before(out->sent, p->failing_since))
            p->failing_since = out->sent;
        p->failing = 1;
        uint32_t elapsed = h->now - p->failing_since;
        /* Stock gives up after six sendings and 5 s; here also nothing may have been heard for 5 s,
         * or a lossy link would end peers that are plainly there. */
        int silent = h->now - p->last_heard >= 5000 && p->state != EN_CONNECTING;
        if (elapsed >= 30000 || (out->sends >= 6 && elapsed >= 5000 && silent)) {
            p->stats.given_up++;
            int ours = p->state == EN_DRAINING || p->state == EN_CLOSING;
            en_peer_gone(h, p, ours ? p->word : EN_TIMEOUT, ours ? p->code : 0, 0);
            return;
        }
        en_list_remove(at);
        en_list_add(&p->resend, at);
        out->in_flight = 0;
        if (crowded || out->sends >= 3) /* a message alone is no congestion: its first tries keep their pace */
            out->timeout = doubled(p, out->timeout, crowded ? EN_RTO_MOST : EN_RTO_MOST / 2);
        p->in_flight_bytes -= out->length;
        p->in_flight--;
        p->packets_lost++;
        en_dirty(h, p);
    }
}

void en_timer(en_host *h, tudp_turn *turn, en_peer *p)
{
    (void)turn;
    if (p->has_resend_at && !en_before(h->now, p->resend_at))
        resend_expired(h, p);
    if (p->state == EN_GONE)
        return;
    uint32_t quiet = p->client ? p->last_ack : p->last_heard;
    uint32_t next = h->now + 1000;
    if (p->state == EN_CONNECTED || p->state == EN_DRAINING) {
        int idle = en_list_empty(&p->sent) && en_list_empty(&p->resend) && en_list_empty(&p->control_queue);
        if (idle && h->now - quiet >= h->config.ping)
            en_control(h, p, EN_PING, EN_FLAG_ACK);
        next = h->now - quiet < h->config.ping ? quiet + h->config.ping : h->now + h->config.ping;
    }
    if (p->has_resend_at && en_before(p->resend_at, next))
        next = p->resend_at;
    en_schedule(h, p, next);
}
