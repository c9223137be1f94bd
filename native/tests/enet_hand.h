/* enet_hand.h: an ENet host to which datagrams are written by hand, command by command, with a turn that can refuse
 * room or sending. For the tests of its edges: each includes it once. */
#ifndef ENET_HAND_H
#define ENET_HAND_H

#include "enet_loose.h"
#include "enet_inside.h"
#include "refuse.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MS = 1000000 };

typedef struct client {
    tudp_sockaddr from;
    uint16_t id, time, number[4];
    uint8_t session, checksum, connect_id[4];
    en_peer *peer;
} client;

static en_host *host;
static en_loose loose;
static en_config config;
static uint64_t now, answers, leaves, messages, joins;
static uint8_t answer[EN_MTU_MOST], data[70000];
static uint32_t answer_len, last_code, last_word;
static en_peer *joined;
static int no_room, no_send;
static const tudp_ops *good;

static inline void out(void *ctx, const uint8_t *bytes, uint32_t len, const tudp_sockaddr *to)
{
    memcpy(answer, bytes, len);
    answer_len = len;
    answers++;
}

static inline uint8_t *room(tudp_turn *turn, uint32_t most)
{
    if (no_room < 0)
        no_room++;
    else if (no_room)
        return NULL;
    return good->room(turn, most);
}
static inline int send_out(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to,
                    const tudp_local *local)
{
    return no_send ? -1 : good->send(turn, len, tail, tail_len, to, local);
}
static inline void drain(tudp_turn *turn) { good->drain(turn); }
static const tudp_ops ops = {.room = room, .send = send_out, .drain = drain};

static inline void events(void)
{
    for (uint32_t i = 0; i < en_event_count(host); i++) {
        en_event *e = en_event_at(host, i);
        messages += e->kind == EN_EVENT_MESSAGE;
        joins += e->kind == EN_EVENT_JOIN;
        if (e->kind == EN_EVENT_JOIN)
            joined = e->peer;
        if (e->kind == EN_EVENT_LEAVE) {
            leaves++;
            last_code = e->code;
            last_word = e->word;
        }
    }
    en_events_done(host);
}

static inline tudp_turn *turn(void) { return en_loose_turn(&loose, now); }

/* A host with `config`, which en_config_default has filled. */
static inline void begin(void)
{
    config.secret[0] = 5;
    config.secret[1] = 6;
    host = en_host_new(&config);
    assert(host);
    en_loose_init(&loose, out, NULL);
    good = loose.turn.ops;
    loose.turn.ops = &ops;
    now = 1000000000000u;
    answers = leaves = messages = joins = 0;
    no_room = no_send = 0;
    en_begin(host, now);
}

static inline void plain(void)
{
    en_config_default(&config);
    config.accept = 1;
}

static inline void end(void)
{
    events();
    en_host_free(host);
}

static inline void pass(uint64_t ms)
{
    for (uint64_t until = now + ms * MS; now < until;) {
        uint64_t due = en_deadline(host);
        now = due > now && due < until ? due : until;
        en_due(host, turn());
        events();
        en_flush(host, turn());
    }
}

static inline tudp_sockaddr four(uint32_t ip, uint16_t port)
{
    tudp_sockaddr a = {.in4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)}};
    return a;
}

static inline tudp_sockaddr six(uint8_t first, uint8_t net, uint8_t last)
{
    tudp_sockaddr a = {.in6 = {.sin6_family = AF_INET6, .sin6_port = htons(7000)}};
    a.in6.sin6_addr.s6_addr[0] = first;
    a.in6.sin6_addr.s6_addr[6] = net;
    a.in6.sin6_addr.s6_addr[15] = last;
    return a;
}

static inline int take(const uint8_t *bytes, uint32_t len, const tudp_sockaddr *from)
{
    int verdict = en_take(host, turn(), bytes, len, from, NULL);
    events();
    en_flush(host, turn());
    return verdict;
}

static inline uint32_t sealed(uint8_t *bytes, uint32_t len, uint32_t header, int checksum, const uint8_t id[4])
{
    return en_seal(host, bytes, header, len, checksum, id, 0);
}

/* CONNECT with `g` changed by the caller before. */
static inline en_greeting greeting(uint16_t peer_id, uint8_t connect_id)
{
    return (en_greeting){.peer_id = peer_id, .incoming_session = 255, .outgoing_session = 255, .mtu = 1392,
                         .window = 65536, .channels = 3, .interval = 5000, .acceleration = 2, .deceleration = 2,
                         .connect_id = {connect_id}};
}

static inline int hello(const en_greeting *g, int checksum, const tudp_sockaddr *from)
{
    static const uint8_t none[4];
    uint8_t bytes[128], *body = en_header_write(bytes, EN_NO_ID, 0, 1, 4096) + (checksum ? 4 : 0);
    en_command c = {.type = EN_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1, .u.greeting = *g};
    uint32_t header = (uint32_t)(body - bytes);
    return take(bytes, sealed(bytes, (uint32_t)(en_command_write(body, &c) - bytes), header, checksum, none), from);
}

/* Datagram of commands from a client; those with a length bring that many octets of `data`. */
static inline uint32_t packed(uint8_t *bytes, const client *c, const en_command *commands, unsigned n, int timed)
{
    uint8_t *at = en_header_write(bytes, c->id, c->session, timed, (uint16_t)(now / MS)) + (c->checksum ? 4 : 0);
    uint32_t header = (uint32_t)(at - bytes);
    for (unsigned i = 0; i < n; i++) {
        at = en_command_write(at, &commands[i]);
        memcpy(at, data, commands[i].length);
        at += commands[i].length;
    }
    return sealed(bytes, (uint32_t)(at - bytes), header, c->checksum, c->connect_id);
}

static inline int say(const client *c, const en_command *commands, unsigned n)
{
    static uint8_t bytes[70000];
    return take(bytes, packed(bytes, c, commands, n, 1), &c->from);
}

static inline int say_one(const client *c, en_command command) { return say(c, &command, 1); }

static inline int ack(const client *c, uint16_t number, uint16_t time)
{
    return say_one(c, (en_command){.type = EN_ACKNOWLEDGE, .channel = EN_CONTROL, .number = number, .u.ack = {number, time}});
}

/* A client is answered, but has not yet proven itself. */
static inline client asked(const tudp_sockaddr *from, uint16_t peer_id, uint8_t connect_id, int checksum)
{
    client c = {.from = *from, .checksum = (uint8_t)checksum, .connect_id = {connect_id}};
    en_greeting g = greeting(peer_id, connect_id);
    assert(hello(&g, checksum, from) == TUDP_ANSWERED);
    uint8_t *body = answer + 4 + (checksum ? 4 : 0);
    c.time = en_get16(answer + 2);
    c.id = en_get16(body + 4);
    c.session = body[7];
    return c;
}

static inline client join(uint32_t ip, uint16_t peer_id, uint8_t connect_id)
{
    tudp_sockaddr from = four(ip, 4000);
    client c = asked(&from, peer_id, connect_id, 0);
    assert(ack(&c, 1, c.time) == TUDP_HELD);
    c.peer = joined;
    return c;
}

#define LOCAL 0x7f000002u
#define FAR 0x0a000001u

static inline en_command reliable(client *c, uint8_t channel, uint32_t len)
{
    return (en_command){.type = EN_SEND_RELIABLE, .flags = EN_FLAG_ACK, .channel = channel,
                        .number = ++c->number[channel], .length = len};
}

#endif
