/* dns_reply.c: header, OPT and cookies of replies; the walk over upstream messages. */
#include "dns_message.h"

#define COOKIE_LIFE 3600
#define COOKIE_RENEW 1800
#define COOKIE_AHEAD 300
#define COOKIE_REPLY 24 /* client part 8, server part 16 */

static uint64_t cookie_hash(const uint8_t secret[16], const uint8_t *client_part, const uint8_t head[8],
                            const dns_client *client)
{
    uint8_t input[32];
    memcpy(input, client_part, 8);
    memcpy(input + 8, head, 8);
    memcpy(input + 16, client->ip, client->ip_len == 16 ? 16 : 4);
    return dns_siphash(secret, input, client->ip_len == 16 ? 32 : 20);
}

void dns_cookie_check(const dns_server *server, const dns_client *client, const uint8_t *msg, dns_query *q)
{
    const uint8_t *cookie = msg + q->cookie_at;
    if (q->cookie_len != COOKIE_REPLY || cookie[8] != 1)
        return;
    uint32_t made = dns_get32(cookie + 12);
    int32_t age = (int32_t)(client->now - made);
    if (age > COOKIE_LIFE || age < -COOKIE_AHEAD)
        return;
    uint64_t found;
    memcpy(&found, cookie + 16, 8);
    for (int i = 0; i < server->secrets; i++) {
        uint64_t want = cookie_hash(server->secret[i], cookie, cookie + 8, client);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        want = __builtin_bswap64(want);
#endif
        if ((found ^ want) == 0) /* one word: constant time */
            q->cookie = i > 0 || age > COOKIE_RENEW ? DNS_COOKIE_RENEW : DNS_COOKIE_GOOD;
    }
}

static void cookie_write(uint8_t *out, const dns_server *server, const dns_client *client, const uint8_t *msg,
                         const dns_query *q)
{
    dns_put16(out, DNS_OPT_COOKIE);
    dns_put16(out + 2, COOKIE_REPLY);
    if (q->cookie == DNS_COOKIE_GOOD) {
        memcpy(out + 4, msg + q->cookie_at, COOKIE_REPLY);
        return;
    }
    memcpy(out + 4, msg + q->cookie_at, 8);
    memcpy(out + 12, "\1\0\0\0", 4);
    dns_put32(out + 16, client->now);
    uint64_t mac = cookie_hash(server->secret[0], out + 4, out + 12, client);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    mac = __builtin_bswap64(mac);
#endif
    memcpy(out + 20, &mac, 8);
}

int dns_ecs_ok(const uint8_t *msg, const dns_query *q)
{
    const uint8_t *data = msg + q->ecs_at;
    if (q->ecs_len < 4)
        return 0;
    unsigned family = dns_get16(data), source = data[2], octets = (source + 7u) / 8;
    unsigned most = family == 1 ? 32 : family == 2 ? 128 : 0;
    if (source > most || data[3] || q->ecs_len != 4 + octets)
        return 0;
    return !(source & 7) || !(data[3 + octets] & (0xffu >> (source & 7)));
}

static int ecs_back(const dns_server *server, const dns_query *q)
{
    return server->ecs && q->ecs_at && q->ecs_len <= 20;
}

size_t dns_opt_size(const dns_server *server, const dns_client *client, const dns_query *q, const dns_extra *extra)
{
    if (!q->edns)
        return 0;
    size_t n = 11;
    if (q->cookie_at && server->secrets)
        n += 4 + COOKIE_REPLY;
    if (q->nsid && server->id_len)
        n += 4u + server->id_len;
    if (ecs_back(server, q))
        n += 4u + q->ecs_len;
    if (q->keepalive && client->stream && client->idle)
        n += 6;
    if (extra) {
        if (extra->ede != DNS_EDE_NONE)
            n += 6u + extra->text_len;
        if (extra->has_expire && q->expire)
            n += 8;
    }
    return n;
}

static uint8_t *option(uint8_t *p, uint16_t code, const void *data, size_t len)
{
    dns_put16(p, code);
    dns_put16(p + 2, (uint32_t)len);
    if (len) /* not reached: 0, no option of ours is empty */
        memcpy(p + 4, data, len);
    return p + 4 + len;
}

static size_t opt_write(uint8_t *out, size_t at, const dns_server *server, const dns_client *client,
                        const uint8_t *msg, const dns_query *q, uint16_t rcode, const dns_extra *extra)
{
    uint8_t *start = out + at, *p = start + 11;
    start[0] = 0;
    dns_put16(start + 1, DNS_OPT);
    dns_put16(start + 3, server->udp_max);
    dns_put32(start + 5, (uint32_t)(rcode >> 4) << 24 | (uint32_t)q->dnssec_ok << 15);
    if (q->cookie_at && server->secrets) {
        cookie_write(p, server, client, msg, q);
        p += 4 + COOKIE_REPLY;
    }
    if (q->nsid && server->id_len)
        p = option(p, DNS_OPT_NSID, server->id, server->id_len);
    if (ecs_back(server, q))
        p = option(p, DNS_OPT_ECS, msg + q->ecs_at, q->ecs_len); /* a good one has scope 0 */
    if (q->keepalive && client->stream && client->idle) {
        uint8_t idle[2];
        dns_put16(idle, client->idle);
        p = option(p, DNS_OPT_KEEPALIVE, idle, 2);
    }
    if (extra && extra->has_expire && q->expire) {
        uint8_t expire[4];
        dns_put32(expire, extra->expire);
        p = option(p, DNS_OPT_EXPIRE, expire, 4);
    }
    if (extra && extra->ede != DNS_EDE_NONE) {
        dns_put16(p, DNS_OPT_EDE);
        dns_put16(p + 2, 2u + extra->text_len);
        dns_put16(p + 4, extra->ede);
        if (extra->text_len)
            memcpy(p + 6, extra->text, extra->text_len);
        p += 6 + extra->text_len;
    }
    if (q->padding && client->encrypted) {
        size_t whole = (size_t)(p - out) + 4;
        size_t pad = (whole + 467) / 468 * 468 - whole;
        if (whole + pad <= 65535) {
            dns_put16(p, DNS_OPT_PADDING);
            dns_put16(p + 2, (uint32_t)pad);
            memset(p + 4, 0, pad);
            p += 4 + pad;
        }
    }
    dns_put16(start + 9, (uint32_t)(p - start) - 11);
    return (size_t)(p - out);
}

size_t dns_reply_finish(uint8_t *out, size_t at, const dns_server *server, const dns_client *client,
                        const uint8_t *msg, const dns_query *q, uint16_t flags, uint16_t rcode,
                        const uint16_t counts[3], const dns_extra *extra)
{
    uint32_t copied = q->opcode == DNS_QUERY ? q->flags & DNS_RD : 0;
    dns_put16(out, q->id);
    dns_put16(out + 2, DNS_QR | (uint32_t)q->opcode << 11 | copied | flags | (rcode & 15u));
    dns_put16(out + 4, at > DNS_HEADER);
    dns_put16(out + 6, counts[0]);
    dns_put16(out + 8, counts[1]);
    dns_put16(out + 10, counts[2] + (uint32_t)q->edns);
    if (!q->edns)
        return at;
    return opt_write(out, at, server, client, msg, q, rcode, extra);
}

size_t dns_error_write(uint8_t *out, const dns_server *server, const dns_client *client, const uint8_t *msg,
                       const dns_query *q, uint16_t flags, uint16_t rcode, const dns_extra *extra)
{
    static const uint16_t none[3] = {0, 0, 0};
    if (q->opcode != DNS_QUERY && q->opcode != DNS_NOTIFY && q->opcode != DNS_UPDATE) {
        memset(out, 0, DNS_HEADER);
        dns_put16(out, q->id);
        dns_put16(out + 2, DNS_QR | (uint32_t)q->opcode << 11 | (rcode & 15u));
        return DNS_HEADER;
    }
    memcpy(out + DNS_HEADER, msg + DNS_HEADER, q->question_end - (size_t)DNS_HEADER);
    return dns_reply_finish(out, q->question_end, server, client, msg, q, flags, rcode, none, extra);
}

int dns_walk_begin(dns_walk *walk, const uint8_t *msg, size_t len)
{
    if (len < DNS_HEADER || len > 65535)
        return -1;
    walk->msg = msg;
    walk->len = len;
    walk->at = DNS_HEADER;
    walk->budget = DNS_CLIENT_HOPS;
    walk->section = 0;
    uint16_t questions = dns_get16(msg + 4);
    unsigned total = 0;
    for (int i = 0; i < 3; i++)
        total += walk->left[i] = dns_get16(msg + 6 + 2 * i);
    if (questions > 1 || total > (len - DNS_HEADER) / 11)
        return -1;
    if (questions) {
        size_t at = dns_name_read(msg, len, DNS_HEADER, NULL, NULL, &walk->budget);
        if (!at || len - at < 4)
            return -1;
        walk->at = at + 4;
    }
    return 0;
}

int dns_walk_next(dns_walk *walk, dns_record *record)
{
    while (walk->section < 3 && !walk->left[walk->section])
        walk->section++;
    if (walk->section == 3)
        return walk->at == walk->len ? 0 : -1;
    walk->left[walk->section]--;
    walk->budget += 4;
    const uint8_t *msg = walk->msg;
    size_t at = dns_name_read(msg, walk->len, walk->at, NULL, NULL, &walk->budget);
    if (!at || walk->len - at < 10)
        return -1;
    record->at = (uint32_t)walk->at;
    record->type = dns_get16(msg + at);
    record->klass = dns_get16(msg + at + 2);
    record->ttl = dns_get32(msg + at + 4);
    uint16_t rdlen = dns_get16(msg + at + 8);
    at += 10;
    if (rdlen > walk->len - at)
        return -1;
    record->rdata_at = (uint32_t)at;
    record->end = (uint32_t)(at + rdlen);
    record->section = (uint8_t)(walk->section + 1);
    if (record->type != DNS_OPT &&
        dns_rdata_expand(msg, at, at + rdlen, record->type, NULL, 0, &walk->budget) < 0)
        return -1;
    walk->at = at + rdlen;
    return 1;
}
