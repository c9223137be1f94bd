/* dns_message.h: client messages in, replies out; upstream replies in.
 *
 * dns_query_parse is the one parser of client messages: filter, cache, zone
 * image and Python all read its dns_query. Nothing here allocates, reads
 * outside `len` or keeps a pointer. Any thread.
 */
#ifndef DNS_MESSAGE_H
#define DNS_MESSAGE_H

#include "dns_hash.h"

#define DNS_HEADER 12
#define DNS_NAME_MAX 255
#define DNS_LABELS_MAX 127
#define DNS_POINTER 0xc000u
#define DNS_UDP_MAX 1232
#define DNS_CLIENT_HOPS 256
#define DNS_CLIENT_OPTIONS 100

/* dns_query_parse: 0, an RCODE to send (> 0), or one of these. */
#define DNS_DROP (-1)
#define DNS_COOKIE_ONLY (-2) /* no question, but a cookie: NOERROR and a fresh one (RFC 7873 5.4) */

enum { DNS_NOERROR, DNS_FORMERR, DNS_SERVFAIL, DNS_NXDOMAIN, DNS_NOTIMP, DNS_REFUSED, DNS_YXDOMAIN,
       DNS_NOTAUTH = 9, DNS_BADVERS = 16, DNS_BADCOOKIE = 23 };
enum { DNS_QUERY = 0, DNS_NOTIFY = 4, DNS_UPDATE = 5 };
enum { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_SOA = 6, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16,
       DNS_SIG = 24, DNS_AAAA = 28, DNS_SRV = 33, DNS_DNAME = 39, DNS_OPT = 41, DNS_DS = 43,
       DNS_RRSIG = 46, DNS_NSEC = 47, DNS_DNSKEY = 48, DNS_NSEC3 = 50, DNS_NSEC3PARAM = 51,
       DNS_SVCB = 64, DNS_HTTPS = 65, DNS_NXNAME = 128, DNS_TKEY = 249, DNS_TSIG = 250,
       DNS_IXFR = 251, DNS_AXFR = 252, DNS_MAILB = 253, DNS_MAILA = 254, DNS_ANY = 255 };
enum { DNS_IN = 1, DNS_CH = 3, DNS_CLASS_ANY = 255 };
enum { DNS_QR = 0x8000, DNS_AA = 0x0400, DNS_TC = 0x0200, DNS_RD = 0x0100, DNS_RA = 0x0080,
       DNS_AD = 0x0020, DNS_CD = 0x0010 };
enum { DNS_OPT_NSID = 3, DNS_OPT_ECS = 8, DNS_OPT_EXPIRE = 9, DNS_OPT_COOKIE = 10,
       DNS_OPT_KEEPALIVE = 11, DNS_OPT_PADDING = 12, DNS_OPT_EDE = 15 };
enum { DNS_EDE_NONE = 0xffff };
enum { DNS_COOKIE_ABSENT, DNS_COOKIE_CLIENT, DNS_COOKIE_BAD, DNS_COOKIE_GOOD, DNS_COOKIE_RENEW };

typedef struct dns_query {
    uint16_t id, flags;
    uint16_t qtype, qclass;
    uint16_t question_end;   /* offset behind the question; 12: none to echo */
    uint16_t udp_size;       /* as advertised, at least 512; 512 without OPT */
    uint16_t cookie_at, ecs_at, ecs_len; /* places of option data; 0: absent */
    uint16_t tsig_at;        /* place of the TSIG record, 0: none */
    uint16_t work;           /* units of the budget spent */
    uint16_t ede;            /* extended error to send with an RCODE, or DNS_EDE_NONE */
    uint32_t serial;         /* of the SOA in an IXFR or NOTIFY */
    uint8_t opcode;
    uint8_t labels;          /* of the name, root not counted */
    uint8_t name_len;        /* root octet included */
    uint8_t cookie_len, cookie;  /* cookie: DNS_COOKIE_*, judged by dns_cookie_check */
    uint8_t has_serial;
    unsigned edns : 1, dnssec_ok : 1, nsid : 1, expire : 1, keepalive : 1, padding : 1, sig0 : 1;
    uint8_t edns_version;
    uint64_t hash;                        /* of the folded name: hashes[0] */
    uint8_t label_at[DNS_LABELS_MAX + 1]; /* offset of each label in `name`; the root's too */
    uint8_t name[DNS_NAME_MAX + 9];       /* folded; spare octets for 8-byte loads */
    uint64_t hashes[DNS_LABELS_MAX + 1];  /* hash of each suffix, the root last */
} dns_query;

/* What a reply needs to know of this server. Written between turns only. */
typedef struct dns_server {
    dns_key key;             /* of the name hash */
    uint16_t udp_max;        /* never above 4096 */
    uint8_t id_len;          /* NSID and id.server */
    uint8_t secrets;         /* 0: cookies are ignored; secret[0] signs, secret[1] still counts */
    uint8_t ecs;             /* client subnets (RFC 7871) are checked and answered with scope 0; 0: ignored */
    uint8_t id[64];
    uint8_t secret[2][16];
} dns_server;

/* Where a message came from. */
typedef struct dns_client {
    uint8_t ip[16];
    uint8_t ip_len;          /* 4 or 16 */
    uint8_t stream;          /* TCP and the like: no UDP limit */
    uint8_t encrypted;       /* padding is allowed */
    uint16_t idle;           /* stream: idle timeout in 100 ms, for KEEPALIVE; 0: not told */
    uint32_t now;            /* wall clock, seconds, modulo 2^32 */
    uint16_t most;           /* octets of a datagram to it, 0: as it says itself */
    uint16_t port;           /* for the query log */
    uint8_t transport;       /* likewise: 0 UDP, 1 TCP, 2 TLS, 3 HTTPS */
} dns_client;

static inline uint16_t dns_get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t dns_get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline void dns_put16(uint8_t *p, uint32_t v)
{
    uint16_t w = __builtin_bswap16((uint16_t)v);
    memcpy(p, &w, 2);
}
static inline void dns_put32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}

/* Parses a client message (rules M1..M4, N1..N6, Q2..Q15). Returns 0 with a
 * question to answer, an RCODE to send with dns_error_write, DNS_DROP or
 * DNS_COOKIE_ONLY. `q` is filled as far as parsing came; name_len is 0 without
 * a readable question. */
int dns_query_parse(const uint8_t *msg, size_t len, const dns_key *key, dns_query *q);

/* Reads the name at `at`, following pointers (N1..N3), expanded into `out` (255
 * octets, case kept; may be NULL). Takes pointer hops from *budget. Returns the
 * offset behind the name in the message, or 0 if it is not a name. */
size_t dns_name_read(const uint8_t *msg, size_t len, size_t at, uint8_t *out, size_t *out_len, int *budget);

/* Whether `name` is exactly one valid uncompressed name; its labels without the
 * root, or -1. */
int dns_name_check(const uint8_t *name, size_t len);

/* Length of a valid uncompressed name. */
static inline size_t dns_wire_len(const uint8_t *name)
{
    size_t at = 0;
    while (name[at])
        at += (size_t)name[at] + 1;
    return at + 1;
}

/* Fills name, label_at, hashes and hash of `q` from an uncompressed name that
 * dns_name_check accepts. */
void dns_query_name(dns_query *q, const uint8_t *name, size_t len, const dns_key *key);

/* The layout of RDATA by type: 'n' a name that may be compressed, 'N' one that
 * may be read so but is never written so, 'P' one that is never compressed,
 * 's' a character string, '1' '2' '4' 'A'(16) fixed octets, '*' the rest. NULL:
 * opaque. */
const char *dns_rdata_layout(uint16_t type);

/* Copies RDATA at `at`..`end` of a message with its names expanded. Returns the
 * octets written, or -1 when the RDATA is not what its type asks for, or does
 * not fit in `room`. out may be NULL to check only (room ignored). */
int dns_rdata_expand(const uint8_t *msg, size_t at, size_t end, uint16_t type, uint8_t *out,
                     size_t room, int *budget);

/* Whether uncompressed RDATA is what its type asks for. */
static inline int dns_rdata_ok(uint16_t type, const uint8_t *rdata, size_t len)
{
    int no_pointers = 0;
    return dns_rdata_expand(rdata, 0, len, type, NULL, 0, &no_pointers) >= 0;
}

/* Sets q->cookie by the rules of RFC 9018 (constant time). */
void dns_cookie_check(const dns_server *server, const dns_client *client, const uint8_t *msg, dns_query *q);

/* Whether the client subnet of `q` is what RFC 7871 section 6 asks for: 1, or 0. */
int dns_ecs_ok(const uint8_t *msg, const dns_query *q);

/* What OPT carries beyond the answers to the client's own options. */
typedef struct dns_extra {
    uint16_t ede;            /* DNS_EDE_NONE: none */
    uint16_t text_len;       /* of the EDE text */
    const char *text;        /* never a stranger's octets */
    uint32_t expire;
    uint8_t has_expire;
} dns_extra;

/* Octets of the OPT record that dns_reply_finish will append, padding not
 * counted; 0 without EDNS. `extra` may be NULL. */
size_t dns_opt_size(const dns_server *server, const dns_client *client, const dns_query *q,
                    const dns_extra *extra);

/* The largest reply to this client: E2, 7.2. */
static inline size_t dns_reply_limit(const dns_server *server, const dns_client *client, const dns_query *q)
{
    if (client->stream)
        return 65535;
    size_t limit = q->udp_size < server->udp_max ? q->udp_size : server->udp_max;
    return client->most && client->most < limit ? client->most : limit;
}

/* Finishes a reply whose question and sections stand at out[12..at): writes the
 * header (QR, opcode and RD are set here) and appends OPT. The caller left
 * dns_opt_size free; encrypted streams have 65,535 octets and get padding. Returns the
 * whole length. counts: answer, authority, additional without OPT. */
size_t dns_reply_finish(uint8_t *out, size_t at, const dns_server *server, const dns_client *client,
                        const uint8_t *msg, const dns_query *q, uint16_t flags, uint16_t rcode,
                        const uint16_t counts[3], const dns_extra *extra);

/* A reply without records: an error, a refusal, an empty answer, TC. Echoes the
 * question if one was read. Needs at most 271 octets + dns_opt_size. */
size_t dns_error_write(uint8_t *out, const dns_server *server, const dns_client *client, const uint8_t *msg,
                       const dns_query *q, uint16_t flags, uint16_t rcode, const dns_extra *extra);

/* One record of a message, places only. */
typedef struct dns_record {
    uint32_t at, rdata_at, end;
    uint32_t ttl;
    uint16_t type, klass;
    uint8_t section;         /* 1 answer, 2 authority, 3 additional */
} dns_record;

/* Walks a reply from upstream or a transfer message. */
typedef struct dns_walk {
    const uint8_t *msg;
    size_t len, at;
    int budget;              /* hops left: 256 and 4 per record (M1) */
    uint16_t left[3];
    uint8_t section;
} dns_walk;

/* Begins behind the question, of which there is at most one. Returns 0, or -1
 * for a message to ignore. */
int dns_walk_begin(dns_walk *walk, const uint8_t *msg, size_t len);
/* The next record, fully checked (RDATA too). 1; 0 at the end; -1 malformed. */
int dns_walk_next(dns_walk *walk, dns_record *record);

#endif
