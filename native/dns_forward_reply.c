/* dns_forward_reply.c: which datagram is the reply (spec 5.3), and which of its records are believed. */
#include "dns_forward_parts.h"
#include "dns_writer.h"

#define REPLY_MOST 8192      /* octets of a reply written anew, its names no longer compressed as they were */
#define HOPS 512

/* A reply on its way from the message that came to the one that is kept. */
typedef struct cleaning {
    dns_forward *f;
    const dns_flight *flight;
    const uint8_t *msg;
    size_t len;
    int budget;
    dns_writer w;
    uint16_t counts[3], rcode;
    uint8_t name[DNS_NAME_MAX + 9]; /* where the chain stands, folded */
    uint8_t next[DNS_NAME_MAX + 9]; /* and where its CNAME points; next_len 0: there is none */
    size_t name_len, next_len;
    uint8_t answered;
} cleaning;

static int inside(const uint8_t *zone, size_t zone_len, const uint8_t *name, size_t len)
{
    while (len > zone_len) {
        size_t step = name[0] + 1u;
        name += step;
        len -= step;
    }
    return len == zone_len && !memcmp(name, zone, zone_len);
}

static int write_record(cleaning *c, const dns_record *r, const uint8_t *owner)
{
    uint8_t rdata[REPLY_MOST];
    int n = dns_rdata_expand(c->msg, r->rdata_at, r->end, r->type, rdata, sizeof rdata, &c->budget);
    if (n < 0 || dns_writer_record(&c->w, owner, r->type, DNS_IN, r->ttl, rdata, (size_t)n) < 0)
        return DNS_HANDED_ODD;
    c->counts[r->section - 1]++;
    return 0;
}

/* RRSIG: the type it signs. */
static uint16_t kind(const cleaning *c, const dns_record *r)
{
    return r->type == DNS_RRSIG && r->end - r->rdata_at >= 2 ? dns_get16(c->msg + r->rdata_at) : r->type;
}

/* The chain of CNAMEs from the question's name, in order, and the records at its end. Anything else is odd. */
static int answer_record(cleaning *c, const dns_record *r, const uint8_t *owner, const uint8_t *folded, size_t len)
{
    uint16_t what = kind(c, r);
    if (c->next_len && len == c->next_len && !memcmp(folded, c->next, len)) {
        memcpy(c->name, c->next, len);
        c->name_len = len;
        c->next_len = 0;
    } else if (len != c->name_len || memcmp(folded, c->name, len)) {
        return DNS_HANDED_ODD;
    }
    if (what == c->flight->qtype) {
        if (c->next_len && what != DNS_CNAME)
            return DNS_HANDED_ODD;
        c->answered = 1;
        return write_record(c, r, owner);
    }
    if (what != DNS_CNAME || c->answered)
        return DNS_HANDED_ODD;
    if (r->type == DNS_CNAME) {
        dns_query target;
        size_t n;
        if (c->next_len || !dns_name_read(c->msg, r->end, r->rdata_at, c->next, &n, &c->budget))
            return DNS_HANDED_ODD;
        dns_query_name(&target, c->next, n, &c->f->server->key);
        memcpy(c->next, target.name, n);
        c->next_len = n;
        target.qtype = c->flight->qtype;
        if (!inside(c->f->zone, c->f->zone_len, target.name, n) ||
            (c->f->listed && c->f->listed(c->f->self, c->flight->view, &target)))
            return DNS_HANDED_ODD;
    }
    return write_record(c, r, owner);
}

/* SOA of a zone that encloses the chain's end, and denials; what else is there is left out. */
static int authority_record(cleaning *c, const dns_record *r, const uint8_t *owner, const uint8_t *folded, size_t len)
{
    uint16_t what = kind(c, r);
    const uint8_t *last = c->next_len ? c->next : c->name;
    if (!inside(c->f->zone, c->f->zone_len, folded, len))
        return 0;
    if (what == DNS_NSEC || what == DNS_NSEC3 ||
        (what == DNS_SOA && inside(folded, len, last, c->next_len ? c->next_len : c->name_len)))
        return write_record(c, r, owner);
    return 0;
}

static void options(cleaning *c, dns_upstream *u, const dns_record *r)
{
    size_t at = r->rdata_at;
    c->rcode |= (uint16_t)(r->ttl >> 24 << 4);
    while (r->end - at >= 4) {
        size_t len = dns_get16(c->msg + at + 2);
        if (len > r->end - at - 4)
            return;
        if (dns_get16(c->msg + at) == DNS_OPT_COOKIE && u->cookie_len && len >= 16 && len <= sizeof u->cookie &&
            !memcmp(c->msg + at + 4, u->cookie, 8)) {
            memcpy(u->cookie, c->msg + at + 4, len);
            u->cookie_len = (uint8_t)len;
        }
        at += 4 + len;
    }
}

/* The reply with what is believed of it, written anew. 0, or why it is the owner's. */
static int clean(cleaning *c, dns_upstream *u)
{
    dns_walk walk;
    dns_record r;
    int more, bad = 0, records = 0;
    uint8_t owner[DNS_NAME_MAX + 1], folded[DNS_NAME_MAX + 1];
    if (dns_walk_begin(&walk, c->msg, c->len) < 0)
        return DNS_HANDED_ODD;
    while (!bad && (more = dns_walk_next(&walk, &r)) == 1) {
        size_t len;
        if (r.section == 3) {
            if (r.type == DNS_OPT)
                options(c, u, &r);
            continue;
        }
        if (++records > DNS_FORWARD_RECORDS || r.klass != DNS_IN ||
            !dns_name_read(c->msg, c->len, r.at, owner, &len, &c->budget))
            return DNS_HANDED_ODD;
        dns_fold(folded, owner, len);
        bad = r.section == 1 ? answer_record(c, &r, owner, folded, len) : authority_record(c, &r, owner, folded, len);
    }
    if (bad || more < 0)
        return DNS_HANDED_ODD;
    return c->rcode == DNS_NOERROR || c->rcode == DNS_NXDOMAIN ? 0 : DNS_HANDED_RCODE;
}

static int judge(dns_forward *f, const dns_flight *flight, const dns_attempt *a, const uint8_t *msg, size_t len,
                 uint8_t *out, size_t *out_len)
{
    uint8_t asked[DNS_NAME_MAX + 5];
    size_t n = flight->name_len, end = DNS_HEADER + n + 4;
    cleaning c = {.f = f, .flight = flight, .msg = msg, .len = len, .budget = HOPS, .rcode = msg[3] & 15};
    if (!dns_get16(msg + 4) && (c.rcode == DNS_FORMERR || c.rcode == DNS_NOTIMP))
        return DNS_HANDED_RCODE;
    dns_forward_letters(flight, a, asked);
    dns_put16(asked + n, flight->qtype);
    dns_put16(asked + n + 2, DNS_IN);
    if (dns_get16(msg + 4) != 1 || len < end || memcmp(msg + DNS_HEADER, asked, n + 4))
        return DNS_HANDED_MISMATCH;
    if (dns_get16(msg + 2) & DNS_TC || len > DNS_UDP_MAX) /* more than we take: it may have come in fragments */
        return DNS_HANDED_TRUNCATED;
    memcpy(c.name, flight->name, n);
    c.name_len = n;
    memset(out, 0, DNS_HEADER);
    memcpy(out + DNS_HEADER, flight->name, n);
    memcpy(out + DNS_HEADER + n, asked + n, 4);
    dns_writer_begin(&c.w, out, end, REPLY_MOST);
    dns_writer_know(&c.w, flight->name, DNS_HEADER, 0);
    int reason = clean(&c, &f->upstream[a->upstream]);
    out[2] = 0x80;
    out[3] = (uint8_t)c.rcode;
    out[5] = 1;
    dns_put16(out + 6, c.counts[0]);
    dns_put16(out + 8, c.counts[1]);
    *out_len = c.w.at;
    return reason;
}

static void measured(dns_forward *f, dns_port *p, unsigned use, uint64_t now)
{
    dns_upstream *u = &f->upstream[p->upstream];
    uint64_t rtt = now - p->sent[use] + 1;
    if (!p->sent[use])
        return;
    p->sent[use] = 0;
    u->answered++;
    u->failures = 0;
    if (!u->rtt) {
        u->rtt = rtt;
        u->variance = rtt / 2;
    } else {
        uint64_t off = u->rtt > rtt ? u->rtt - rtt : rtt - u->rtt;
        u->variance = u->variance - u->variance / 4 + off / 4;
        u->rtt = u->rtt - u->rtt / 8 + rtt / 8;
    }
    u->sample[u->samples++ % DNS_FORWARD_SAMPLES] = (uint32_t)(rtt / 1000 > UINT32_MAX ? UINT32_MAX : rtt / 1000);
}

void dns_forward_came(dns_forward *f, tudp_turn *turn, uint16_t port, const uint8_t *msg, size_t len)
{
    uint8_t out[REPLY_MOST];
    dns_port *p = &f->port[port];
    unsigned use = 0;
    size_t n = 0;
    if (len < DNS_HEADER || !(msg[2] & 0x80)) {
        f->count.ignored++;
        return;
    }
    while (use < p->used && p->id[use] != dns_get16(msg))
        use++;
    if (use == p->used) { /* forged, or a broken server: everybody who waits here asks by TCP as well */
        f->count.ignored++;
        for (unsigned i = 0; i < p->used && p->waiting; i++)
            if (p->flight[i])
                dns_forward_hand(f, p->flight[i], DNS_HANDED_MISMATCH, p->upstream);
        return;
    }
    uint32_t number = p->flight[use];
    if (!number) { /* another server was faster, or its time was over */
        f->count.ignored++;
        measured(f, p, use, turn->now);
        return;
    }
    const dns_flight *flight = &f->flight[number - 1];
    const dns_attempt *a = &flight->attempt[flight->attempts > 1 && flight->attempt[1].port == port &&
                                            flight->attempt[1].use == use];
    int reason = judge(f, flight, a, msg, len, out, &n);
    if (f->tap && reason != DNS_HANDED_MISMATCH)
        dns_tap_upstream(f->tap, &f->upstream[p->upstream].to, msg, len,
                         p->sent[use] ? turn->wall - (turn->now - p->sent[use]) : 0, turn->wall);
    if (reason != DNS_HANDED_MISMATCH)
        measured(f, p, use, turn->now);
    else
        f->count.ignored++;
    if (reason)
        dns_forward_hand(f, number, (uint16_t)reason, p->upstream);
    else
        dns_forward_land(f, turn, number, p->upstream, out, n);
}
