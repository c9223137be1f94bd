/* enet_world.h: two ENet hosts over a wire of memory, a clock set by hand, and calls that may be refused memory.
 * For the tests of peers: each includes it once. */
#ifndef ENET_WORLD_H
#define ENET_WORLD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "enet_loose.h"
#include "refuse.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECOND = 1000000000, MS = 1000000, FLYING = 4096 };

typedef struct side {
    en_host *host;
    en_loose loose;
    tudp_sockaddr address;
    en_peer *peer;
    int joins, leaves;
    uint32_t leave_code, leave_word;
    uint32_t next_reliable, last_sequenced;
    uint64_t got, bytes;
    int echo;
    struct world *world;
} side;

typedef struct flight {
    uint64_t at;
    uint32_t len, number;
    side *to;
    tudp_sockaddr from;
    uint8_t data[EN_MTU_MOST];
} flight;

typedef struct world {
    uint64_t now, seed, sent;
    double loss, duplicate, reorder;
    flight *all, *spare[FLYING], *flying[FLYING];
    uint32_t spares, count, number;
    double refuse; /* how many of the calls of a host have one piece of memory refused */
    uint64_t refusals;
    side client, server;
} world;

static uint32_t draw(world *w)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return (uint32_t)(w->seed >> 32);
}
static int chance(world *w, double p) { return draw(w) < p * 4294967296.0; }

static void fly(world *w, side *from, const uint8_t *data, uint32_t len)
{
    assert(w->count < FLYING && len <= EN_MTU_MOST);
    flight *f = w->spare[--w->spares];
    memcpy(f->data, data, len);
    f->len = len;
    f->to = from == &w->client ? &w->server : &w->client;
    f->from = from->address;
    f->number = w->number++;
    f->at = w->now + 20 * MS + (chance(w, w->reorder) ? draw(w) % (30 * MS) : 0);
    w->flying[w->count++] = f;
}

static void out(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to)
{
    side *s = ctx;
    world *w = s->world;
    (void)to;
    w->sent++;
    if (chance(w, w->loss))
        return;
    fly(w, s, data, len);
    if (chance(w, w->duplicate))
        fly(w, s, data, len);
}

static void events(side *s)
{
    for (uint32_t i = 0; i < en_event_count(s->host); i++) {
        en_event e = *en_event_at(s->host, i);
        if (e.kind == EN_EVENT_JOIN) {
            s->joins++;
            s->peer = e.peer;
        } else if (e.kind == EN_EVENT_LEAVE) {
            s->leaves++;
            s->leave_code = e.code;
            s->leave_word = e.word;
            s->peer = NULL;
        } else {
            uint32_t number;
            s->got++;
            s->bytes += e.length;
            assert(e.length >= 4);
            memcpy(&number, e.data, 4);
            if (e.delivery == EN_RELIABLE)
                assert(number == s->next_reliable++);
            else if (e.delivery == EN_SEQUENCED) {
                assert(number > s->last_sequenced);
                s->last_sequenced = number;
            }
            for (uint32_t k = 4; k < e.length; k++)
                assert(e.data[k] == (uint8_t)(number + k));
            if (s->echo) {
                en_block *b = en_payload(s->host, e.data, e.length);
                assert(en_send(s->host, e.peer, b, e.channel, e.delivery, 1) >= 0);
                en_payload_drop(s->host, b);
            }
        }
    }
    en_events_done(s->host);
}

/* Around each call of a host that may want memory. */
static void arm(world *w)
{
    if (w->refuse && chance(w, w->refuse))
        refuse("memory", 1 + draw(w) % 4, ENOMEM);
}

static void disarm(world *w)
{
    if (w->refuse)
        w->refusals += (uint64_t)refused();
}

static void turn(side *s, const flight *f)
{
    world *w = s->world;
    tudp_turn *t = en_loose_turn(&s->loose, w->now);
    arm(w);
    if (f)
        en_take(s->host, t, f->data, f->len, &f->from, NULL);
    if (en_deadline(s->host) <= w->now)
        en_due(s->host, t);
    disarm(w);
    events(s);
    arm(w);
    en_flush(s->host, t);
    disarm(w);
}

static void run(world *w, uint64_t seconds_ms)
{
    uint64_t until = w->now + seconds_ms * MS;
    turn(&w->client, NULL);
    turn(&w->server, NULL);
    for (;;) {
        uint32_t first = 0;
        for (uint32_t i = 1; i < w->count; i++)
            if (w->flying[i]->at < w->flying[first]->at ||
                (w->flying[i]->at == w->flying[first]->at && w->flying[i]->number < w->flying[first]->number))
                first = i;
        uint64_t next = w->count ? w->flying[first]->at : TUDP_NEVER;
        uint64_t a = en_deadline(w->client.host), b = en_deadline(w->server.host);
        uint64_t timer = a < b ? a : b;
        assert(timer >= w->now || timer == TUDP_NEVER);
        if ((next < timer ? next : timer) > until)
            break;
        if (next <= timer) {
            flight *f = w->flying[first];
            w->flying[first] = w->flying[--w->count];
            w->now = f->at;
            turn(f->to, f);
            w->spare[w->spares++] = f;
        } else {
            w->now = timer;
            turn(a <= b ? &w->client : &w->server, NULL);
        }
    }
    w->now = until;
}

static void open_world(world *w, uint64_t seed, int checksum, int compress, uint32_t clock)
{
    memset(w, 0, sizeof *w);
    w->now = 1000 * (uint64_t)SECOND;
    w->seed = seed * 0x9e3779b97f4a7c15u + 1;
    w->all = malloc(FLYING * sizeof *w->all);
    for (; w->spares < FLYING; w->spares++)
        w->spare[w->spares] = &w->all[w->spares];
    for (int i = 0; i < 2; i++) {
        side *s = i ? &w->server : &w->client;
        en_config c;
        en_config_default(&c);
        c.secret[0] = seed;
        c.secret[1] = (uint64_t)i;
        c.accept = (uint8_t)i;
        c.checksum = (uint8_t)(i ? 2 : checksum);
        c.compress = (uint8_t)(i ? 0 : compress);
        c.clock = clock;
        c.max_message = 1 << 20;
        c.max_fragments = 2000;
        c.group_bytes = c.queue_bytes = c.waiting_bytes = 8 << 20;
        c.ping = i ? 5000 : 500;
        s->host = en_host_new(&c);
        s->world = w;
        s->address.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)(1000 + i)),
                                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        en_loose_init(&s->loose, out, s);
    }
    w->client.peer = en_connect(w->client.host, w->now, &w->server.address, 3, 42);
}

static void close_world(world *w)
{
    free(w->all);
    en_host_free(w->client.host);
    en_host_free(w->server.host);
}

static int say(side *s, uint32_t number, uint32_t length, uint8_t channel, uint8_t delivery)
{
    uint8_t *data = malloc(length);
    memcpy(data, &number, 4);
    for (uint32_t k = 4; k < length; k++)
        data[k] = (uint8_t)(number + k);
    arm(s->world);
    en_block *b = en_payload(s->host, data, length);
    int done = b ? en_send(s->host, s->peer, b, channel, delivery, 1) : EN_NO_MEMORY;
    disarm(s->world);
    en_payload_drop(s->host, b);
    free(data);
    return done;
}

#endif
