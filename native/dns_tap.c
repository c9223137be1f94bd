/* dns_tap.c: see dns_tap.h. */
#include "dns_tap.h"

#define HEAD 128 /* octets of a message in front of the query, at most */

/* The wire types of protobuf. */
enum { VARINT = 0, OCTETS = 2, FIXED32 = 5 };

static uint8_t *number(uint8_t *p, uint64_t value)
{
    for (; value > 127; value >>= 7)
        *p++ = (uint8_t)(value | 128);
    *p++ = (uint8_t)value;
    return p;
}

static uint8_t *field(uint8_t *p, unsigned id, uint64_t value)
{
    return number(number(p, id << 3 | VARINT), value);
}

static uint8_t *octets(uint8_t *p, unsigned id, const uint8_t *data, size_t len)
{
    p = number(number(p, id << 3 | OCTETS), len);
    memcpy(p, data, len);
    return p + len;
}

/* A moment: whole seconds in one field, the rest in the next. */
static uint8_t *moment(uint8_t *p, unsigned id, uint64_t ns)
{
    uint32_t rest = (uint32_t)(ns % 1000000000u);
    p = field(p, id, ns / 1000000000u);
    p = number(p, (id + 1) << 3 | FIXED32);
    for (int i = 0; i < 4; i++)
        *p++ = (uint8_t)(rest >> 8 * i);
    return p;
}

void dns_tap_name(dns_tap *t, const uint8_t *identity, size_t identity_len, const uint8_t *version, size_t version_len)
{
    uint8_t *p = t->named;
    if (identity_len)
        p = octets(p, 1, identity, identity_len > 64 ? 64 : identity_len);
    if (version_len)
        p = octets(p, 2, version, version_len > 64 ? 64 : version_len);
    t->named_len = (uint32_t)(p - t->named);
}

/* `len` octets at `at`, which may go on at the ring's begin. */
static uint64_t put(dns_tap *t, uint64_t at, const uint8_t *data, size_t len)
{
    size_t from = (size_t)(at & t->mask), first = t->mask + 1u - from;
    if (!len)
        return at;
    if (first > len)
        first = len;
    memcpy(t->octets + from, data, first);
    memcpy(t->octets, data + first, len - first);
    return at + len;
}

void dns_tap_write(dns_tap *t, const dns_tap_message *m)
{
    uint8_t fields[HEAD], said[40], head[16 + DNS_TAP_NAMED], *p = fields, *s = said, *h = head + 4;
    p = field(p, 1, m->type);
    if (m->ip_len || m->to_len)
        p = field(p, 2, (m->ip_len ? m->ip_len : m->to_len) == 4 ? 1 : 2);
    p = field(p, 3, m->transport + 1u);
    if (m->ip_len)
        p = octets(p, 4, m->ip, m->ip_len);
    if (m->to_len)
        p = octets(p, 5, m->to, m->to_len);
    if (m->port)
        p = field(p, 6, m->port);
    if (m->to_port)
        p = field(p, 7, m->to_port);
    if (m->asked)
        p = moment(p, 8, m->asked);
    if (m->query)
        p = number(number(p, 10 << 3 | OCTETS), m->query_len);
    if (m->said)
        s = moment(s, 12, m->said);
    if (m->reply)
        s = number(number(s, 14 << 3 | OCTETS), m->reply_len);

    size_t query = m->query ? m->query_len : 0, reply = m->reply ? m->reply_len : 0;
    size_t body = (size_t)(p - fields) + query + (size_t)(s - said) + reply;
    memcpy(h, t->named, t->named_len);
    h = number(number(h + t->named_len, 14 << 3 | OCTETS), body);
    size_t whole = (size_t)(h - head) + body + 2;
    if (whole > t->mask + 1u - (t->head - __atomic_load_n(&t->tail, __ATOMIC_ACQUIRE))) {
        __atomic_fetch_add(&t->lost, 1, __ATOMIC_RELAXED);
        return;
    }
    dns_put32(head, (uint32_t)whole - 4);
    uint64_t at = put(t, t->head, head, (size_t)(h - head));
    at = put(t, at, fields, (size_t)(p - fields));
    at = put(t, at, m->query, query);
    at = put(t, at, said, (size_t)(s - said));
    at = put(t, at, m->reply, reply);
    at = put(t, at, (const uint8_t[]){15 << 3 | VARINT, 1}, 2); /* type: MESSAGE */
    __atomic_store_n(&t->head, at, __ATOMIC_RELEASE);
}

void dns_tap_answer(dns_tap *t, const dns_client *client, const uint8_t *query, size_t query_len, const uint8_t *reply,
                    size_t reply_len, uint64_t asked, uint64_t said)
{
    if (!dns_tap_chosen(t))
        return;
    dns_tap_message m = {.ip = client->ip, .ip_len = client->ip_len, .port = client->port,
                         .transport = client->transport, .asked = asked, .query = query, .query_len = query_len};
    m.type = reply_len > 3 && reply[3] & 0x80 ? DNS_TAP_CLIENT_QUERY : DNS_TAP_AUTH_QUERY;
    dns_tap_write(t, &m);
    m.type++;
    m.said = said;
    m.query = NULL;
    m.reply = reply;
    m.reply_len = reply_len;
    dns_tap_write(t, &m);
}

void dns_tap_upstream(dns_tap *t, const tudp_sockaddr *upstream, const uint8_t *msg, size_t len, uint64_t asked,
                      uint64_t said)
{
    if (!dns_tap_chosen(t))
        return;
    dns_tap_message m = {.type = DNS_TAP_FORWARDER_QUERY, .asked = asked, .said = said};
    if (upstream->sa.sa_family == AF_INET6) {
        m.to = (const uint8_t *)&upstream->in6.sin6_addr;
        m.to_len = 16;
    } else {
        m.to = (const uint8_t *)&upstream->in4.sin_addr;
        m.to_len = 4;
    }
    m.to_port = ntohs(upstream->in4.sin_port);
    if (said) {
        m.type++;
        m.reply = msg;
        m.reply_len = len;
    } else {
        m.query = msg;
        m.query_len = len;
    }
    dns_tap_write(t, &m);
}

void dns_tap_take(dns_tap *t, uint8_t *out, size_t n)
{
    size_t from = (size_t)(t->tail & t->mask), first = t->mask + 1u - from;
    if (first > n)
        first = n;
    memcpy(out, t->octets + from, first);
    memcpy(out + first, t->octets, n - first);
    __atomic_store_n(&t->tail, t->tail + n, __ATOMIC_RELEASE);
}
