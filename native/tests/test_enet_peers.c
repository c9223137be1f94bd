/* A client host and a server host over a wire of memory that loses, doubles and
 * reorders: what is reliable arrives once and in order, what is sequenced never
 * late or twice, connections end as they were ended. The same while the server's peer
 * moves from host to host, as it does when workers are replaced. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "enet_loose.h"

#include <assert.h>
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
    uint8_t *data;
} flight;

typedef struct world {
    uint64_t now, seed, sent;
    double loss, duplicate, reorder;
    flight *flying[FLYING];
    uint32_t count, number;
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
    flight *f = malloc(sizeof *f);
    f->data = malloc(len);
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

static void turn(side *s, const flight *f)
{
    tudp_turn *t = en_loose_turn(&s->loose, s->world->now);
    if (f)
        en_take(s->host, t, f->data, f->len, &f->from, NULL);
    if (en_deadline(s->host) <= s->world->now)
        en_due(s->host, t);
    events(s);
    en_flush(s->host, t);
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
            free(f->data);
            free(f);
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
    while (w->count) {
        free(w->flying[--w->count]->data);
        free(w->flying[w->count]);
    }
    en_host_free(w->client.host);
    en_host_free(w->server.host);
}

static int say(side *s, uint32_t number, uint32_t length, uint8_t channel, uint8_t delivery)
{
    uint8_t *data = malloc(length);
    memcpy(data, &number, 4);
    for (uint32_t k = 4; k < length; k++)
        data[k] = (uint8_t)(number + k);
    en_block *b = en_payload(s->host, data, length);
    int done = en_send(s->host, s->peer, b, channel, delivery, 1);
    en_payload_drop(s->host, b);
    free(data);
    return done;
}

/* The server's peer goes on in another host, which has another secret; the bytes of it. */
static uint64_t moves(world *w, int hostile)
{
    side *s = &w->server;
    uint64_t len = en_peer_save(s->host, s->peer, NULL, 0);
    uint8_t *data = malloc(len);
    assert(len > 100 && en_peer_save(s->host, s->peer, data, len) == len);
    en_config c = *en_host_config(s->host);
    c.secret[0] = draw(w);
    en_host *fresh = en_host_new(&c);
    for (uint64_t cut = 0; hostile && cut < len; cut += 1 + cut / 300) { /* exact: a read beyond the cut is seen */
        uint8_t *part = malloc(cut + 1);
        memcpy(part, data, cut);
        assert(!en_peer_load(fresh, w->now, part, cut));
        free(part);
    }
    for (int i = 0; i < hostile; i++) { /* whatever it says, it is refused or served */
        uint8_t *bad = malloc(len);
        memcpy(bad, data, len);
        for (uint32_t n = 1 + draw(w) % 3; n; n--)
            bad[draw(w) % len] ^= (uint8_t)(1 + draw(w) % 255);
        en_host *victim = en_host_new(&c);
        en_peer *p = en_peer_load(victim, w->now, bad, len);
        en_loose loose;
        side nobody = {.world = w};
        double loss = w->loss;
        w->loss = 1;
        en_loose_init(&loose, out, &nobody);
        en_flush(victim, en_loose_turn(&loose, w->now));
        for (uint64_t later = 1; p && later <= 40; later++) {
            en_due(victim, en_loose_turn(&loose, w->now + later * SECOND));
            en_flush(victim, en_loose_turn(&loose, w->now + later * SECOND));
        }
        w->loss = loss;
        en_host_free(victim);
        free(bad);
    }
    en_peer_forget(s->host, s->peer);
    assert(en_host_peers(s->host) == 0 && en_event_count(s->host) == 0);
    en_due(s->host, en_loose_turn(&s->loose, w->now + 1));
    en_flush(s->host, en_loose_turn(&s->loose, w->now + 1));
    en_due(s->host, en_loose_turn(&s->loose, w->now + 2));
    assert(en_host_memory(s->host) == 0);
    en_host_free(s->host);
    s->host = fresh;
    s->peer = en_peer_load(fresh, w->now, data, len);
    assert(s->peer && en_host_peers(fresh) == 1 && !en_peer_load(fresh, w->now, data, len));
    assert(en_peer_save(fresh, s->peer, NULL, 0) == len);
    free(data);
    return len;
}

static void a_storm(uint64_t seed, int checksum, int compress, uint32_t clock, int every)
{
    world w;
    uint64_t most = 0, size;
    open_world(&w, seed, checksum, compress, clock);
    w.loss = 0.1;
    w.duplicate = 0.05;
    w.reorder = 0.3;
    run(&w, 8000);
    assert(w.client.joins == 1 && w.server.joins == 1);
    for (uint32_t n = 0; n < 400; n++) {
        assert(say(&w.client, n, n % 50 == 7 ? 20000 : 4 + n % 90, 0, EN_RELIABLE) == 1);
        assert(say(&w.client, n + 1, n % 50 == 9 ? 4000 : 4 + n % 60, 1, EN_SEQUENCED) == 1);
        assert(say(&w.client, n, 8, 2, EN_UNSEQUENCED) == 1);
        assert(say(&w.server, n, n % 40 == 3 ? 15000 : 4 + n % 90, 0, EN_RELIABLE) == 1);
        run(&w, 10);
        if (every && n % (uint32_t)every == 0)
            most = most > (size = moves(&w, n % 100 == 0 ? 60 : 0)) ? most : size;
    }
    assert(!every || most > 4000); /* there was something under way */
    run(&w, 40000);
    assert(w.server.next_reliable == 400 && w.client.next_reliable == 400);
    assert(w.server.last_sequenced > 350);
    en_close(w.client.host, w.client.peer, EN_CLOSE, 7, EN_LEFT);
    run(&w, 40000);
    assert(w.client.leaves == 1 && w.server.leaves == 1 && en_host_peers(w.server.host) == 0);
    close_world(&w);
}

static void a_big_message(void)
{
    world w;
    open_world(&w, 5, 0, 0, 0);
    w.server.echo = 1;
    run(&w, 100);
    assert(say(&w.client, 0, 1 << 20, 0, EN_RELIABLE) == 1);
    run(&w, 10000);
    assert(w.server.bytes == 1 << 20 && w.client.bytes == 1 << 20);
    en_close(w.server.host, w.server.peer, EN_CLOSE_DRAINED, 9, EN_KICKED);
    run(&w, 1000);
    assert(w.client.leaves == 1 && w.client.leave_code == 9 && w.server.leave_word == EN_KICKED);
    close_world(&w);
}

static void a_vanished_client_times_out(void)
{
    world w;
    open_world(&w, 6, 0, 0, 0);
    run(&w, 1000);
    assert(w.server.joins == 1);
    w.loss = 1;
    run(&w, 45000);
    assert(w.server.leaves == 1 && w.server.leave_word == EN_TIMEOUT);
    assert(w.client.leaves == 1 && w.client.leave_word == EN_TIMEOUT);
    assert(en_deadline(w.server.host) == TUDP_NEVER);
    close_world(&w);
}

static void numbers_wrap(void)
{
    world w;
    open_world(&w, 7, 0, 0, UINT32_MAX - 5000 - 1000000);
    run(&w, 1000);
    uint32_t sent = 0;
    while (sent < 140000) { /* twice around 65,536 */
        for (int i = 0; i < 500; i++)
            assert(say(&w.client, sent++, 4, 0, EN_RELIABLE) == 1);
        run(&w, 300);
    }
    run(&w, 5000);
    assert(w.server.next_reliable == sent);
    close_world(&w);
}

int main(void)
{
    for (uint64_t seed = 1; seed <= 12; seed++)
        a_storm(seed, seed % 2, seed % 3 == 0, seed % 4 ? 0 : UINT32_MAX - 1010000, 0);
    for (uint64_t seed = 21; seed <= 26; seed++)
        a_storm(seed, seed % 2, seed % 3 == 0, seed % 4 ? 0 : UINT32_MAX - 1010000, seed == 21 ? 1 : 7);
    a_big_message();
    a_vanished_client_times_out();
    numbers_wrap();
    return 0;
}
