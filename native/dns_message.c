/* dns_message.c: the parser of client messages, names and RDATA layouts. */
#include "dns_message.h"

size_t dns_name_read(const uint8_t *msg, size_t len, size_t at, uint8_t *out, size_t *out_len, int *budget)
{
    size_t total = 0, behind = 0, run = at;
    for (;;) {
        if (at >= len)
            return 0;
        uint8_t n = msg[at];
        if (n >= 0xc0) {
            if (len - at < 2 || --*budget < 0)
                return 0;
            size_t target = dns_get16(msg + at) & 0x3fff;
            if (target < DNS_HEADER || target >= run)
                return 0;
            if (!behind)
                behind = at + 2;
            run = at = target;
            continue;
        }
        if (n > 63 || (size_t)n + 1 > len - at || (size_t)n + 1 > DNS_NAME_MAX - total)
            return 0;
        if (out)
            memcpy(out + total, msg + at, (size_t)n + 1);
        total += (size_t)n + 1;
        at += (size_t)n + 1;
        if (!n)
            break; /* at most 127 labels before it: each takes two of 254 octets or more */
    }
    if (out_len)
        *out_len = total;
    return behind ? behind : at;
}

int dns_name_check(const uint8_t *name, size_t len)
{
    size_t at = 0;
    int labels = 0;
    if (len > DNS_NAME_MAX)
        return -1;
    while (at < len) {
        uint8_t n = name[at];
        if (!n)
            return at + 1 == len ? labels : -1;
        if (n > 63)
            return -1;
        at += (size_t)n + 1;
        labels++;
    }
    return -1;
}

static void hash_name(dns_query *q, const dns_key *key)
{
    uint64_t h = key->k[0];
    q->hashes[q->labels] = h;
    for (int i = q->labels - 1; i >= 0; i--)
        q->hashes[i] = h = dns_hash_label(h, q->name + q->label_at[i], key);
    q->hash = h;
}

/* Reads the question name (N4: no pointer). Returns the offset behind it or 0. */
static size_t read_question(const uint8_t *msg, size_t len, dns_query *q)
{
    size_t at = DNS_HEADER;
    unsigned labels = 0;
    size_t end = len - at < DNS_NAME_MAX ? len : at + DNS_NAME_MAX;
    for (;;) {
        if (at >= end)
            return 0;
        uint8_t n = msg[at];
        if (n > 63)
            return 0;
        q->label_at[labels] = (uint8_t)(at - DNS_HEADER);
        if (!n)
            break;
        if (n >= end - at)
            return 0;
        labels++;
        at += (size_t)n + 1;
    }
    at++;
    q->labels = (uint8_t)labels;
    q->name_len = (uint8_t)(at - DNS_HEADER);
    dns_fold(q->name, msg + DNS_HEADER, q->name_len);
    memset(q->name + q->name_len, 0, 8);
    return at;
}

void dns_query_name(dns_query *q, const uint8_t *name, size_t len, const dns_key *key)
{
    unsigned labels = 0;
    size_t at = 0;
    while (name[at]) {
        q->label_at[labels++] = (uint8_t)at;
        at += (size_t)name[at] + 1;
    }
    q->label_at[labels] = (uint8_t)at;
    q->labels = (uint8_t)labels;
    q->name_len = (uint8_t)len;
    dns_fold(q->name, name, len);
    memset(q->name + len, 0, 8);
    hash_name(q, key);
}

/* Reads the options of OPT. Returns 0, or -1 for FORMERR. */
static int read_options(const uint8_t *msg, size_t at, size_t end, dns_query *q)
{
    int options = DNS_CLIENT_OPTIONS;
    unsigned cookie_seen = 0, ecs_seen = 0;
    while (at < end) {
        if (end - at < 4 || --options < 0)
            return -1;
        uint16_t code = dns_get16(msg + at), n = dns_get16(msg + at + 2);
        at += 4;
        if (n > end - at)
            return -1;
        q->work++;
        switch (code) {
        case DNS_OPT_NSID:
            q->nsid = 1;
            break;
        case DNS_OPT_ECS:
            if (!ecs_seen) {
                ecs_seen = 1;
                q->ecs_at = (uint16_t)at;
                q->ecs_len = n;
            }
            break;
        case DNS_OPT_EXPIRE:
            q->expire = 1;
            break;
        case DNS_OPT_COOKIE:
            if (cookie_seen)
                break;
            if (n != 8 && (n < 16 || n > 40))
                return -1;
            cookie_seen = 1;
            q->cookie_at = (uint16_t)at;
            q->cookie_len = (uint8_t)n;
            q->cookie = n == 8 ? DNS_COOKIE_CLIENT : DNS_COOKIE_BAD;
            break;
        case DNS_OPT_KEEPALIVE:
            q->keepalive = 1;
            break;
        case DNS_OPT_PADDING:
            q->padding = 1;
            break;
        default:
            break;
        }
        at += n;
    }
    return 0;
}

typedef struct rr_place {
    size_t name_at, name_len, rdata, end;
    uint16_t type, klass;
    uint32_t ttl;
} rr_place;

/* One record of a client message; its owner is left in `owner`. */
static size_t read_record(const uint8_t *msg, size_t len, size_t at, rr_place *rr, uint8_t owner[DNS_NAME_MAX],
                          int *budget)
{
    rr->name_at = at;
    at = dns_name_read(msg, len, at, owner, &rr->name_len, budget);
    if (!at || len - at < 10)
        return 0;
    rr->type = dns_get16(msg + at);
    rr->klass = dns_get16(msg + at + 2);
    rr->ttl = dns_get32(msg + at + 4);
    uint16_t rdlen = dns_get16(msg + at + 8);
    at += 10;
    if (rdlen > len - at)
        return 0;
    rr->rdata = at;
    rr->end = at + rdlen;
    return rr->end;
}

/* OPT, TSIG or SIG(0) in the additional section. Returns 0 or -1. */
static int read_additional(const uint8_t *msg, const rr_place *rr, const uint8_t *owner, int last, dns_query *q)
{
    if (rr->type == DNS_OPT) {
        if (q->edns || owner[0] != 0) {
            q->edns = 1; /* the error says so in an OPT of its own */
            return -1;
        }
        uint16_t size = rr->klass;
        q->edns = 1;
        q->udp_size = size < 512 ? 512 : size;
        q->edns_version = (uint8_t)(rr->ttl >> 16);
        q->dnssec_ok = (rr->ttl >> 15) & 1;
        return read_options(msg, rr->rdata, rr->end, q);
    }
    if (!last)
        return -1;
    if (rr->type == DNS_TSIG && rr->klass == DNS_CLASS_ANY && rr->ttl == 0) {
        q->tsig_at = (uint16_t)rr->name_at;
        return 0;
    }
    if (rr->type == DNS_SIG && rr->end - rr->rdata >= 18 && dns_get16(msg + rr->rdata) == 0) {
        q->sig0 = 1;
        return 0;
    }
    return -1;
}

/* The records behind the question, Q7..Q11. Returns 0 or DNS_FORMERR. */
static int read_sections(const uint8_t *msg, size_t len, size_t at, dns_query *q, const uint16_t counts[3])
{
    uint8_t owner[DNS_NAME_MAX];
    int budget = DNS_CLIENT_HOPS, bad = 0;
    rr_place rr;
    unsigned total = (unsigned)counts[0] + counts[1] + counts[2];
    unsigned before = (unsigned)counts[0] + counts[1];
    if (q->opcode == DNS_QUERY && (counts[0] || counts[1] > (q->qtype == DNS_IXFR)))
        bad = 1;
    if (q->opcode == DNS_NOTIFY && (counts[0] > 1 || counts[1]))
        bad = 1;
    if (q->opcode != DNS_UPDATE && counts[2] > 2)
        bad = 1;
    if (total > (len - at) / 11)
        return DNS_FORMERR;
    /* A count that is wrong still lets OPT be read, so that the error carries one (E1). */
    for (unsigned i = 0; i < total; i++) {
        at = read_record(msg, len, at, &rr, owner, &budget);
        if (!at)
            return DNS_FORMERR;
        if (i < before) {
            if (rr.type == DNS_OPT || rr.type == DNS_TSIG) {
                q->edns |= rr.type == DNS_OPT;
                return DNS_FORMERR;
            }
            if (q->opcode == DNS_UPDATE)
                continue;
            uint8_t rdata[2 * DNS_NAME_MAX + 20];
            int n = rr.type == DNS_SOA
                        ? dns_rdata_expand(msg, rr.rdata, rr.end, DNS_SOA, rdata, sizeof rdata, &budget)
                        : -1;
            if (n < 20)
                return DNS_FORMERR;
            q->serial = dns_get32(rdata + n - 20);
            q->has_serial = 1;
        } else if (q->opcode == DNS_UPDATE && rr.type != DNS_OPT && rr.type != DNS_TSIG) {
            continue;
        } else if (read_additional(msg, &rr, owner, i + 1 == total, q) < 0) {
            return DNS_FORMERR;
        }
    }
    q->work = (uint16_t)(q->work + DNS_CLIENT_HOPS - budget);
    return bad || at != len ? DNS_FORMERR : 0;
}

static int chaos_name(const dns_query *q)
{
    static const uint8_t server[] = "\2id\6server", bind[] = "\10hostname\4bind";
    return (q->name_len == sizeof server && !memcmp(q->name, server, sizeof server)) ||
           (q->name_len == sizeof bind && !memcmp(q->name, bind, sizeof bind));
}

/* Version, class and type: Q12..Q14. */
static int judge_question(dns_query *q)
{
    if (q->edns && q->edns_version > 0)
        return DNS_BADVERS;
    if (q->opcode == DNS_UPDATE)
        return DNS_REFUSED;
    if (q->qclass != DNS_IN)
        return q->qclass == DNS_CH && q->qtype == DNS_TXT && q->opcode == DNS_QUERY && chaos_name(q) ? 0
                                                                                                    : DNS_REFUSED;
    switch (q->qtype) {
    case DNS_NXNAME:
        q->ede = 30;
        /* fall through */
    case 0:
    case DNS_OPT:
    case DNS_TKEY:
    case DNS_TSIG:
        return DNS_FORMERR;
    case DNS_MAILB:
    case DNS_MAILA:
        return DNS_NOTIMP;
    default:
        return 0;
    }
}

int dns_query_parse(const uint8_t *msg, size_t len, const dns_key *key, dns_query *q)
{
    memset(q, 0, offsetof(dns_query, hash));
    q->question_end = DNS_HEADER;
    q->udp_size = 512;
    q->ede = DNS_EDE_NONE;
    if (len < DNS_HEADER || len > 65535 || msg[2] & 0x80)
        return DNS_DROP;
    q->id = dns_get16(msg);
    q->flags = dns_get16(msg + 2);
    q->opcode = (msg[2] >> 3) & 15;
    if (q->opcode != DNS_QUERY && q->opcode != DNS_NOTIFY && q->opcode != DNS_UPDATE)
        return DNS_NOTIMP;
    const uint16_t counts[3] = {dns_get16(msg + 6), dns_get16(msg + 8), dns_get16(msg + 10)};
    uint16_t questions = dns_get16(msg + 4);
    if (questions != 1) {
        if (questions || q->opcode != DNS_QUERY || counts[0] || counts[1] || counts[2] != 1)
            return DNS_FORMERR;
        int bad = read_sections(msg, len, DNS_HEADER, q, counts);
        if (bad || !q->cookie_at)
            return DNS_FORMERR;
        return q->edns_version ? DNS_BADVERS : DNS_COOKIE_ONLY;
    }
    size_t at = read_question(msg, len, q);
    if (!at || len - at < 4) {
        q->name_len = q->labels = 0;
        return DNS_FORMERR;
    }
    q->qtype = dns_get16(msg + at);
    q->qclass = dns_get16(msg + at + 2);
    at += 4;
    q->question_end = (uint16_t)at;
    if (counts[0] | counts[1] | counts[2]) {
        int bad = read_sections(msg, len, at, q, counts);
        if (bad)
            return bad;
    } else if (at != len) {
        return DNS_FORMERR;
    }
    int rcode = judge_question(q);
    if (!rcode)
        hash_name(q, key);
    return rcode;
}

const char *dns_rdata_layout(uint16_t type)
{
    switch (type) {
    case 1: return "4";
    case 2: case 3: case 4: case 5: case 7: case 8: case 9: case 12: return "n";
    case 6: return "nn44444";
    case 13: return "ss";            /* HINFO */
    case 14: return "nn";            /* MINFO */
    case 15: return "2n";            /* MX */
    case 17: return "NN";            /* RP */
    case 18: case 21: return "2N";   /* AFSDB, RT */
    case 24: return "2114442N*";     /* SIG */
    case 26: return "2NN";           /* PX */
    case 28: return "A";
    case 30: return "N*";            /* NXT */
    case 33: return "222N";          /* SRV */
    case 35: return "22sssN";        /* NAPTR */
    case 36: return "2P";            /* KX */
    case 39: return "P";             /* DNAME */
    case 46: return "2114442P*";     /* RRSIG */
    case 47: return "P*";            /* NSEC */
    case 64: case 65: return "2P*";  /* SVCB, HTTPS */
    case 107: return "2P";           /* LP */
    default: return NULL;
    }
}

int dns_rdata_expand(const uint8_t *msg, size_t at, size_t end, uint16_t type, uint8_t *out,
                     size_t room, int *budget)
{
    const char *step = dns_rdata_layout(type);
    uint8_t name[DNS_NAME_MAX];
    size_t total = 0;
    if (!step)
        step = "*";
    for (; *step; step++) {
        const uint8_t *from = msg + at;
        size_t n, behind;
        switch (*step) {
        case 'n': case 'N': case 'P':
            /* Bounded by `end`, not `len`: a name may not run past its RDATA. */
            behind = dns_name_read(msg, end, at, name, &n, budget);
            if (!behind || (*step == 'P' && behind - at != n))
                return -1;
            from = name;
            break;
        case 's':
            if (at >= end)
                return -1;
            n = (size_t)msg[at] + 1;
            behind = at + n;
            break;
        case '*': n = end - at; behind = end; break;
        case 'A': n = 16; behind = at + 16; break;
        default: n = (size_t)(*step - '0'); behind = at + n; break;
        }
        if (behind > end)
            return -1;
        if (out) {
            if (n > room - total)
                return -1;
            memcpy(out + total, from, n);
        }
        total += n;
        at = behind;
    }
    return at == end && total <= 65535 ? (int)total : -1;
}
