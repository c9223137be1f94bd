/* zone_hand.h: zones made of rows with dotted names, and questions to them. For the tests of zones: each includes it once. */
#ifndef ZONE_HAND_H
#define ZONE_HAND_H

#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_zone.h"

typedef struct row {
    const char *owner; /* dotted */
    unsigned type, len; /* len 0: rdata is a dotted name, or with 'a' in front of it a name behind two octets */
    const char *rdata;
} row;

static dns_server server = {.key = {{7, 9}}, .udp_max = 1232, .secrets = 0};
static const uint8_t soa[] = "\0\0\0\0\0\5\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\x1e";

/* A dotted name on the wire; its length. */
static inline size_t wire(const char *dotted, uint8_t *out)
{
    size_t at = 0, label = 0;
    while (*dotted) {
        label = at++;
        while (*dotted && *dotted != '.')
            out[at++] = (uint8_t)*dotted++;
        dotted += *dotted == '.';
        out[label] = (uint8_t)(at - label - 1);
    }
    out[at] = 0;
    return at + 1;
}

static inline int add_row(dns_builder *b, const char *owner, unsigned type, const void *rdata, size_t len)
{
    uint8_t name[256];
    return dns_builder_add(b, name, wire(owner, name), (uint16_t)type, 60, rdata, len);
}

/* RRSIG of a type, of the shape of one. */
static inline int add_sig(dns_builder *b, const char *owner, unsigned type)
{
    uint8_t sig[] = "\0\0\10\2\0\0\0\x3c\0\0\0\1\0\0\0\1\0\1\0signature";
    dns_put16(sig, type);
    return add_row(b, owner, DNS_RRSIG, sig, sizeof sig - 1);
}

/* Each row, and where `signing` a signature for it, but for NS below the apex. */
static inline dns_image *zone_of(const char *origin, const row *rows, size_t n, int signing)
{
    uint8_t name[256];
    dns_image *image;
    dns_builder *b = dns_builder_new(name, wire(origin, name), &server.key);
    assert(b && !add_row(b, origin, DNS_SOA, soa, 22) && (!signing || !add_sig(b, origin, DNS_SOA)));
    for (size_t i = 0; i < n; i++) {
        uint8_t rdata[256];
        size_t len = rows[i].len;
        if (len)
            memcpy(rdata, rows[i].rdata, len);
        else
            len = wire(rows[i].rdata, rdata);
        assert(!add_row(b, rows[i].owner, rows[i].type, rdata, len));
        if (signing && (rows[i].type != DNS_NS || !strcmp(rows[i].owner, origin)))
            assert(!add_sig(b, rows[i].owner, rows[i].type));
    }
    assert(dns_builder_finish(b, &image) == DNS_BUILD_OK);
    dns_builder_free(b);
    return image;
}

static inline dns_zones *set_of(dns_image *const *images, unsigned n)
{
    dns_zones *zones = dns_zones_new(n, &server.key);
    for (unsigned i = 0; i < n; i++)
        assert(!dns_zones_add(zones, images[i]->origin, images[i]->origin_len, images[i], 0, 0));
    assert(!dns_zones_seal(zones));
    return zones;
}

enum { PLAIN = 0, EDNS = 1, DO = 3, STREAM = 4, EXPIRE = 8, SMALL = 16 };

static uint8_t out[65535 + 512];
static uint16_t rcode;

static inline size_t ask(const dns_zones *zones, const char *name, unsigned type, int how)
{
    uint8_t msg[400] = {0, 1, 0, 0, 0, 1};
    size_t len = wire(name, msg + 12), at = 16 + len;
    dns_put16(msg + 12 + len, type);
    msg[at - 1] = 1;
    if (how & EDNS) {
        msg[11] = 1;
        memcpy(msg + at, "\0\0\x29\x4\xd0\0\0\0\0\0\0", 11);
        msg[at + 7] = (how & DO) == DO ? 0x80 : 0;
        if (how & SMALL)
            dns_put16(msg + at + 3, 512);
        if (how & EXPIRE) {
            memcpy(msg + at + 10, "\4\0\x09\0\0", 5);
            at += 4;
        }
        at += 11;
    }
    dns_query q;
    dns_client client = {.ip_len = 4, .stream = (how & STREAM) != 0};
    assert(dns_query_parse(msg, at, &server.key, &q) == 0);
    return dns_zones_answer(zones, &server, &client, msg, &q, 0, out, &rcode);
}

/* How many records of a type a section (1..3) of the last answer has. */
static inline unsigned count(size_t n, unsigned section, unsigned type)
{
    dns_walk walk;
    dns_record r;
    unsigned found = 0;
    assert(n && dns_walk_begin(&walk, out, n) == 0);
    walk.budget = 1 << 20;
    while (dns_walk_next(&walk, &r) == 1)
        found += r.section == section && r.type == type;
    return found;
}

#endif
