/* What an ENet host sends, and a peer as bytes for another process. */
#include "enet_hand.h"

/* ---- sending ---- */

static int send_len(client *c, uint32_t len, uint8_t channel, uint8_t delivery, int fragment)
{
    en_block *b = en_payload(host, data, len);
    int done = en_send(host, c->peer, b, channel, delivery, fragment);
    en_payload_drop(host, b);
    return done;
}

static void what_cannot_be_sent_is_said(void)
{
    plain();
    config.max_message = 60000;
    begin();
    client c = join(LOCAL, 1, 1);
    assert(send_len(&c, 10, 3, EN_RELIABLE, 0) == EN_BAD_CHANNEL && send_len(&c, 60001, 0, EN_RELIABLE, 0) == EN_TOO_LONG);
    assert(send_len(&c, 5000, 0, EN_UNSEQUENCED, 1) == EN_TOO_LONG && send_len(&c, 5000, 0, EN_SEQUENCED, 0) == EN_TOO_LONG);
    assert(send_len(&c, 0, 0, EN_RELIABLE, 0) == 1 && send_len(&c, 5000, 0, EN_SEQUENCED, 1) == 1);
    for (unsigned n = 1; n <= 3; n++) {
        en_block *b = en_payload(host, data, 10);
        refuse("memory", n, ENOMEM);
        int done = en_send(host, c.peer, b, 2, EN_RELIABLE, 0);
        assert(refused() ? done == EN_NO_MEMORY : done == 1);
        en_payload_drop(host, b);
    }
    refuse("memory", 1, ENOMEM);
    assert(!en_payload(host, data, 10) && refused());
    c.peer->channel[0]->out_unreliable = 0xffff; /* the numbers are used up */
    assert(send_len(&c, 10, 0, EN_SEQUENCED, 0) == 1 && c.peer->channel[0]->out_unreliable == 0);
    config.max_message = 1 << 30;
    en_host_limits(host, &config);
    c.peer->mtu = 60; /* pieces of 32 octets: more than there are numbers for */
    en_block *huge = en_payload(host, NULL, 0);
    huge->size = 32 * 24001;
    assert(en_send(host, c.peer, huge, 0, EN_RELIABLE, 1) == EN_TOO_LONG);
    huge->size = 0;
    en_payload_drop(host, huge);
    c.peer->mtu = 1392;
    config.queue_bytes = 100;
    en_host_limits(host, &config);
    assert(send_len(&c, 50, 0, EN_UNSEQUENCED, 0) == 0 && leaves == 0);
    assert(send_len(&c, 50, 0, EN_RELIABLE, 0) == 0);
    events();
    assert(leaves == 1 && last_word == EN_SLOW);
    end();
}

static void a_peer_that_takes_little_gets_its_share(void)
{
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    static const uint32_t rates[] = {1, 1000000, 4000};
    for (int i = 0; i < 3; i++) {
        en_command band = {.type = EN_BANDWIDTH_LIMIT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 2,
                           .u.bandwidth = {.incoming = rates[i]}};
        say(&c, &band, 1);
        c.peer->throttle = 32;
        for (int k = 0; k < 3; k++) {
            assert(send_len(&c, k == 2 ? 100 : 1000, 0, EN_SEQUENCED, 0) == 1);
            pass(600);
        }
        assert(i == 0 ? c.peer->throttle_limit == 1 : i == 1 ? c.peer->throttle_limit == 32 : c.peer->throttle_limit > 1);
    }
    c.peer->pass_bytes = 0;
    pass(1000);
    assert(send_len(&c, 0, 0, EN_SEQUENCED, 0) == 1 && c.peer->throttle_limit == 32);
    /* thrown away by the dice, or too old */
    c.peer->throttle = 0;
    for (int i = 0; i < 40; i++)
        send_len(&c, 10, 0, EN_UNSEQUENCED, 0);
    en_flush(host, turn());
    assert(c.peer->stats.dropped_throttle > 30);
    c.peer->throttle = 32;
    send_len(&c, 10, 0, EN_UNSEQUENCED, 0);
    now += 2000 * (uint64_t)MS;
    en_flush(host, turn());
    assert(c.peer->stats.dropped_queue == 1);
    en_peer_view view;
    send_len(&c, 10, 0, EN_UNSEQUENCED, 0);
    en_peer_look(host, c.peer, &view);
    assert(view.queued_unreliable == 1 && view.queue_age == 0);
    end();
}

static void no_room_in_a_turn_is_made_up_for_in_the_next(void)
{
    plain();
    begin();
    client c = join(LOCAL, 1, 1), d = join(FAR, 1, 1);
    send_len(&c, 10, 0, EN_RELIABLE, 0);
    send_len(&d, 10, 0, EN_RELIABLE, 0);
    uint64_t said = answers;
    no_room = 1;
    en_flush(host, turn());
    assert(answers == said && en_deadline(host) == now);
    no_room = 0;
    en_flush(host, turn());
    assert(answers == said + 2);
    /* gone with its last word still to be said: it stays until it was */
    en_close(host, c.peer, EN_CLOSE_NOW, 1, EN_LEFT);
    events();
    no_room = 1;
    for (int i = 0; i < 3; i++) {
        now += MS;
        en_due(host, turn());
        en_flush(host, turn());
    }
    assert(!en_list_empty(&host->gone));
    no_room = 0;
    en_flush(host, turn());
    now += MS;
    en_due(host, turn());
    assert(en_list_empty(&host->gone));
    /* many acks: those that do not fit go with the next datagram, and of too many the oldest are left to be asked again */
    en_command many[32];
    config = *en_host_config(host);
    config.max_acks = 40;
    en_host_limits(host, &config);
    for (int round = 0; round < 3; round++) {
        static uint8_t bytes[2000];
        for (int i = 0; i < 20; i++)
            many[i] = reliable(&d, (uint8_t)(i % 2), 1);
        en_take(host, turn(), bytes, packed(bytes, &d, many, 20, 1), &d.from, NULL);
        events();
    }
    assert(d.peer->ack_count <= 44 && d.peer->ack_count >= 33);
    said = answers;
    en_flush(host, turn());
    assert(answers == said + 2 && d.peer->ack_count == 0);
    config.max_acks = 1; /* the only block goes */
    en_host_limits(host, &config);
    en_ack(host, d.peer, 0, 1, 1);
    en_ack(host, d.peer, 0, 2, 1);
    assert(d.peer->ack_count == 1);
    refuse("memory", 1, ENOMEM);
    d.peer->ack_count = 0;
    while (d.peer->acks) {
        en_acks *next = d.peer->acks->next;
        en_free(&host->pool, d.peer->acks, sizeof *d.peer->acks);
        d.peer->acks = next;
    }
    d.peer->acks_last = NULL;
    en_ack(host, d.peer, 0, 3, 1);
    assert(refused() && !d.peer->acks);
    for (int i = 0; i < 60; i++)
        en_control(host, d.peer, EN_PING, EN_FLAG_ACK); /* more than a datagram holds */
    said = answers;
    en_flush(host, turn());
    assert(answers == said + 2);
    end();
}

static void what_could_not_be_sent_again_does_not_leave(void)
{
    plain();
    config.queue_bytes = 1 << 20;
    begin();
    client c = join(LOCAL, 1, 1);
    static const uint32_t lens[] = {300, 10, 9000}; /* the first stands outside of its datagram, the last in pieces */
    for (int k = 0; k < 3; k++) {
        uint32_t len = lens[k];
        for (unsigned n = 1, more = 1; more; n++) {
            for (int i = 0; i < 8; i++)
                assert(send_len(&c, len, 0, EN_RELIABLE, 0) == 1);
            refuse("memory", n, ENOMEM);
            en_flush(host, turn());
            more = (unsigned)refused();
            pass(10);
            for (int step = 0; step < 200 && (!en_list_empty(&c.peer->sent) || c.peer->queued_reliable); step++) {
                while (!en_list_empty(&c.peer->sent)) {
                    const en_out *o = (const en_out *)c.peer->sent.next;
                    en_command a = {.type = EN_ACKNOWLEDGE, .channel = o->channel, .number = o->number,
                                    .u.ack = {o->number, (uint16_t)(now / MS)}};
                    say(&c, &a, 1);
                }
                pass(6000);
                assert(leaves == 0);
            }
            assert(!c.peer->queued_reliable && !c.peer->queued_bytes && !c.peer->mapped);
        }
    }
    end();
}

static void windows_of_every_size(void)
{
    assert(en_window_for(0, 0) == EN_WINDOW_MOST && en_window_for(0, 1) == EN_WINDOW_LEAST);
    assert(en_window_for(1u << 30, 1u << 31) == EN_WINDOW_MOST && en_window_for(1u << 31, 200000) == 3 * 4096);
}

/* ---- carrying ---- */

static void a_peer_is_carried_in_every_state(void)
{
    plain();
    begin();
    en_config other = config;
    for (int state = 0; state < 5; state++) {
        client c = join(LOCAL, 1, (uint8_t)(state + 1));
        if (state == 1)
            en_close(host, c.peer, EN_CLOSE_DRAINED, 1, EN_LEFT); /* with a DISCONNECT queued after the flush */
        if (state == 2)
            en_close(host, c.peer, EN_CLOSE, 1, EN_LEFT);
        if (state == 3) {
            en_control(host, c.peer, EN_PING, EN_FLAG_ACK);
            en_flush(host, turn());
            en_control(host, c.peer, EN_PING, EN_FLAG_ACK);
            en_ack(host, c.peer, 0, 5, 6);
            en_channel_of(host, c.peer, 2);
        }
        if (state == 4) {
            for (int i = 0; i < 3; i++)
                send_len(&c, 5000, 1, i % 2 ? EN_SEQUENCED : EN_RELIABLE, 1);
            c.peer->their_incoming = 1;
            c.peer->throttle = 32;
            c.peer->window = 4096;
            en_flush(host, turn());
        }
        uint64_t len = en_peer_save(host, c.peer, NULL, 0);
        uint8_t *bytes = malloc(len);
        assert(en_peer_save(host, c.peer, bytes, len / 2) == len); /* too little room: only counted */
        assert(en_peer_save(host, c.peer, bytes, len) == len);
        en_host *fresh = en_host_new(&other);
        en_peer *p = en_peer_load(fresh, now, bytes, len);
        assert(p && p->state == c.peer->state && p->ack_count == c.peer->ack_count);
        assert(!en_peer_load(fresh, now, bytes, len)); /* it is there */
        en_host_free(fresh);
        fresh = en_host_new(&other);
        assert(!en_peer_load(fresh, now, bytes, len - 1));
        uint8_t *longer = malloc(len + 1);
        memcpy(longer, bytes, len);
        longer[len] = 0;
        assert(!en_peer_load(fresh, now, longer, len + 1) && en_host_peers(fresh) == 0);
        free(longer);
        en_host_free(fresh);
        free(bytes);
        en_peer_gone(host, c.peer, EN_LEFT, 0, 0);
        assert(en_peer_save(host, c.peer, NULL, 0) == 0);
        events();
    }
    end();
}

int main(void)
{
    what_cannot_be_sent_is_said();
    a_peer_that_takes_little_gets_its_share();
    no_room_in_a_turn_is_made_up_for_in_the_next();
    what_could_not_be_sent_again_does_not_leave();
    windows_of_every_size();
    a_peer_is_carried_in_every_state();
    puts("enet sends: ok");
    return 0;
}
