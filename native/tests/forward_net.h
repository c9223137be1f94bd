/* forward_net.h: a forwarder on a network made of memory. For its tests: each includes it once. */
#ifndef FORWARD_NET_H
#define FORWARD_NET_H

#undef NDEBUG
#define _GNU_SOURCE 1
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../dns_forward_parts.h"

#define FDS 16384

/* --- the system ------------------------------------------------------------------- */

static struct {
    uint8_t sent[4096][DNS_FORWARD_QUESTION], reply[DNS_FORWARD_SLOT], answers[DNS_FORWARD_SLOT];
    uint32_t sent_len[4096], number[FDS];
    int sent_fd[4096], opened, closed, error, open_error, sends, no_room;
    uint16_t ports[FDS], upstream[FDS];
    uint32_t sents, reply_len, reply_fd, answered, answer_len, seed, random_error;
    uint64_t words[TUDP_WORDS];
} net;

static inline int net_open(void *ctx, const tudp_sockaddr *to, uint16_t port, uint32_t number)
{
    if (net.error || net.open_error)
        return net.error ? net.error : net.open_error;
    int fd = net.opened++ % FDS; /* ports are replaced often: the first has long been closed when its number comes again */
    net.ports[fd] = port;
    net.number[fd] = number;
    net.upstream[fd] = ntohs(to->in4.sin_port);
    return fd;
}

static inline void net_close(void *ctx, int fd) { net.closed++; }

static inline int net_ready(void *ctx, uint32_t *numbers, int most)
{
    if (!net.reply_len)
        return 0;
    numbers[0] = net.number[net.reply_fd];
    return 1;
}

static inline int net_send(void *ctx, int fd, struct mmsghdr *msgs, unsigned n)
{
    net.sends++;
    if (net.error)
        return net.error;
    for (unsigned i = 0; i < n; i++) {
        struct iovec *iov = msgs[i].msg_hdr.msg_iov;
        memcpy(net.sent[net.sents], iov->iov_base, iov->iov_len);
        net.sent_len[net.sents] = (uint32_t)iov->iov_len;
        net.sent_fd[net.sents++] = fd;
    }
    return (int)n;
}

static inline int net_receive(void *ctx, int fd, struct mmsghdr *msgs, unsigned n)
{
    if (net.error)
        return net.error;
    if (!net.reply_len || (uint32_t)fd != net.reply_fd)
        return -EAGAIN;
    memcpy(msgs[0].msg_hdr.msg_iov->iov_base, net.reply,
           net.reply_len < DNS_FORWARD_SLOT ? net.reply_len : DNS_FORWARD_SLOT);
    msgs[0].msg_len = net.reply_len;
    net.reply_len = 0;
    return 1;
}

static inline int net_random(void *ctx, void *out, size_t len)
{
    uint8_t *p = out;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)((net.seed = net.seed * 1664525u + 1013904223u) >> 24);
    return net.random_error ? -EIO : 0;
}

static const dns_forward_calls calls = {NULL, net_open, net_close, net_ready, net_send, net_receive, net_random};

static inline uint8_t *turn_room(tudp_turn *turn, uint32_t most)
{
    static uint8_t room[DNS_FORWARD_SLOT];
    return net.no_room > 0 && net.no_room-- ? NULL : room;
}

static inline int turn_send(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to,
                     const tudp_local *local)
{
    net.no_room = 0;
    memcpy(net.answers, turn_room(turn, 0), len);
    net.answer_len = len;
    net.answered++;
    return 0;
}

static inline void turn_drain(tudp_turn *turn) {}

static const tudp_ops ops = {.room = turn_room, .send = turn_send, .drain = turn_drain};
static tudp_turn turn = {.now = 1000000000u, .counters = net.words, .ops = &ops};
static const dns_server server = {.key = {{7, 9}}, .udp_max = 1232};

/* --- questions and replies --------------------------------------------------------- */

static inline dns_forward *made(const char *zone, size_t zone_len, int upstreams)
{
    memset(&net, 0, sizeof net);
    turn.now = 1000000000u;
    turn.held = 0;
    dns_cache *cache = dns_cache_new(1 << 20, 60, &server.key);
    dns_forward *f = dns_forward_new((const uint8_t *)zone, zone_len, &server, cache, &calls);
    assert(f);
    for (int i = 0; i < upstreams; i++) {
        tudp_sockaddr to = {.in4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(i + 1))}};
        assert(dns_forward_add(f, &to) == i);
        f->upstream[i].usable = f->upstream[i].mixed = 1;
        f->upstream[i].hedge = 20000000;
    }
    f->policy = DNS_ORDERED;
    return f;
}

static inline void gone(dns_forward *f)
{
    dns_cache *cache = f->cache;
    dns_forward_free(f);
    dns_cache_free(cache);
    assert(net.closed == net.opened);
}

static inline size_t question(uint8_t *msg, unsigned number)
{
    memcpy(msg, "\0\7\1\0\0\1\0\0\0\0\0\0\10", 13);
    snprintf((char *)msg + 13, 9, "%08x", number);
    memcpy(msg + 21, "\4test\0\0\1\0\1", 10);
    return 31;
}

static inline int ask(dns_forward *f, unsigned number)
{
    uint8_t msg[64];
    dns_query q;
    dns_client client = {.ip_len = 4};
    tudp_slot slot = {.data = msg, .len = (uint32_t)question(msg, number)};
    assert(dns_query_parse(msg, slot.len, &server.key, &q) == 0 && dns_forward_takes(f, &q));
    return dns_forward_ask(f, &turn, &slot, &client, &q, 0);
}

/* The reply to what was sent as number `i`: one A record, TTL 60. */
static inline void reply(uint32_t i)
{
    memcpy(net.reply, net.sent[i], 31);
    memcpy(net.reply + 2, "\x81\x80\0\1\0\1\0\0\0\0", 10);
    memcpy(net.reply + 31, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", 16);
    net.reply_len = 47;
    net.reply_fd = (uint32_t)net.sent_fd[i];
}

static inline void arrive(dns_forward *f)
{
    f->ready = 1;
    assert(dns_forward_deadline(f) == 0);
    dns_forward_due(f, &turn);
}

static inline unsigned handed(dns_forward *f, unsigned reason)
{
    unsigned n = 0;
    for (const dns_waiter *w; (w = dns_forward_handed(f)); n++)
        assert(w->reason == reason && w->len == 31);
    return n;
}

/* Question 0 is answered, with other flags, counts, and records behind the question. */
static inline void reply_with(dns_forward *f, const char *flags, const char *counts, const char *records, size_t len)
{
    dns_forward_flush(f, &turn);
    reply(0);
    memcpy(net.reply + 2, flags, 2);
    memcpy(net.reply + 6, counts, 6);
    memcpy(net.reply + 31, records, len);
    net.reply_len = 31 + (uint32_t)len;
    arrive(f);
}

/* One reply of odd contents: what is behind the question, from `at`, replaced. */
static inline unsigned odd(const char *zone, size_t zone_len, const char *flags, const char *counts, const char *records,
                    size_t len)
{
    dns_forward *f = made(zone, zone_len, 1);
    ask(f, 1);
    reply_with(f, flags, counts, records, len);
    const dns_waiter *w = dns_forward_handed(f);
    unsigned reason = w ? w->reason : 0;
    assert((w != NULL) == !net.answered);
    gone(f);
    return reason;
}

#define A "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
#define OTHER "\3foo\0\0\1\0\1\0\0\0\x3c\0\4\6\6\6\6"
#define ALIAS "\xc0\x0c\0\5\0\1\0\0\0\x3c\0\5\3foo\0"
#define ODD(flags, counts, records) odd("", 1, flags, counts, records, sizeof(records) - 1)

#endif
