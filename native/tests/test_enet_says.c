/* What peers say to an ENet host: too big, too old, too much, out of order, or with no memory to take it. */
#include "enet_hand.h"

/* ---- what peers say ---- */

static void messages_that_are_too_big_or_too_old(void)
{
    static const uint8_t types[] = {EN_SEND_RELIABLE, EN_SEND_UNRELIABLE, EN_SEND_UNSEQUENCED, EN_SEND_FRAGMENT};
    for (int i = 0; i < 4; i++) {
        plain();
        config.max_message = 100;
        begin();
        client c = join(LOCAL, 1, 1);
        en_command big = {.type = types[i], .flags = types[i] == EN_SEND_RELIABLE ? EN_FLAG_ACK : 0, .number = 1, .length = 101,
                          .u.send = {.start = 1, .count = 2, .total = 202}};
        assert(say(&c, &big, 1) == TUDP_HELD && leaves == 1 && last_word == EN_TOO_BIG);
        end();
    }
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    en_command m = {.type = EN_SEND_UNSEQUENCED, .length = 4, .u.send.start = 1030};
    assert(say(&c, &m, 1) == TUDP_HELD && say(&c, &m, 1) == TUDP_ANSWERED); /* a duplicate */
    m.u.send.start = 10; /* below the base: a lap on, and too far */
    assert(say(&c, &m, 1) == TUDP_ANSWERED);
    m.u.send.start = 65000;
    say(&c, &m, 1);
    c.peer->group_base = 60 * 1024;
    m.u.send.start = 5; /* a lap on, and near */
    assert(say(&c, &m, 1) == TUDP_HELD && c.peer->group_base == 0);
    end();
}

static void what_waits_is_bounded(void)
{
    plain();
    config.max_waiting = 4;
    begin();
    client c = join(LOCAL, 1, 1);
    c.number[0] = 1; /* the first is missing */
    for (int i = 0; i < 5; i++)
        say_one(&c, reliable(&c, 0, 10));
    assert(c.peer->full && leaves == 0);
    en_command f = {.type = EN_SEND_FRAGMENT, .flags = EN_FLAG_ACK, .number = 20, .length = 10,
                    .u.send = {.start = 20, .count = 2, .total = 20}};
    say(&c, &f, 1); /* nor is there room for a group */
    f = (en_command){.type = EN_SEND_UNRELIABLE_FRAGMENT, .number = 0, .length = 10,
                     .u.send = {.start = 20, .count = 2, .total = 20}};
    say(&c, &f, 1);
    now += 10000 * (uint64_t)MS;
    say_one(&c, (en_command){.type = EN_SEND_RELIABLE, .flags = EN_FLAG_ACK, .number = 9, .length = 10});
    assert(leaves == 1 && last_word == EN_HOARDING);
    end();
    for (int kind = 0; kind < 3; kind++) {
        plain();
        begin();
        c = join(LOCAL, 1, 1);
        c.number[0] = 1;
        say_one(&c, reliable(&c, 0, 1000));
        config = *en_host_config(host);
        if (kind == 0)
            config.waiting_bytes = 500; /* lowered below what is there */
        else if (kind == 1)
            config.waiting_bytes = 1500;
        else
            config.memory = 1000;
        en_host_limits(host, &config);
        say_one(&c, reliable(&c, 0, 1000));
        assert(c.peer->full && c.peer->waiting_bytes == 1000);
        if (kind == 2) { /* memory is full: what need not arrive is shed */
            en_command u = {.type = EN_SEND_UNSEQUENCED, .length = 4, .u.send.start = 1};
            assert(say(&c, &u, 1) == TUDP_ANSWERED && host->totals.shed == 1);
            en_block *b = en_payload(host, data, 10);
            assert(en_send(host, c.peer, b, 0, EN_UNSEQUENCED, 0) == 0);
            en_payload_drop(host, b);
            en_greeting g = greeting(3, 3);
            tudp_sockaddr far = four(FAR, 5);
            assert(hello(&g, 0, &far) == TUDP_DROP(TUDP_DENIED));
        }
        end();
    }
}

static void numbers_and_fragments_in_every_order(void)
{
    plain();
    config.max_groups = 2;
    begin();
    client c = join(LOCAL, 1, 1);
    en_command f = {.type = EN_SEND_FRAGMENT, .flags = EN_FLAG_ACK, .number = 1, .length = 10,
                    .u.send = {.start = 1, .count = 2, .index = 0, .total = 20, .offset = 0}}, bad;
    bad = f, bad.length = 0, say(&c, &bad, 1);
    bad = f, bad.u.send.index = 2, say(&c, &bad, 1);
    bad = f, bad.u.send.offset = 20, say(&c, &bad, 1);
    bad = f, bad.u.send.offset = 15, say(&c, &bad, 1);
    bad = f, bad.u.send.total = 1, bad.length = 1, say(&c, &bad, 1);
    bad = f, bad.u.send.count = EN_FRAGMENTS_MOST + 1, bad.u.send.total = 1u << 30, say(&c, &bad, 1);
    assert(c.peer->stats.malformed == 6);
    say(&c, &f, 1);
    bad = f, bad.u.send.count = 3, bad.u.send.index = 1, say(&c, &bad, 1);
    bad = f, bad.u.send.total = 21, bad.u.send.index = 1, say(&c, &bad, 1);
    assert(c.peer->stats.malformed == 8);
    say(&c, &f, 1); /* the same again */
    assert(c.peer->stats.duplicates == 1 && messages == 0);
    f.number = 2, f.u.send.index = 1, f.u.send.offset = 10;
    assert(say(&c, &f, 1) == TUDP_HELD && messages == 1);
    say(&c, &f, 1); /* it was delivered */
    f.u.send.start = 1, say(&c, &f, 1);
    f.u.send.start = 2, say(&c, &f, 1);
    /* pieces that overlap: nothing is delivered, and the number is used up */
    en_command g = {.type = EN_SEND_FRAGMENT, .flags = EN_FLAG_ACK, .number = 3, .length = 10,
                    .u.send = {.start = 3, .count = 2, .index = 0, .total = 20, .offset = 0}};
    say(&c, &g, 1);
    g.number = 4, g.u.send.index = 1, g.u.send.offset = 5;
    say(&c, &g, 1);
    assert(messages == 1 && c.peer->stats.malformed == 9);
    /* pieces that end too early */
    g = (en_command){.type = EN_SEND_FRAGMENT, .flags = EN_FLAG_ACK, .number = 5, .length = 10,
                     .u.send = {.start = 5, .count = 1, .index = 0, .total = 20, .offset = 0}};
    say(&c, &g, 1);
    assert(messages == 1 && c.peer->stats.malformed == 10);
    /* a message whose number lies inside a group that came */
    en_command r = {.type = EN_SEND_RELIABLE, .flags = EN_FLAG_ACK, .number = 7, .length = 4};
    say(&c, &r, 1);
    say(&c, &r, 1); /* waits, and comes again */
    g = (en_command){.type = EN_SEND_FRAGMENT, .flags = EN_FLAG_ACK, .number = 6, .length = 10,
                     .u.send = {.start = 6, .count = 2, .index = 1, .total = 20, .offset = 10}};
    say(&c, &g, 1);
    g.u.send.index = 0, g.u.send.offset = 0;
    say(&c, &g, 1);
    assert(messages == 2); /* the group 6-7; the other 7 is gone */
    r.number = 9, say(&c, &r, 1);
    r.number = 8, say(&c, &r, 1);
    assert(messages == 4);
    r.number = 20000, say(&c, &r, 1); /* far from any window */
    r.type = EN_SEND_UNRELIABLE, r.flags = 0, r.u.send.start = 1, say(&c, &r, 1);
    g.type = EN_SEND_UNRELIABLE_FRAGMENT, g.flags = 0, g.number = 40000, say(&c, &g, 1);
    r.number = 9 + 7 * 4096, r.flags = EN_FLAG_ACK, r.type = EN_SEND_RELIABLE;
    uint64_t said = answers;
    say(&c, &r, 1);
    assert(answers == said && messages == 4); /* that far ahead there is not even an ack */
    say_one(&c, (en_command){.type = EN_PING, .flags = EN_FLAG_ACK, .channel = 200, .number = 1});
    assert(answers == said + 1);
    end();
}

static void unreliable_ones_of_every_kind(void)
{
    plain();
    config.max_groups = 2;
    config.group_bytes = 4000;
    begin();
    client c = join(LOCAL, 1, 1);
    en_command u = {.type = EN_SEND_UNRELIABLE, .number = 0, .length = 4, .u.send.start = 5};
    assert(say(&c, &u, 1) == TUDP_HELD && say(&c, &u, 1) == TUDP_ANSWERED); /* seen */
    /* groups: a third makes the oldest go, one that is too large cannot be */
    for (uint16_t i = 10; i < 13; i++) {
        en_command f = {.type = EN_SEND_UNRELIABLE_FRAGMENT, .number = 0, .length = 100, .channel = (uint8_t)(i % 2),
                        .u.send = {.start = i, .count = 2, .total = 200}};
        say(&c, &f, 1);
        now += 10 * (uint64_t)MS;
    }
    assert(c.peer->groups == 2);
    en_command f = {.type = EN_SEND_UNRELIABLE_FRAGMENT, .number = 0, .length = 1300,
                    .u.send = {.start = 40, .count = 5, .total = 6000}};
    for (uint32_t i = 0; i < 4; i++) {
        f.u.send.index = i;
        f.u.send.offset = i * 1300;
        say(&c, &f, 1);
    }
    assert(c.peer->groups <= 2);
    end();
    plain();
    config.group_bytes = 10; /* no group fits */
    begin();
    c = join(LOCAL, 1, 1);
    say(&c, &f, 1);
    f.type = EN_SEND_FRAGMENT, f.flags = EN_FLAG_ACK, f.number = 1, f.u.send.start = 1, f.u.send.index = 0;
    say(&c, &f, 1);
    assert(c.peer->full && !c.peer->groups);
    end();
    plain();
    config.reassembly_bytes = 100; /* of the whole host */
    begin();
    c = join(LOCAL, 1, 1);
    say(&c, &f, 1);
    assert(c.peer->full);
    config.group_bytes = config.reassembly_bytes = 1 << 20;
    en_host_limits(host, &config);
    say(&c, &f, 1);
    config.reassembly_bytes = 1;
    en_host_limits(host, &config);
    f.u.send.index = 1, f.u.send.offset = 1300;
    say(&c, &f, 1);
    config.group_bytes = 1;
    en_host_limits(host, &config);
    say(&c, &f, 1);
    assert(c.peer->stats.messages_in[0] == 0);
    end();
    plain();
    begin();
    c = join(LOCAL, 1, 1);
    /* ones of a reliable number to come wait for it, and those overtaken go */
    u = (en_command){.type = EN_SEND_UNRELIABLE, .number = 1, .length = 4, .u.send.start = 2};
    say(&c, &u, 1);
    say(&c, &u, 1); /* twice */
    u.u.send.start = 1;
    say(&c, &u, 1);
    u.number = 2;
    say(&c, &u, 1);
    f = (en_command){.type = EN_SEND_UNRELIABLE_FRAGMENT, .number = 2, .length = 5,
                     .u.send = {.start = 3, .count = 2, .total = 10}};
    say(&c, &f, 1);
    assert(messages == 0);
    say_one(&c, reliable(&c, 0, 4));
    assert(messages == 3);
    say_one(&c, reliable(&c, 0, 4));
    assert(messages == 5);
    u.number = 2, u.u.send.start = 2;
    say(&c, &u, 1);
    assert(messages == 6);
    f.u.send.index = 1, f.u.send.offset = 5;
    say(&c, &f, 1);
    assert(messages == 7);
    f.u.send.start = 2;
    say(&c, &f, 1); /* late */
    say_one(&c, reliable(&c, 0, 4));
    c.peer->channel[0]->in_reliable = 60000; /* far on: what still waited is of long ago */
    u.number = 60001, u.u.send.start = 1, say(&c, &u, 1);
    c.peer->channel[0]->in_reliable = (uint16_t)(60000 + 20000);
    c.number[0] = (uint16_t)(60000 + 20000);
    say_one(&c, reliable(&c, 0, 4));
    assert(c.peer->channel[0]->waiting == 0);
    end();
}

static void commands_out_of_their_state(void)
{
    en_command band = {.type = EN_BANDWIDTH_LIMIT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 2,
                       .u.bandwidth = {.incoming = 100}};
    en_command throttle = {.type = EN_THROTTLE_CONFIGURE, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 3,
                           .u.throttle = {1000, 3, 4}};
    en_command ping = {.type = EN_PING, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 4};
    en_command bye = {.type = EN_DISCONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 5, .u.reason = 9};
    en_command verify = {.type = EN_VERIFY_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1};
    en_command hi = {.type = EN_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1};
    en_command u = {.type = EN_SEND_UNSEQUENCED, .length = 4, .u.send.start = 1}, beyond = {.type = EN_SEND_RELIABLE, .channel = 9, .number = 1, .length = 1};
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    assert(say(&c, &band, 1) == TUDP_ANSWERED && c.peer->their_incoming == 100);
    band.u.bandwidth.incoming = 0;
    c.peer->throttle_limit = 1;
    assert(say(&c, &band, 1) == TUDP_ANSWERED && c.peer->throttle_limit == 32);
    assert(say(&c, &throttle, 1) == TUDP_ANSWERED && c.peer->interval == 1000 && c.peer->deceleration == 4);
    assert(say(&c, &verify, 1) == TUDP_ANSWERED && say(&c, &hi, 1) == TUDP_DROP(TUDP_MALFORMED));
    assert(say(&c, &beyond, 1) == TUDP_DROP(TUDP_MALFORMED));
    static uint8_t bytes[2000];
    assert(take(bytes, packed(bytes, &c, &ping, 1, 0), &c.from) == TUDP_DROP(TUDP_MALFORMED)); /* an ack wants the time */
    en_command many[40];
    for (int i = 0; i < 40; i++)
        many[i] = ping;
    assert(say(&c, many, 40) == TUDP_ANSWERED && host->totals.over_commands == 1);
    /* a connection that drains still listens, one that closes does not */
    en_block *b = en_payload(host, data, 10);
    assert(en_send(host, c.peer, b, 0, EN_RELIABLE, 0) == 1);
    en_payload_drop(host, b);
    en_flush(host, turn());
    en_close(host, c.peer, EN_CLOSE_DRAINED, 3, EN_LEFT);
    en_flush(host, turn());
    assert(c.peer->state == EN_DRAINING);
    say(&c, &u, 1);
    assert(messages == 0 && say(&c, &ping, 1) == TUDP_ANSWERED && say(&c, &band, 1) == TUDP_ANSWERED);
    assert(say(&c, &throttle, 1) == TUDP_ANSWERED && say(&c, &verify, 1) == TUDP_ANSWERED);
    assert(say(&c, &bye, 1) == TUDP_HELD && leaves == 1 && last_code == 3);
    c = join(LOCAL, 1, 2);
    en_close(host, c.peer, EN_CLOSE, 4, EN_LEFT);
    assert(say(&c, &u, 1) == TUDP_ANSWERED && say(&c, &ping, 1) == TUDP_ANSWERED && say(&c, &band, 1) == TUDP_ANSWERED);
    assert(say(&c, &throttle, 1) == TUDP_ANSWERED && say(&c, &verify, 1) == TUDP_DROP(TUDP_MALFORMED));
    b = en_payload(host, data, 10);
    assert(en_send(host, c.peer, b, 0, EN_RELIABLE, 0) == EN_CLOSED);
    en_payload_drop(host, b);
    en_ack(host, c.peer, 0, 1, 1);
    assert(say(&c, &bye, 1) == TUDP_HELD && leaves == 2 && last_code == 4);
    c = join(LOCAL, 1, 3);
    bye.flags = EN_FLAG_UNSEQUENCED;
    assert(say(&c, &bye, 1) == TUDP_HELD && leaves == 3 && last_code == 9);
    c = join(LOCAL, 1, 4);
    bye.flags = EN_FLAG_ACK;
    no_room = 1; /* its ack finds no room */
    assert(say(&c, &bye, 1) == TUDP_HELD && leaves == 4);
    end();
}

/* A client of ours, answered by hand. */
static void greetings_that_are_no_answer_to_ours(void)
{
    for (int wrong = 0; wrong < 12; wrong++) {
        plain();
        config.accept = 0;
        begin();
        tudp_sockaddr to = four(LOCAL, 9);
        en_peer *p = en_connect(host, now, &to, 3, 0);
        en_flush(host, turn());
        client server = {.from = to, .id = p->our_id};
        en_command v = {.type = EN_VERIFY_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1};
        v.u.greeting = greeting(7, 0);
        memcpy(v.u.greeting.connect_id, p->connect_id, 4);
        v.u.greeting.incoming = 70000;
        en_greeting *g = &v.u.greeting;
        if (wrong == 1) g->channels = 0;
        if (wrong == 2) g->channels = 256;
        if (wrong == 3) g->interval = 1;
        if (wrong == 4) g->acceleration = 1;
        if (wrong == 5) g->deceleration = 1;
        if (wrong == 6) g->connect_id[0] ^= 1;
        if (wrong == 7) g->peer_id = EN_NO_ID;
        if (wrong == 8) g->mtu = 1, g->window = 1, g->channels = 1;
        if (wrong == 9) g->mtu = 9000, g->window = 1 << 20;
        if (wrong == 10) { /* nothing else is heard before */
            en_command early[] = {{.type = EN_PING, .channel = EN_CONTROL}, {.type = EN_BANDWIDTH_LIMIT, .channel = EN_CONTROL},
                                  {.type = EN_THROTTLE_CONFIGURE, .channel = EN_CONTROL},
                                  {.type = EN_SEND_UNSEQUENCED, .length = 1, .u.send.start = 1}};
            for (int i = 0; i < 4; i++)
                assert(say(&server, &early[i], 1) == TUDP_ANSWERED && p->state == EN_CONNECTING);
            assert(ack(&server, 1, 0) == TUDP_DROP(TUDP_MALFORMED));
            assert(say_one(&server, (en_command){.type = EN_DISCONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .u.reason = 5}) == TUDP_HELD);
            assert(leaves == 1 && last_code == 5);
            end();
            continue;
        }
        if (wrong == 11) { /* no memory to tell of it: it comes again */
            free(host->event);
            host->event = NULL;
            host->event_room = 0;
            host->event = malloc(sizeof *host->event);
            host->event_room = 1;
            refuse("memory", 1, ENOMEM);
            assert(say(&server, &v, 1) == TUDP_ANSWERED && refused() && p->state == EN_CONNECTING);
        }
        say(&server, &v, 1);
        if (wrong >= 1 && wrong <= 7)
            assert(leaves == 1 && joins == 0);
        else
            assert(joins == 1 && p->state == EN_CONNECTED && p->mtu >= EN_MTU_LEAST);
        end();
    }
}

static void acks_of_every_age(void)
{
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    en_peer *p = c.peer;
    for (int i = 0; i < 40; i++) {
        en_block *b = en_payload(host, data, 10);
        assert(en_send(host, p, b, 0, EN_RELIABLE, 0) == 1);
        en_payload_drop(host, b);
        en_flush(host, turn());
        uint16_t sent_at = (uint16_t)(now / MS);
        now += (uint64_t)(i % 7 == 3 ? 400 : i % 5 ? 20 : 0) * MS;
        if (i == 20)
            p->deceleration = 40; /* more than there is */
        if (i == 30)
            p->last_rtt = 1, p->last_var = 0;
        en_command a = {.type = EN_ACKNOWLEDGE, .channel = 0, .number = (uint16_t)(i + 1), .u.ack = {(uint16_t)(i + 1), sent_at}};
        assert(say(&c, &a, 1) == TUDP_ANSWERED);
        assert(say(&c, &a, 1) == TUDP_ANSWERED); /* a second one is of nothing */
        a.u.ack.time = (uint16_t)(now / MS + 5);
        assert(say(&c, &a, 1) == TUDP_ANSWERED); /* from the future */
        pass(200);
    }
    assert(p->in_flight == 0);
    end();
}

/* The table of events has no free row beyond those that are kept for LEAVE. */
static void few_rows(void)
{
    free(host->event);
    host->event_room = host->peer_count;
    host->event = malloc(host->event_room * sizeof *host->event);
}

/* As say_one, with the n-th piece of memory refused. */
static int say_refused(const client *c, en_command command, unsigned n)
{
    static uint8_t bytes[70000];
    uint32_t len = packed(bytes, c, &command, 1, 1);
    refuse("memory", n, ENOMEM);
    int verdict = en_take(host, turn(), bytes, len, &c->from, NULL);
    assert(refused());
    events();
    en_flush(host, turn());
    return verdict;
}

static void what_could_not_be_delivered_is_not_acknowledged(void)
{
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    en_command first = reliable(&c, 0, 4), u = {.type = EN_SEND_UNRELIABLE, .number = 1, .length = 4, .u.send.start = 1};
    few_rows();
    uint64_t said = answers;
    assert(say_refused(&c, first, 1) == TUDP_ANSWERED && answers == said); /* nor is there a channel for it */
    assert(say_refused(&c, first, 3) == TUDP_ANSWERED && answers == said && messages == 0);
    assert(say_one(&c, first) == TUDP_HELD && answers == said + 1 && messages == 1);
    few_rows();
    say_refused(&c, u, 1); /* this kind may be lost */
    /* behind one that waits: the same */
    en_command third = reliable(&c, 0, 4);
    en_command second = third;
    third.number++;
    for (unsigned n = 1; n <= 2; n++) {
        say_refused(&c, third, n);
        assert(!c.peer->waiting_bytes);
    }
    say_one(&c, third);
    few_rows();
    said = answers;
    say_refused(&c, second, 1);
    assert(answers == said && messages == 1);
    /* what waits was acknowledged: when it cannot be delivered, its peer has to go */
    host->event_room = host->peer_count + 1;
    host->event = realloc(host->event, host->event_room * sizeof *host->event);
    assert(say_refused(&c, second, 1) == TUDP_HELD && messages == 2 && leaves == 1 && last_word == EN_HOARDING);
    /* the same of a message in pieces: no memory for the whole, or to tell of it */
    for (unsigned n = 1; n <= 3; n++) {
        c = join(LOCAL, 1, (uint8_t)(1 + n));
        en_command f = {.type = EN_SEND_FRAGMENT, .flags = EN_FLAG_ACK, .number = 1, .length = 10,
                        .u.send = {.start = 1, .count = 2, .total = 20}};
        en_channel_of(host, c.peer, 0);
        for (unsigned k = 1; k <= 3; k++) /* its bitmap, its entry, its octets */
            say_refused(&c, f, k);
        say_one(&c, f);
        f.number = 2, f.u.send.index = 1, f.u.send.offset = 10;
        few_rows();
        leaves = 0;
        say_refused(&c, f, n);
        assert(n == 1 ? leaves == 0 : leaves == 1 && last_word == EN_HOARDING); /* the piece itself comes again */
        if (n == 1)
            assert(say_one(&c, f) == TUDP_HELD && messages == 3);
    }
    end();
    plain(); /* an end that must be told of is told of */
    begin();
    c = join(LOCAL, 1, 1);
    few_rows();
    en_command bye = {.type = EN_DISCONNECT, .channel = EN_CONTROL, .u.reason = 5};
    refuse("memory", 1, ENOMEM);
    static uint8_t bytes[64];
    en_take(host, turn(), bytes, packed(bytes, &c, &bye, 1, 1), &c.from, NULL);
    refused();
    events();
    assert(leaves == 1 && last_code == 5);
    end();
}

static void numbers_inside_a_group_that_came(void)
{
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    en_command f = {.type = EN_SEND_FRAGMENT, .flags = EN_FLAG_ACK, .length = 10, .u.send = {.start = 1, .count = 3, .total = 30}};
    en_command two = {.type = EN_SEND_RELIABLE, .flags = EN_FLAG_ACK, .number = 2, .length = 4};
    say(&c, &two, 1); /* a number that the group has used */
    for (uint32_t i = 0; i < 3; i++) {
        f.number = (uint16_t)(1 + i), f.u.send.index = i, f.u.send.offset = 10 * i;
        say(&c, &f, 1);
    }
    assert(messages == 1 && c.peer->channel[0]->in_reliable == 3 && c.peer->channel[0]->waiting == 0);
    en_command u = {.type = EN_SEND_UNRELIABLE_FRAGMENT, .number = 4, .length = 10, .u.send = {.start = 1, .count = 1, .total = 10}};
    say(&c, &u, 1); /* whole, and ahead of its time */
    assert(messages == 1 && c.peer->channel[0]->waiting == 1);
    c.number[0] = 3;
    say_one(&c, reliable(&c, 0, 4));
    assert(messages == 3);
    end();
}

int main(void)
{
    messages_that_are_too_big_or_too_old();
    what_waits_is_bounded();
    numbers_and_fragments_in_every_order();
    unreliable_ones_of_every_kind();
    commands_out_of_their_state();
    greetings_that_are_no_answer_to_ours();
    acks_of_every_age();
    what_could_not_be_delivered_is_not_acknowledged();
    numbers_inside_a_group_that_came();
    puts("enet says: ok");
    return 0;
}
