/* An ENet host that is refused memory: what it then does not do comes again, and whoever was told of a peer is told
 * of its end. */
#include "enet_world.h"

#include "enet_inside.h"

static void a_host_is_whole_or_not_there(void)
{
    for (unsigned n = 1;; n++) {
        en_config c;
        en_config_default(&c);
        c.accept = 1;
        refuse("memory", n, ENOMEM);
        en_host *h = en_host_new(&c);
        int once = refused();
        assert(once == !h);
        en_host_free(h);
        if (!once)
            break;
    }
}

/* A connection is opened with the n-th piece of memory refused, on either side: it comes about all the same, since
 * what was not answered is asked again, or the caller is told at once. */
static void a_connection_comes_about_though_memory_is_refused(void)
{
    for (int side_of = 0; side_of < 2; side_of++) {
        for (unsigned n = 1, more = 1; more; n++) {
            for (int compress = 0; compress < 2; compress++) {
                world w;
                open_world(&w, 77 + n, 0, compress, 0);
                side *s = side_of ? &w.server : &w.client;
                more = 0;
                for (int step = 0; step < 400; step++) {
                    /* at each moment of a side the n-th piece that it wants then, in the first tenth of a second */
                    if (step < 100 && s->host)
                        refuse("memory", n, ENOMEM);
                    run(&w, 1);
                    more |= (unsigned)refused();
                }
                run(&w, 20000);
                assert(w.client.joins == w.server.joins - w.server.leaves);
                assert(w.client.joins + w.client.leaves == 1);
                close_world(&w);
            }
        }
    }
}

static void a_storm(uint64_t seed, double share)
{
    world w;
    uint32_t said[2] = {0, 0}, tries = 0;
    open_world(&w, seed, seed % 2, seed % 3 == 0, 0);
    w.loss = 0.05;
    w.duplicate = 0.05;
    w.reorder = 0.3;
    run(&w, 8000);
    assert(w.client.joins == 1 && w.server.joins == 1);
    w.refuse = share;
    for (uint32_t n = 0; n < 250 && w.client.peer && w.server.peer; n++) {
        for (int i = 0; i < 2; i++) {
            side *s = i ? &w.server : &w.client;
            while (s->peer) {
                int done = say(s, said[i], said[i] % 50 == 7 ? 9000 : 4 + said[i] % 400, 0, EN_RELIABLE);
                assert(done == 1 || done == EN_NO_MEMORY || done == EN_CLOSED);
                said[i] += done == 1;
                if (done != EN_NO_MEMORY || ++tries > 100000)
                    break;
            }
        }
        if (w.client.peer)
            say(&w.client, n + 1, n % 20 == 9 ? 4000 : 4 + n % 60, 1, EN_SEQUENCED);
        if (w.client.peer)
            say(&w.client, n, 8, 2, EN_UNSEQUENCED);
        run(&w, 10);
    }
    run(&w, 2000);
    w.refuse = 0;
    run(&w, 40000);
    assert(w.refusals > 20);
    if (w.client.peer && w.server.peer) { /* it has held: nothing is missing */
        assert(w.server.next_reliable == said[0] && w.client.next_reliable == said[1]);
        en_close(w.client.host, w.client.peer, EN_CLOSE_DRAINED, 7, EN_LEFT);
    }
    run(&w, 60000);
    assert(w.client.leaves == 1 && w.server.leaves == 1);
    assert(en_host_peers(w.server.host) == 0 && en_host_peers(w.client.host) == 0);
    run(&w, 10000);
    close_world(&w);
}

static void every_loss_of_memory_ends_in_a_leave(void)
{
    en_config c;
    en_config_default(&c);
    en_host *h = en_host_new(&c);
    tudp_sockaddr to = {.in4 = {.sin_family = AF_INET, .sin_port = htons(9)}};
    en_peer *p[200];
    unsigned made = 0, times = 0;
    while (made < 200) { /* the rows for their ends are there when they are */
        to.in4.sin_addr.s_addr = htonl(0x0a000000 + made * 999);
        refuse("memory", 1 + times % 7, ENOMEM);
        en_peer *one = en_connect(h, 1000000000u, &to, 1, 0);
        int once = refused();
        assert(once ? one == NULL || times % 7 > 0 : one != NULL);
        times++;
        if (one)
            p[made++] = one;
        assert(en_host_peers(h) == made && en_event_count(h) == 0);
    }
    assert(times > 205);
    for (unsigned i = 0; i < made; i++) {
        refuse("memory", 1, ENOMEM);
        en_close(h, p[i], EN_CLOSE_NOW, 5, EN_KICKED);
        refused();
    }
    assert(en_event_count(h) == made && en_host_peers(h) == 0);
    for (unsigned i = 0; i < made; i++)
        assert(en_event_at(h, i)->kind == EN_EVENT_LEAVE && en_event_at(h, i)->peer == p[i]);
    en_events_done(h);
    en_host_free(h);
}

static void a_ban_that_cannot_be_kept_is_said_to_be_none(void)
{
    en_config c;
    en_config_default(&c);
    en_host *h = en_host_new(&c);
    uint8_t ip[16] = {1};
    refuse("memory", 1, ENOMEM);
    assert(en_ban(h, ip, 5) == EN_NO_MEMORY && refused());
    assert(en_ban(h, ip, 5) == 0 && en_ban(h, ip, 0) == 0 && en_ban(h, ip, 0) == 0);
    en_host_free(h);
}

/* A peer that moves to a process without memory stays away as a whole. */
static void a_peer_is_carried_whole_or_not(void)
{
    world w;
    open_world(&w, 99, 1, 0, 0);
    run(&w, 1000);
    w.loss = 1; /* nothing arrives: all of it is under way */
    for (uint32_t n = 0; n < 40; n++) {
        say(&w.server, n, n % 9 == 7 ? 5000 : 100, 0, EN_RELIABLE);
        say(&w.server, n + 1, 50, 1, EN_SEQUENCED);
        say(&w.client, n, n % 9 == 7 ? 5000 : 100, 0, EN_RELIABLE);
        w.loss = n % 4 == 0 ? 1 : 0;
        run(&w, 1);
    }
    run(&w, 25); /* some of it has come, and waits for what has not */
    uint64_t len = en_peer_save(w.server.host, w.server.peer, NULL, 0);
    uint8_t *data = malloc(len);
    assert(en_peer_save(w.server.host, w.server.peer, data, len) == len);
    assert(en_peer_save(w.client.host, w.client.peer, data, len) == 0); /* a client's stays where it is */
    assert(en_peer_save(w.server.host, w.server.peer, data, len) == len);
    en_config c = *en_host_config(w.server.host);
    en_host *fresh = en_host_new(&c);
    for (unsigned n = 1;; n++) {
        refuse("memory", n, ENOMEM);
        en_peer *p = en_peer_load(fresh, w.now, data, len);
        int once = refused();
        assert(p || (once && en_host_peers(fresh) == 0 && en_event_count(fresh) == 0));
        if (p)
            en_peer_forget(fresh, p);
        if (!once)
            break;
    }
    en_host_free(fresh);
    free(data);
    close_world(&w);
}

int main(void)
{
    a_host_is_whole_or_not_there();
    a_ban_that_cannot_be_kept_is_said_to_be_none();
    every_loss_of_memory_ends_in_a_leave();
    a_connection_comes_about_though_memory_is_refused();
    a_peer_is_carried_whole_or_not();
    for (uint64_t seed = 1; seed <= 6; seed++) {
        a_storm(seed, 0.02);
        a_storm(seed, 0.3);
    }
    puts("enet refused: ok");
    return 0;
}
