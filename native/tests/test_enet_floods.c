/* Floods of bad input against a server host, by row of the bad inputs for game servers. The
 * counts are a hundredth of the whole; `test_enet_floods 1` runs the whole. After
 * each flood a client that was there before is answered, and one more can join. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "enet_loose.h"
#include "enet_range.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MS = 1000000, CLIENTS = 100000 };

typedef struct client {
    tudp_sockaddr from;
    uint16_t id, time, number;
    uint8_t session;
} client;

static en_host *host;
static en_loose loose;
static uint64_t now, into, outof, answers;
static uint8_t answer[EN_MTU_MOST];
static uint32_t answer_len, part;
static int joins, leaves, messages;
static uint8_t last_word;

static void out(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to)
{
    (void)ctx, (void)to;
    memcpy(answer, data, len);
    answer_len = len;
    answers++;
    outof += len;
}

static void begin(en_config *config)
{
    en_config made;
    if (!config)
        en_config_default(config = &made);
    config->accept = 1;
    config->secret[0] = 11;
    config->secret[1] = 12;
    host = en_host_new(config);
    assert(host);
    en_loose_init(&loose, out, NULL);
    now = 1000000000000u;
    into = outof = answers = 0;
    joins = leaves = messages = 0;
}

static void events(void)
{
    for (uint32_t i = 0; i < en_event_count(host); i++) {
        en_event *e = en_event_at(host, i);
        joins += e->kind == EN_EVENT_JOIN;
        leaves += e->kind == EN_EVENT_LEAVE;
        messages += e->kind == EN_EVENT_MESSAGE;
        if (e->kind == EN_EVENT_LEAVE)
            last_word = e->word;
    }
    en_events_done(host);
}

static int take(const uint8_t *data, uint32_t len, const tudp_sockaddr *from)
{
    int verdict = en_take(host, en_loose_turn(&loose, now), data, len, from, NULL);
    events();
    en_flush(host, &loose.turn);
    return verdict;
}

static tudp_sockaddr at(uint32_t ip, uint16_t port)
{
    tudp_sockaddr made = {.in4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)}};
    return made;
}

static uint32_t connect_bytes(uint8_t *to, uint16_t id, uint32_t connect_id, int checksum)
{
    uint8_t *body = en_header_write(to, EN_NO_ID, 0, 1, 4096) + (checksum ? 4 : 0);
    en_command c = {.type = EN_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1};
    c.u.greeting = (en_greeting){.peer_id = id, .incoming_session = 255, .outgoing_session = 255, .mtu = 1392,
                                 .window = 65536, .channels = 2, .interval = 5000, .acceleration = 2,
                                 .deceleration = 2};
    en_put32(c.u.greeting.connect_id, connect_id);
    uint8_t *end = en_command_write(body, &c);
    static const uint8_t none[4];
    if (checksum)
        en_put32(to + 4, en_checksum(to, 4, none, body, 48));
    return (uint32_t)(end - to);
}

static uint32_t proof_bytes(uint8_t *to, const client *c)
{
    uint8_t *end = en_header_write(to, c->id, c->session, 1, 1);
    en_command ack = {.type = EN_ACKNOWLEDGE, .channel = EN_CONTROL, .number = 1, .u.ack = {1, c->time}};
    return (uint32_t)(en_command_write(end, &ack) - to);
}

static void join(client *c, uint32_t ip, uint16_t port, uint32_t connect_id)
{
    uint8_t bytes[64];
    int before = joins;
    c->from = at(ip, port);
    c->number = 0;
    take(bytes, connect_bytes(bytes, 3, connect_id, 0), &c->from);
    assert(answer_len == 48);
    c->time = en_get16(answer + 2);
    c->id = en_get16(answer + 8);
    c->session = answer[11];
    take(bytes, proof_bytes(bytes, c), &c->from);
    assert(joins == before + 1);
}

static uint32_t message(uint8_t *to, client *c, uint32_t len)
{
    uint8_t *end = en_header_write(to, c->id, c->session, 1, (uint16_t)(now / MS));
    en_command m = {.type = EN_SEND_RELIABLE, .flags = EN_FLAG_ACK, .number = ++c->number, .length = len};
    end = en_command_write(end, &m);
    memset(end, 'm', len);
    return (uint32_t)(end - to) + len;
}

/* The one who was there before is heard and acknowledged, and another can join. */
static void canary(client *c)
{
    uint8_t bytes[256];
    int heard = messages;
    uint64_t said = answers;
    take(bytes, message(bytes, c, 20), &c->from);
    assert(messages == heard + 1 && answers > said);
    client late;
    join(&late, 0x7f000005, 6000, (uint32_t)now | 1);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* work, not what else the machine does */
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void b1_ten_million_spoofed_connects(void)
{
    uint32_t count = 10000000 / part;
    client c;
    uint8_t bytes[64];
    begin(NULL);
    join(&c, 0x7f000002, 4000, 1);
    uint64_t memory = en_host_memory(host);
    for (uint32_t i = 0; i < count; i++) {
        tudp_sockaddr from = at(0x0a000000u + i, (uint16_t)(1024 + i % 50000));
        now += 1000; /* a million a second */
        en_take(host, en_loose_turn(&loose, now), bytes, connect_bytes(bytes, (uint16_t)(i % EN_NO_ID), i, 0), &from,
                NULL);
        assert(en_event_count(host) == 0);
    }
    assert(en_host_peers(host) == 1 && joins == 1 && en_host_half_open(host) <= 65536);
    assert(en_host_memory(host) == memory);
    canary(&c); /* without a pause: the flood's entries are in the way of nobody */
    en_host_free(host);
}

static void b2_no_more_leaves_than_came(void)
{
    static en_range coder;
    uint8_t bytes[128], coded[128];
    begin(NULL);
    for (uint32_t i = 0; i < 1000000 / part; i++) {
        tudp_sockaddr from = at(0x0a000000u + i % 997, (uint16_t)(1024 + i % 4));
        uint32_t kind = i * 2654435761u >> 29, len = connect_bytes(bytes, (uint16_t)(i / 7 % 4095), i / 3, kind & 1);
        now += 50000;
        if (kind & 2) { /* compressed, as small as it gets */
            size_t n = en_range_compress(&coder, bytes + 4, len - 4, coded, sizeof coded);
            memcpy(bytes + 4, coded, n);
            bytes[0] |= EN_COMPRESSED >> 8;
            len = 4 + (uint32_t)n;
        }
        uint64_t said = answers;
        into += len;
        take(bytes, len, &from);
        if (answers == said || answer[0] & EN_COMPRESSED >> 8 || answer_len < 48)
            continue;
        uint32_t skip = answer_len == 52 ? 4 : 0; /* speak with the id we were given, without the proof */
        client c = {.from = from, .id = en_get16(answer + 8 + skip), .session = answer[11 + skip]};
        len = (uint32_t)(en_header_write(bytes, c.id, c.session, 0, 0) - bytes);
        memcpy(bytes + len, "\x05\xff\0\2\x05\xff", 6);
        into += len + (kind & 4 ? 6 : 4);
        take(bytes, len + (kind & 4 ? 6 : 4), &from);
    }
    assert(outof && outof <= into && joins == 0);
    assert(en_host_totals(host)->unproven_out <= en_host_totals(host)->unproven_in);
    printf("B2: %.3f of what came\n", (double)outof / (double)into);
    en_host_free(host);
}

static void b3_a_million_guesses_at_one_entry(void)
{
    uint8_t bytes[64];
    client c = {.from = at(0x7f000002, 4000)}, right;
    begin(NULL);
    take(bytes, connect_bytes(bytes, 3, 1, 0), &c.from);
    right = c;
    right.id = c.id = en_get16(answer + 8);
    right.session = c.session = answer[11];
    right.time = en_get16(answer + 2);
    for (uint32_t i = 0; i < 1000000 / part; i++) {
        c.time = (uint16_t)(i * 40503u);
        c.id = (uint16_t)(i % 5 ? right.id : i % EN_NO_ID);
        if (c.time == right.time)
            continue;
        take(bytes, proof_bytes(bytes, &c), &c.from);
        assert(en_host_half_open(host) == (i < 15));
    }
    take(bytes, proof_bytes(bytes, &right), &c.from);
    assert(joins == 0 && en_host_peers(host) == 0);
    en_host_free(host);
}

static void b11_a_million_first_fragments(void)
{
    en_config config;
    en_config_default(&config);
    uint8_t bytes[1500];
    client c;
    begin(&config);
    join(&c, 0x7f000002, 4000, 1);
    uint64_t most = 0;
    uint32_t rejoined = 2;
    for (uint32_t i = 0; i < 1000000 / part; i++) {
        int reliable = i & 1;
        now += 10000;
        uint8_t *end = en_header_write(bytes, c.id, c.session, 1, (uint16_t)(now / MS));
        en_command f = {.type = reliable ? EN_SEND_FRAGMENT : EN_SEND_UNRELIABLE_FRAGMENT,
                        .flags = reliable ? EN_FLAG_ACK : 0, .length = 1000,
                        .number = (uint16_t)(reliable ? 1 + i % 20000 : 0),
                        .u.send = {(uint16_t)(1 + i % 20000), 60, 0, 60000, 0}};
        end = en_command_write(end, &f);
        memset(end, 'f', 1000);
        int left = leaves;
        take(bytes, (uint32_t)(end - bytes) + 1000, &c.from);
        most = en_host_memory(host) > most ? en_host_memory(host) : most;
        if (leaves > left) { /* hoarding: it comes back and does it again */
            assert(last_word == EN_HOARDING);
            join(&c, 0x7f000002, 4000, rejoined++);
        }
    }
    assert(messages == 0 && most < config.group_bytes + (64 << 10));
    join(&c, 0x7f000003, 4000, 1);
    canary(&c);
    en_host_free(host);
}

static void b18_a_hundred_thousand_peers_expire_in_one_ms(void)
{
    uint32_t count = CLIENTS / part;
    en_config config;
    en_config_default(&config);
    config.max_peers = CLIENTS + 10;
    config.ping = 5000;
    begin(&config);
    static client c;
    for (uint32_t i = 0; i < count; i++)
        join(&c, 0x7f000002u + i / 60000, (uint16_t)(1024 + i % 60000), 1);
    uint32_t turns = 0;
    double worst = 0;
    while (en_host_peers(host)) {
        uint64_t due = en_deadline(host);
        assert(due != TUDP_NEVER && ++turns < 100000000);
        now = due > now ? due : now + 1;
        double began = seconds();
        en_due(host, en_loose_turn(&loose, now));
        events();
        en_flush(host, &loose.turn);
        double took = seconds() - began;
        worst = took > worst ? took : worst;
    }
    assert(leaves == (int)count);
    printf("B18: %u peers, %u turns, the longest %.1f ms\n", count, turns, worst * 1e3);
    assert(part > 1 || worst < 0.005);
    en_host_free(host);
}

static void b20_a_million_empty_datagrams(void)
{
    client c;
    begin(NULL);
    join(&c, 0x7f000002, 4000, 1);
    for (uint32_t i = 0; i < 1000000 / part; i++)
        assert(take(answer, 0, i & 1 ? &c.from : &(tudp_sockaddr){.in4.sin_family = AF_INET}) ==
               TUDP_DROP(TUDP_MALFORMED));
    canary(&c);
    en_host_free(host);
}

int main(int argc, char **argv)
{
    part = argc > 1 ? (uint32_t)atoi(argv[1]) : 100;
    b1_ten_million_spoofed_connects();
    b2_no_more_leaves_than_came();
    b3_a_million_guesses_at_one_entry();
    b11_a_million_first_fragments();
    b18_a_hundred_thousand_peers_expire_in_one_ms();
    b20_a_million_empty_datagrams();
    return 0;
}
