/* A client host and a server host over a wire of memory that loses, doubles and
 * reorders: what is reliable arrives once and in order, what is sequenced never
 * late or twice, connections end as they were ended. The same while the server's peer
 * moves from host to host, as it does when workers are replaced. */
#include "enet_world.h"

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
