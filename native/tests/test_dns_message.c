/* Plain C test of dns_message.c, dns_reply.c and dns_writer.c. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_writer.h"

static const dns_key key = {{1, 3}};

static void folding_touches_ascii_letters_only(void)
{
    uint8_t in[256], out[256];
    for (int i = 0; i < 256; i++)
        in[i] = (uint8_t)i;
    for (size_t n = 0; n <= 256; n++) {
        dns_fold(out, in, n);
        for (size_t i = 0; i < n; i++)
            assert(out[i] == (in[i] >= 'A' && in[i] <= 'Z' ? in[i] + 32 : in[i]));
    }
}

static void siphash_gives_the_published_vector(void)
{
    uint8_t secret[16], data[15];
    for (int i = 0; i < 16; i++)
        secret[i] = (uint8_t)i;
    for (int i = 0; i < 15; i++)
        data[i] = (uint8_t)i;
    assert(dns_siphash(secret, data, 15) == 0xa129ca6149be45e5u);
}

/* Each message is copied to a block of its own length, so that ASan sees one octet too far. */
static int parse(const uint8_t *data, size_t len, dns_query *q)
{
    uint8_t *exact = malloc(len ? len : 1);
    memcpy(exact, data, len);
    int result = dns_query_parse(exact, len, &key, q);
    free(exact);
    return result;
}

static void every_cut_of_a_query_is_refused(void)
{
    static const uint8_t query[] = "\x12\x34\1\0\0\1\0\0\0\0\0\1\3www\7example\0\0\1\0\1"
                                   "\0\0\x29\4\xd0\0\0\x80\0\0\xc\0\xa\0\x8" "abcdefgh";
    dns_query q, other;
    size_t len = sizeof query - 1;
    assert(parse(query, len, &q) == 0 && q.dnssec_ok && q.udp_size == 1232 && q.cookie_len == 8);
    for (size_t n = 0; n < len; n++)
        assert(parse(query, n, &other) == (n < 12 ? DNS_DROP : DNS_FORMERR));
    uint8_t upper[sizeof query];
    memcpy(upper, query, len);
    upper[14] = 'W';
    assert(parse(upper, len, &other) == 0 && other.hash == q.hash);
    dns_query_name(&other, (const uint8_t *)"\7EXAMPLE", 9, &key);
    assert(other.hash == q.hashes[1] && q.labels == 2 && other.labels == 1);
}

static void all_pointer_values_at_each_offset_end(void)
{
    uint8_t msg[64], out[DNS_NAME_MAX];
    for (size_t at = 12; at < 63; at += 3)
        for (unsigned value = 0; value < 65536; value++) {
            memset(msg, 1, sizeof msg);
            dns_put16(msg + at, value);
            int budget = DNS_CLIENT_HOPS;
            size_t len;
            dns_name_read(msg, sizeof msg, at, out, &len, &budget);
        }
}

static void a_writer_that_is_full_leaves_the_message_as_it_was(void)
{
    uint8_t out[64];
    dns_writer w;
    for (size_t room = 12; room < 60; room++) {
        dns_writer_begin(&w, out, 12, room);
        if (dns_writer_record(&w, (const uint8_t *)"\1a\2bc", DNS_MX, 1, 60, (const uint8_t *)"\0\1\1m\2bc", 8) < 0)
            assert(w.at == 12 && w.known == 0);
        else
            assert(w.at == 12 + 6 + 10 + 2 + 4 && w.at <= room);
    }
}

int main(void)
{
    folding_touches_ascii_letters_only();
    siphash_gives_the_published_vector();
    every_cut_of_a_query_is_refused();
    all_pointer_values_at_each_offset_end();
    a_writer_that_is_full_leaves_the_message_as_it_was();
    puts("dns_message: ok");
    return 0;
}
