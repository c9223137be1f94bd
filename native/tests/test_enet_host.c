/* An ENet host: its config, who is kept out or limited, ends, timers; and those who have not proven themselves. */
#include "enet_hand.h"

/* ---- the host ---- */

static void what_a_config_cannot_mean_is_the_default(void)
{
    static const uint32_t wrong[2][3] = {{0, 1, 0}, {256, 5000, (1u << 24) + 1}};
    for (int i = 0; i < 2; i++) {
        plain();
        config.channels = wrong[i][0];
        config.mtu = wrong[i][1];
        config.half_open = wrong[i][2];
        begin();
        const en_config *c = en_host_config(host);
        assert(c->channels == 255 && c->mtu == EN_MTU && c->half_open == 65536);
        end();
    }
    en_host_free(NULL);
}

static void limits_can_change_and_what_was_agreed_on_stays(void)
{
    plain();
    config.compress = 1;
    begin();
    en_config other;
    en_config_default(&other);
    other.max_message = 10;
    other.half_open = 7;
    other.secret[0] = 99;
    en_host_limits(host, &other);
    const en_config *c = en_host_config(host);
    assert(c->max_message == 10 && c->half_open == 65536 && c->secret[0] == 5 && c->compress && c->accept);
    end();
}

static void a_clock_that_steps_back_stands_still(void)
{
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    now -= 5000 * (uint64_t)MS;
    assert(say_one(&c, reliable(&c, 0, 4)) == TUDP_HELD && messages == 1);
    assert(host->turn_now > now);
    end();
}

static void prefixes_and_bans_keep_addresses_out(void)
{
    plain();
    config.per_prefix = 2;
    begin();
    tudp_sockaddr a = six(0x20, 1, 1), b = six(0x20, 1, 2), c = six(0x20, 1, 3), other = six(0x20, 2, 1);
    client first = asked(&a, 1, 1, 0);
    assert(ack(&first, 1, first.time) == TUDP_HELD);
    client second = asked(&b, 1, 2, 0);
    assert(ack(&second, 1, second.time) == TUDP_HELD);
    en_greeting g = greeting(1, 3);
    assert(hello(&g, 0, &c) == TUDP_DROP(TUDP_DENIED) && en_get32(answer + 6) == (uint32_t)EN_CODE_FULL);
    g = greeting(1, 4); /* the same client, anew, has its own place */
    assert(hello(&g, 0, &a) == TUDP_ANSWERED);
    asked(&other, 1, 5, 0);
    tudp_key key;
    tudp_key_of(&a, &key);
    assert(en_ban(host, key.ip, now + 1000 * (uint64_t)MS) == 0);
    en_command ping = {.type = EN_PING, .channel = EN_CONTROL, .number = 1};
    assert(say(&first, &ping, 1) == TUDP_DROP(TUDP_DENIED) && say(&second, &ping, 1) == TUDP_ANSWERED);
    g = greeting(1, 6);
    assert(hello(&g, 1, &a) == TUDP_DROP(TUDP_DENIED) && en_get32(answer + 10) == (uint32_t)EN_CODE_BANNED);
    now += 1001 * (uint64_t)MS;
    assert(say(&first, &ping, 1) == TUDP_ANSWERED && host->bans.count == 0);
    end();
    plain();
    config.per_prefix = 1;
    config.limit_loopback = 1;
    config.silent = 1;
    begin();
    join(LOCAL, 1, 1);
    tudp_sockaddr near = four(LOCAL + 1, 4000), one = six(0, 0, 1);
    uint64_t said = answers;
    g = greeting(1, 2);
    assert(hello(&g, 0, &near) == TUDP_DROP(TUDP_DENIED) && answers == said); /* without a word */
    config = *en_host_config(host);
    config.silent = config.limit_loopback = 0;
    en_host_limits(host, &config);
    assert(hello(&g, 0, &near) == TUDP_ANSWERED);
    asked(&one, 1, 9, 0);
    config.per_prefix = 0;
    en_host_limits(host, &config);
    near = four(FAR, 1);
    assert(hello(&g, 0, &near) == TUDP_ANSWERED);
    no_room = 1; /* a refusal that finds no room is silent */
    config.max_peers = 1;
    en_host_limits(host, &config);
    near = four(FAR + 1, 1);
    said = answers;
    assert(hello(&g, 0, &near) == TUDP_DROP(TUDP_DENIED) && answers == said);
    end();
}

static void rates_are_kept_and_floods_end(void)
{
    en_command ping = {.type = EN_PING, .channel = EN_CONTROL, .number = 1};
    for (int kind = 0; kind < 4; kind++) { /* both, datagrams, octets, neither */
        plain();
        config.rate = kind & 2 ? 0 : 10;
        config.byte_rate = kind & 1 ? 0 : 100;
        config.limit_loopback = 1;
        begin();
        client c = join(kind == 3 ? LOCAL : FAR, 1, 1);
        int limited = 0;
        for (int i = 0; i < 40; i++)
            limited += say(&c, &ping, 1) == TUDP_DROP(TUDP_LIMITED);
        assert((limited > 0) == (kind != 3));
        now += 2000 * (uint64_t)MS;
        assert(say(&c, &ping, 1) == TUDP_ANSWERED);
        for (int i = 0; i < 400 && !leaves && kind != 3; i++) {
            now += 40 * (uint64_t)MS;
            for (int k = 0; k < 10; k++)
                say(&c, &ping, 1);
        }
        assert(kind == 3 ? leaves == 0 : leaves == 1 && last_word == EN_FLOOD);
        end();
    }
}

static void so_many_malformed_datagrams_and_no_more(void)
{
    for (int never = 0; never < 2; never++) {
        plain();
        config.max_malformed = never ? 0 : 16;
        begin();
        client c = join(LOCAL, 1, 1);
        uint8_t bytes[5000] = {0};
        uint32_t len = (uint32_t)(en_header_write(bytes, c.id, c.session, 1, 0) - bytes);
        for (int i = 0; i < 15; i++)
            assert(take(bytes, len + 1, &c.from) == TUDP_DROP(TUDP_MALFORMED));
        now += 10001 * (uint64_t)MS;
        for (int i = 0; i < 15; i++)
            assert(take(bytes, 4097, &c.from) == TUDP_DROP(TUDP_MALFORMED));
        assert(leaves == 0);
        assert(take(bytes, len + 1, &c.from) == (never ? TUDP_DROP(TUDP_MALFORMED) : TUDP_HELD));
        assert(never ? leaves == 0 : leaves == 1 && last_word == EN_BAD);
        end();
    }
}

static void wrong_sessions_and_hosts_that_take_nobody(void)
{
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    c.session ^= 1;
    assert(say_one(&c, reliable(&c, 0, 4)) == TUDP_DROP(TUDP_DENIED));
    end();
    plain();
    config.accept = 0;
    begin();
    tudp_sockaddr a = four(LOCAL, 9);
    en_greeting g = greeting(1, 1);
    assert(hello(&g, 0, &a) == TUDP_PASS);
    uint8_t bytes[8] = {0};
    assert(take(bytes, 2, &a) == TUDP_PASS && take(bytes, 1, &a) == TUDP_DROP(TUDP_MALFORMED));
    end();
}

static void every_way_to_end_a_connection(void)
{
    static const int hows[] = {EN_CLOSE_NOW, EN_CLOSE, EN_CLOSE_DRAINED};
    static const en_word words[] = {EN_FULL, EN_BANNED, EN_REFUSED, EN_SLOW, EN_FLOOD, EN_HOARDING, EN_TOO_BIG, EN_BAD,
                                    EN_STOPPING, EN_KICKED};
    for (unsigned i = 0; i < 3; i++) {
        plain();
        begin();
        client c = join(LOCAL, 1, 1);
        en_close(host, c.peer, hows[i], 77, EN_KICKED);
        en_close(host, c.peer, EN_CLOSE, 78, EN_LEFT); /* it ends already, unless it was draining */
        en_flush(host, turn());
        assert((uint32_t)(answer[4] & 15) == EN_DISCONNECT || (answer[2] & 15) == EN_DISCONNECT);
        ack(&c, host->peer_count ? c.peer->control : 1, (uint16_t)(now / MS));
        pass(60000);
        assert(leaves == 1 && last_code == (i == 2 ? 78u : 77u));
        end();
    }
    for (unsigned i = 0; i < 10; i++) {
        plain();
        begin();
        client c = join(LOCAL, 1, 1);
        en_expel(host, turn(), c.peer, words[i]);
        en_expel(host, turn(), c.peer, EN_KICKED); /* it is gone */
        en_close(host, c.peer, EN_CLOSE, 1, EN_KICKED);
        en_peer_gone(host, c.peer, EN_LEFT, 0, 0);
        events();
        assert(leaves == 1 && last_word == words[i] && last_code >= (uint32_t)EN_CODE_FULL);
        end();
    }
    plain();
    begin();
    client c = join(LOCAL, 1, 1); /* no memory for the last word: it ends at once */
    refuse("memory", 1, ENOMEM);
    en_close(host, c.peer, EN_CLOSE, 5, EN_LEFT);
    assert(refused());
    events();
    assert(leaves == 1 && last_code == 5);
    c = join(LOCAL, 1, 2);
    refuse("memory", 1, ENOMEM);
    en_close(host, c.peer, EN_CLOSE_NOW, 6, EN_LEFT);
    assert(refused());
    pass(10);
    assert(leaves == 2);
    c = join(LOCAL, 1, 3);
    en_close(host, c.peer, EN_CLOSE_DRAINED, 6, EN_LEFT);
    refuse("memory", 1, ENOMEM);
    en_flush(host, turn());
    assert(refused());
    events();
    assert(leaves == 3);
    en_peer *p = en_connect(host, now, &c.from, 0, 0); /* nobody there yet */
    assert(p && p->channels == 1);
    en_peer_view view;
    en_peer_look(host, p, &view);
    assert(view.rtt_min == 500 && en_peer_state(p) == EN_CONNECTING && !en_peer_user(p));
    en_peer_set_user(p, &view);
    assert(en_peer_user(p) == &view && en_peer_save(host, p, NULL, 0) == 0);
    en_close(host, p, EN_CLOSE, 0, EN_LEFT);
    assert(en_connect(host, now, &c.from, 1000, 0)->channels == 255);
    end();
}

static void a_client_gets_a_free_id_while_there_is_one(void)
{
    plain();
    begin();
    tudp_sockaddr to = four(FAR, 9);
    for (int i = 0; i < EN_NO_ID; i++) {
        en_peer *p = en_connect(host, now, &to, 1, 0);
        assert(p);
        if (i == 5)
            en_close(host, p, EN_CLOSE_NOW, 0, EN_LEFT);
    }
    assert(en_connect(host, now, &to, 1, 0) && !en_connect(host, now, &to, 1, 0));
    end();
}

static void more_timers_than_one_call_takes(void)
{
    plain();
    begin();
    for (uint32_t i = 0; i < 1500; i++)
        join(FAR + i, 1, 1);
    uint64_t due = en_deadline(host);
    now = due + 6000 * (uint64_t)MS; /* all of them at once */
    en_due(host, turn());
    assert(host->wheel_now != host->now);
    for (int i = 0; i < 5; i++)
        en_due(host, turn());
    assert(host->wheel_now == host->now);
    end();
}

/* ---- those who have not proven themselves ---- */

static void several_entries_of_one_address(void)
{
    plain();
    config.half_open = 4;
    begin();
    tudp_sockaddr a = four(FAR, 9), b = four(FAR, 10);
    client first = asked(&a, 1, 1, 0), second = asked(&a, 2, 2, 0), third = asked(&a, 3, 3, 0);
    assert(en_host_half_open(host) == 3);
    assert(ack(&second, 1, second.time) == TUDP_HELD); /* from the middle */
    assert(ack(&third, 1, third.time) == TUDP_HELD);   /* the newest */
    assert(ack(&first, 1, first.time) == TUDP_HELD && en_host_half_open(host) == 0);
    for (uint8_t i = 0; i < 9; i++)
        asked(&b, (uint16_t)(10 + i), (uint8_t)(10 + i), 0);
    assert(en_host_half_open(host) == 4 && en_host_totals(host)->half_dropped == 5);
    en_greeting g = greeting(18, 18);
    uint64_t said = answers;
    assert(hello(&g, 0, &b) == TUDP_ANSWERED && answers == said + 1 && en_host_half_open(host) == 4); /* again */
    now += 5001 * (uint64_t)MS;
    assert(hello(&g, 0, &b) == TUDP_ANSWERED); /* its time was over: anew */
    now += 4000 * (uint64_t)MS;
    assert(hello(&g, 0, &b) == TUDP_ANSWERED);
    end();
}

static void late_and_repeated_connects(void)
{
    plain();
    begin();
    client c = join(LOCAL, 1, 1);
    en_greeting g = greeting(1, 1);
    uint64_t said = answers;
    assert(hello(&g, 0, &c.from) == TUDP_ANSWERED && answers == said && joins == 1); /* a late repeat */
    client again = asked(&c.from, 1, 2, 0);
    assert(ack(&again, 1, again.time) == TUDP_HELD && joins == 2 && leaves == 1 && last_word == EN_REPLACED);
    g = greeting(EN_NO_ID, 1);
    assert(hello(&g, 0, &c.from) == TUDP_DROP(TUDP_MALFORMED));
    g = greeting(1, 1);
    g.channels = 0;
    assert(hello(&g, 0, &c.from) == TUDP_DROP(TUDP_MALFORMED));
    g.channels = 256;
    assert(hello(&g, 0, &c.from) == TUDP_DROP(TUDP_MALFORMED));
    uint8_t bytes[64] = {0};
    uint32_t len = (uint32_t)(en_header_write(bytes, EN_NO_ID, 0, 0, 0) - bytes);
    assert(take(bytes, len + 20, &c.from) == TUDP_DROP(TUDP_MALFORMED)); /* from where somebody is: ours */
    tudp_sockaddr a = four(FAR, 9);
    assert(take(bytes, len + 20, &a) == TUDP_PASS);
    en_command ping = {.type = EN_PING, .channel = EN_CONTROL, .number = 1}; /* 48 octets, and no CONNECT */
    len = (uint32_t)(en_header_write(bytes, EN_NO_ID, 0, 1, 0) - bytes);
    en_command_write(bytes + len, &ping);
    assert(take(bytes, len + 48, &a) == TUDP_PASS);
    ping = (en_command){.type = EN_VERIFY_CONNECT, .channel = EN_CONTROL, .number = 1};
    len = (uint32_t)(en_command_write(bytes + len, &ping) - bytes);
    assert(take(bytes, 52, &a) == TUDP_PASS);
    static uint8_t huge[4200];
    en_header_write(huge, EN_NO_ID, 0, 1, 0);
    assert(take(huge, 4200, &a) == TUDP_PASS);
    end();
    for (int checksum = 0; checksum < 2; checksum++) { /* only with it, only without */
        plain();
        config.checksum = (uint8_t)checksum;
        begin();
        g = greeting(1, 1);
        assert(hello(&g, checksum, &a) == TUDP_ANSWERED && hello(&g, !checksum, &a) != TUDP_ANSWERED);
        end();
    }
}

static void greetings_are_held_within_bounds(void)
{
    plain();
    config.mtu = 1000;
    config.channels = 2;
    begin();
    tudp_sockaddr a = four(FAR, 9);
    static const uint32_t mtus[] = {1, 9000, 800}, windows[] = {1, 1 << 20, 9000};
    for (uint8_t i = 0; i < 3; i++) {
        en_greeting g = greeting((uint16_t)(i + 1), (uint8_t)(i + 1));
        g.mtu = mtus[i];
        g.window = windows[i];
        g.channels = i ? 200 : 1;
        assert(hello(&g, 0, &a) == TUDP_ANSWERED);
        en_command c;
        assert(en_command_read(answer + 4, answer_len - 4, &c) == 44 && c.type == EN_VERIFY_CONNECT);
        assert(c.u.greeting.mtu == (i == 0 ? 576u : i == 1 ? 1000u : 800u) && c.u.greeting.channels == (i ? 2u : 1u));
        assert(c.u.greeting.window == (i == 0 ? 4096u : i == 1 ? 65536u : 9000u));
    }
    end();
}

static void guesses_at_a_proof(void)
{
    plain();
    begin();
    tudp_sockaddr a = four(FAR, 9);
    client c = asked(&a, 1, 1, 0), wrong = c;
    wrong.id ^= 1;
    assert(ack(&wrong, 1, c.time) == TUDP_DROP(TUDP_DENIED));
    wrong = c;
    wrong.session ^= 1;
    assert(ack(&wrong, 1, c.time) == TUDP_DROP(TUDP_DENIED));
    assert(ack(&c, 1, (uint16_t)(c.time + 1)) == TUDP_DROP(TUDP_DENIED));
    assert(ack(&c, 2, c.time) == TUDP_DROP(TUDP_DENIED)); /* not asked again */
    assert(ack(&c, 9, c.time) == TUDP_DROP(TUDP_DENIED));
    en_command other = {.type = EN_ACKNOWLEDGE, .channel = 0, .number = 1, .u.ack = {1, c.time}};
    assert(say(&c, &other, 1) == TUDP_ANSWERED);
    uint8_t bytes[4200] = {0};
    uint32_t len = (uint32_t)(en_header_write(bytes, c.id, c.session, 1, 0) - bytes);
    bytes[len] = 15; /* no command */
    assert(take(bytes, len + 1, &a) == TUDP_ANSWERED);
    assert(take(bytes, 4200, &a) == TUDP_DROP(TUDP_MALFORMED));
    assert(take(bytes, len, &a) == TUDP_ANSWERED && take(bytes, 2, &a) != TUDP_HELD);
    en_command many[40];
    for (int i = 0; i < 40; i++)
        many[i] = (en_command){.type = EN_PING, .channel = EN_CONTROL, .number = 1};
    uint64_t said = answers;
    assert(say(&c, many, 40) == TUDP_ANSWERED && answers > said); /* not proven: asked for it again */
    assert(ack(&c, 3, c.time) == TUDP_DROP(TUDP_DENIED) && ack(&c, 2, c.time) == TUDP_HELD && joins == 1);
    end();
    plain();
    begin();
    c = asked(&a, 1, 1, 1); /* with a checksum */
    len = packed(bytes, &c, many, 2, 1);
    said = answers;
    assert(take(bytes, len, &a) == TUDP_ANSWERED && answers == said + 1);
    no_room = 1;
    assert(take(bytes, len, &a) == TUDP_ANSWERED && answers == said + 1);
    no_room = 0;
    no_send = 1;
    len = packed(bytes, &c, many, 20, 1);
    assert(take(bytes, len, &a) == TUDP_DROP(TUDP_SHED));
    en_greeting g = greeting(7, 7);
    assert(hello(&g, 0, &a) == TUDP_DROP(TUDP_SHED));
    assert(hello(&g, 0, &a) == TUDP_DROP(TUDP_SHED));
    no_send = 0;
    no_room = 1;
    assert(hello(&g, 0, &a) == TUDP_DROP(TUDP_SHED));
    no_room = 0;
    bytes[9] ^= 1; /* a checksum that is wrong */
    len = packed(bytes, &c, many, 1, 1);
    bytes[5] ^= 1;
    assert(take(bytes, len, &a) == TUDP_DROP(TUDP_MALFORMED));
    end();
    plain();
    config.max_peers = 1;
    begin();
    c = asked(&a, 1, 1, 1);
    join(LOCAL, 2, 2); /* and the last place is taken */
    len = packed(bytes, &c, &(en_command){.type = EN_ACKNOWLEDGE, .channel = EN_CONTROL, .number = 1, .u.ack = {1, c.time}}, 1, 1);
    assert(take(bytes, len, &a) == TUDP_DROP(TUDP_DENIED) && en_get32(answer + 10) == (uint32_t)EN_CODE_FULL);
    client own = asked(&(tudp_sockaddr){.in4 = four(LOCAL, 4000).in4}, 2, 9, 0); /* who is there may come anew */
    assert(ack(&own, 1, own.time) == TUDP_HELD && leaves == 1);
    end();
}

static void memory_short_at_each_step_of_a_proof(void)
{
    for (unsigned n = 1, more = 1; more; n++) {
        for (int compressed = 0; compressed < 2; compressed++) {
            static en_range coder;
            plain();
            begin();
            more = 0;
            tudp_sockaddr a = four(FAR, 9);
            en_greeting g = greeting(1, 1);
            refuse("memory", n, ENOMEM);
            int said = hello(&g, 0, &a);
            more |= (unsigned)refused();
            assert(said == TUDP_ANSWERED || said == TUDP_DROP(TUDP_SHED));
            client c = asked(&a, 1, 1, 0);
            uint8_t bytes[600], coded[600];
            en_command all[32];
            for (int i = 0; i < 32; i++)
                all[i] = (en_command){.type = EN_PING, .channel = EN_CONTROL, .number = 1};
            all[31] = (en_command){.type = EN_ACKNOWLEDGE, .channel = EN_CONTROL, .number = 1, .u.ack = {1, c.time}};
            uint32_t len = packed(bytes, &c, all, 32, 1);
            if (compressed) {
                uint32_t small = (uint32_t)en_range_compress(&coder, bytes + 4, len - 4, coded, sizeof coded);
                assert(small);
                memcpy(bytes + 4, coded, small);
                bytes[0] |= EN_COMPRESSED >> 8;
                len = small + 4;
            }
            refuse("memory", n, ENOMEM);
            said = take(bytes, len, &a);
            more |= (unsigned)refused();
            assert(said == TUDP_HELD || said == TUDP_DROP(TUDP_SHED));
            if (said != TUDP_HELD) /* it stands: the next one counts, and no guess was counted against it */
                assert(host->totals.guesses == 0 && take(bytes, len, &a) == TUDP_HELD);
            assert(joins == 1 && en_host_peers(host) == 1);
            client known = {.from = a, .id = c.id, .session = c.session};
            len = packed(bytes, &known, all, 31, 1);
            uint32_t small = (uint32_t)en_range_compress(&coder, bytes + 4, len - 4, coded, sizeof coded);
            memcpy(bytes + 4, coded, small);
            bytes[0] |= EN_COMPRESSED >> 8;
            for (int i = 0; i < 20; i++) { /* a peer is not to blame for our memory */
                refuse("memory", 1, ENOMEM);
                assert(take(bytes, 4 + small, &a) == TUDP_DROP(TUDP_SHED) && refused());
            }
            assert(leaves == 0 && take(bytes, 4 + small, &a) == TUDP_ANSWERED);
            end();
        }
    }
}

static void an_address_with_every_id_taken(void)
{
    plain();
    begin();
    tudp_sockaddr a = four(LOCAL, 9);
    for (uint16_t i = 0; i < EN_NO_ID; i++) {
        client c = {.from = a};
        en_greeting g = greeting(i, (uint8_t)(i % 251));
        assert(hello(&g, 0, &a) == TUDP_ANSWERED);
        c.time = en_get16(answer + 2);
        c.id = en_get16(answer + 8);
        c.session = answer[11];
        assert(ack(&c, 1, c.time) == TUDP_HELD);
    }
    config.max_peers = 10000;
    en_greeting g = greeting(5, 255);
    assert(hello(&g, 0, &a) == TUDP_DROP(TUDP_SHED) && en_host_peers(host) == EN_NO_ID);
    end();
}

static void an_answer_is_never_longer_than_the_question(void)
{
    static en_range coder;
    plain();
    begin();
    tudp_sockaddr a = four(FAR, 9);
    uint8_t bytes[64], coded[64];
    en_greeting g = greeting(0, 0);
    memset(g.connect_id, 0, 4);
    g.mtu = g.window = g.interval = g.acceleration = g.deceleration = 0;
    g.channels = 1;
    uint8_t *body = en_header_write(bytes, EN_NO_ID, 0, 1, 0);
    en_command c = {.type = EN_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1, .u.greeting = g};
    en_command_write(body, &c);
    uint32_t n = (uint32_t)en_range_compress(&coder, body, 48, coded, sizeof coded);
    assert(n && n < 30);
    memcpy(body, coded, n);
    bytes[0] |= EN_COMPRESSED >> 8;
    int verdict = take(bytes, 4 + n, &a);
    assert(verdict == TUDP_DROP(TUDP_SHED) || host->totals.unproven_out <= host->totals.unproven_in);
    end();
}

static void addresses_without_proof_have_a_rate(void)
{
    plain();
    begin();
    tudp_sockaddr a = four(FAR, 9);
    en_greeting g = greeting(1, 1);
    client c = asked(&a, 1, 1, 0);
    int limited = 0;
    for (int i = 0; i < 2100; i++)
        limited += hello(&g, 0, &a) == TUDP_DROP(TUDP_LIMITED);
    assert(limited > 50 && ack(&c, 1, c.time) == TUDP_DROP(TUDP_LIMITED));
    now += 100 * (uint64_t)MS;
    assert(hello(&g, 0, &a) == TUDP_ANSWERED);
    limited = 0;
    for (uint32_t i = 0; i < 9000; i++) { /* nor has their prefix without end */
        tudp_sockaddr from = four((FAR & 0xffffff00) + i % 250, (uint16_t)(100 + i / 250));
        limited += hello(&g, 0, &from) == TUDP_DROP(TUDP_LIMITED);
    }
    assert(limited > 500);
    tudp_sockaddr mapped = six(0, 0, 1);
    mapped.in6.sin6_addr.s6_addr[10] = 0xff;
    hello(&g, 0, &mapped);
    end();
}

int main(void)
{
    what_a_config_cannot_mean_is_the_default();
    limits_can_change_and_what_was_agreed_on_stays();
    a_clock_that_steps_back_stands_still();
    prefixes_and_bans_keep_addresses_out();
    rates_are_kept_and_floods_end();
    so_many_malformed_datagrams_and_no_more();
    wrong_sessions_and_hosts_that_take_nobody();
    every_way_to_end_a_connection();
    a_client_gets_a_free_id_while_there_is_one();
    more_timers_than_one_call_takes();
    several_entries_of_one_address();
    late_and_repeated_connects();
    greetings_are_held_within_bounds();
    guesses_at_a_proof();
    memory_short_at_each_step_of_a_proof();
    an_address_with_every_id_taken();
    an_answer_is_never_longer_than_the_question();
    addresses_without_proof_have_a_rate();
    puts("enet host: ok");
    return 0;
}
