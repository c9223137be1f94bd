/* Zones and questions from one input: build an image of whatever is given, ask it, read every answer back.
 *
 * The input is a row of items: 'R' owner type rdlen rdata adds a record, 'Q' name type
 * asks; names are indexes of labels below the origin, so that they meet. A few names
 * more are asked for a few types each: which, the input says, so that all are in time. */
#include <assert.h>
#include <stdlib.h>

#include "../dns_zone.h"

#define MOST 2048 /* octets of an input: more take longer and show no more */

typedef struct input {
    const uint8_t *at, *end;
} input;

static unsigned take(input *in) { return in->at < in->end ? *in->at++ : 0; }

/* One octet: up to four labels of four kinds, below the origin. */
static size_t take_name(input *in, uint8_t out[DNS_NAME_MAX])
{
    static const uint8_t labels[4][4] = {"\1a", "\2bb", "\1*", "\2Ns"};
    unsigned code = take(in), count = take(in) % 5;
    size_t len = 0;
    for (unsigned i = 0; i < count; i++, code >>= 2) {
        const uint8_t *label = labels[code & 3];
        memcpy(out + len, label, label[0] + 1u);
        len += label[0] + 1u;
    }
    memcpy(out + len, "\2Ex", 4);
    return len + 4;
}

static void ask(const dns_zones *zones, const dns_server *server, const uint8_t *name, size_t len, unsigned type, unsigned how)
{
    static uint8_t out[65535 + 512];
    uint8_t msg[DNS_HEADER + DNS_NAME_MAX + 15] = {0, 1, 0, 0, 0, 1};
    size_t at = DNS_HEADER;
    memcpy(msg + at, name, len);
    at += len;
    dns_put16(msg + at, type);
    dns_put16(msg + at + 2, 1);
    at += 4;
    if (how & 1) {
        msg[11] = 1;
        memcpy(msg + at, "\0\0\x29\4\xd0\0\0\0\0\0\0", 11);
        msg[at + 7] = how & 2 ? 0x80 : 0;
        at += 11;
    }
    dns_query q;
    dns_client client = {.ip_len = 4, .stream = (how >> 2) & 1};
    uint16_t rcode;
    if (dns_query_parse(msg, at, &server->key, &q))
        return;
    size_t n = dns_zones_answer(zones, server, &client, msg, &q, 0, out, &rcode);
    assert(n >= at - (how & 1 ? 11 : 0) && n <= dns_reply_limit(server, &client, &q));
    assert(out[2] & 0x80 && (out[3] & 15) == rcode && !memcmp(out + DNS_HEADER, msg + DNS_HEADER, len + 4));
    dns_walk walk;
    dns_record record;
    assert(dns_walk_begin(&walk, out, n) == 0);
    walk.budget = 1 << 20;
    int more;
    while ((more = dns_walk_next(&walk, &record)) == 1)
        ;
    assert(more == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const dns_server server = {.key = {{3, 5}}, .udp_max = 1232};
    static const uint8_t origin[] = "\2ex";
    static const uint8_t soa[] = "\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1";
    uint8_t name[DNS_NAME_MAX], rdata[256];
    input in = {data, data + (size < MOST ? size : MOST)};
    dns_builder *b = dns_builder_new(origin, sizeof origin, &server.key);
    assert(b && dns_builder_add(b, origin, sizeof origin, DNS_SOA, 60, soa, 22) == 0);
    while (in.at < in.end && take(&in) != 'Q') {
        size_t len = take_name(&in, name), rdlen = 0;
        unsigned type = take(&in), kind = take(&in);
        if (kind & 1) {
            if (type == DNS_MX || type == DNS_HTTPS || type == DNS_SVCB) {
                dns_put16(rdata, kind >> 1 & 3);
                rdlen = 2;
            }
            rdlen += take_name(&in, rdata + rdlen);
            if (type == DNS_NSEC)
                memcpy(rdata + rdlen, "\0\1\x40", 3), rdlen += 3;
        } else {
            for (rdlen = 0; rdlen < kind && in.at < in.end; rdlen++)
                rdata[rdlen] = (uint8_t)take(&in);
        }
        dns_builder_add(b, name, len, (uint16_t)type, kind, rdata, rdlen);
    }
    dns_image *image;
    if (dns_builder_finish(b, &image) == 0) {
        dns_zones *zones = dns_zones_new(1, &server.key);
        assert(dns_zones_add(zones, image->origin, image->origin_len, image, 0, 0) == 0);
        assert(dns_zones_seal(zones) == 0);
        static const uint8_t types[] = {1, 2, 5, 6, 15, 39, 43, 46, 47, 65, 255};
        unsigned first = 0;
        for (size_t i = 0; i < size; i++)
            first = first * 31 + data[i];
        for (unsigned code = first % 16; code < 64; code += 16) {
            uint8_t names[2] = {(uint8_t)(code * 37), (uint8_t)code};
            input at = {names, names + 2};
            size_t len = take_name(&at, name);
            for (unsigned i = first / 16 % 4; i < sizeof types; i += 4)
                ask(zones, &server, name, len, types[i], code + i);
        }
        while (in.at < in.end) {
            size_t len = take_name(&in, name);
            unsigned type = take(&in);
            ask(zones, &server, name, len, type, take(&in));
        }
        dns_zones_free(zones);
        free(image);
    }
    dns_builder_free(b);
    return 0;
}
