/* Replies from upstream: any octets on the port of a question, with or without its id and name. What is kept and
 * given to the client is read back. First octet: 1 puts the id, 2 the question before the rest, 4 lets time pass. */
#define _GNU_SOURCE 1
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "../dns_forward.h"

static uint8_t asked[DNS_FORWARD_QUESTION];
static const uint8_t *given;
static uint32_t given_len;

static int open_port(void *ctx, const tudp_sockaddr *to, uint16_t port, uint32_t number) { return (int)number; }
static void close_port(void *ctx, int fd) {}

static int ready(void *ctx, uint32_t *numbers, int most)
{
    numbers[0] = 0;
    return given != NULL;
}

static int keep(void *ctx, int fd, struct mmsghdr *msgs, unsigned n)
{
    memcpy(asked, msgs[0].msg_hdr.msg_iov->iov_base, msgs[0].msg_hdr.msg_iov->iov_len);
    return (int)n;
}

static int give(void *ctx, int fd, struct mmsghdr *msgs, unsigned n)
{
    if (!given)
        return -EAGAIN;
    memcpy(msgs[0].msg_hdr.msg_iov->iov_base, given, given_len);
    msgs[0].msg_len = given_len;
    given = NULL;
    return 1;
}

static int nothing_random(void *ctx, void *out, size_t len)
{
    static uint8_t next;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = (uint8_t)(next += 37);
    return 0;
}

static uint8_t *room(tudp_turn *turn, uint32_t most)
{
    static uint8_t out[4096];
    return most <= sizeof out ? out : NULL;
}

static int answered(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to,
                    const tudp_local *local)
{
    dns_walk walk;
    dns_record record;
    const uint8_t *out = room(turn, 0);
    int more;
    assert(len <= 1232 && out[2] & 0x80 && out[0] == 'i' && dns_walk_begin(&walk, out, len) == 0);
    while ((more = dns_walk_next(&walk, &record)) == 1)
        ;
    assert(more == 0);
    return 0;
}

static void drain(tudp_turn *turn) {}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const dns_forward_calls calls = {NULL, open_port, close_port, ready, keep, give, nothing_random};
    static const dns_server server = {.key = {{3, 5}}, .udp_max = 1232};
    static const tudp_ops ops = {.room = room, .send = answered, .drain = drain};
    static uint64_t words[TUDP_WORDS];
    static uint8_t packet[] = "id\1\0\0\1\0\0\0\0\0\1\1a\1b\4test\0\0\1\0\1\0\0\x29\4\xd0\0\0\x80\0\0\0";
    static dns_forward *f;
    static tudp_turn turn = {.now = 1, .counters = words, .ops = &ops};
    uint8_t reply[DNS_FORWARD_SLOT];
    dns_query q;
    dns_client client = {.ip_len = 4};
    tudp_slot slot = {.data = packet, .len = sizeof packet - 1};
    size_t n = 0, question = 14;
    tudp_sockaddr to = {.in4 = {.sin_family = AF_INET}};
    if (!f) {
        f = dns_forward_new((const uint8_t *)"\4test", 6, &server, dns_cache_new(65536, 60, &server.key), &calls);
        dns_forward_add(f, &to);
        f->upstream[0].mixed = 1;
        f->upstream[0].cookie_len = 8;
    }
    if (size < 1 || size > 1500)
        return 0;
    f->upstream[0].usable = 1;
    dns_cache_flush_view(f->cache, 0);
    assert(dns_query_parse(packet, slot.len, &server.key, &q) == 0 && dns_forward_takes(f, &q));
    assert(dns_forward_ask(f, &turn, &slot, &client, &q, 0) == TUDP_HELD);
    dns_forward_flush(f, &turn);
    if (data[0] & 1) {
        memcpy(reply, asked, 2);
        n = 2;
    }
    if (data[0] & 2 && size > 11) { /* flags and counts from the input, then the question as it was asked */
        memcpy(reply + n, data + 1, 10);
        memcpy(reply + n + 10, asked + DNS_HEADER, question);
        n += 10 + question;
        data += 10;
        size -= 10;
    }
    memcpy(reply + n, data + 1, size - 1);
    given = reply;
    given_len = (uint32_t)(n + size - 1);
    if (data[0] & 4)
        turn.now += 3000000000u;
    f->ready = 1;
    dns_forward_due(f, &turn);
    while (dns_forward_handed(f))
        ;
    dns_forward_detach(f); /* every run begins with its own port */
    return 0;
}
