/* Last corners of the parsers and of what they stand on: RDATA that grows too long, names of equal hash, names one octet
 * too long, options without octets, counts that are halved. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_list.h"
#include "../dns_writer.h"
#include "../enet_range.h"

static const dns_key key = {{1, 3}};

/* A name in it is told by a pointer; written out, the whole is longer than RDATA can be. */
static void rdata_that_grows_beyond_16_bits_is_refused(void)
{
    static uint8_t msg[66000], out[70000];
    size_t at = 12;
    for (int label = 0; label < 4; label++) {
        msg[at] = label < 3 ? 63 : 61;
        at += msg[at] + 1u;
    }
    at++; /* a name of 255 octets, from 12 on */
    int budget = 9;
    msg[at] = 0xc0, msg[at + 1] = 12;
    int n = dns_rdata_expand(msg, at, 60000, 30, out, sizeof out, &budget); /* NXT: a name, then the rest */
    assert((size_t)n == 255 + (60000 - at - 2));
    budget = 9;
    assert(dns_rdata_expand(msg, at, 65700, 30, out, sizeof out, &budget) == -1); /* no message has so many */
    /* close to the header, so that there is as much behind it as there can be */
    budget = 9;
    memset(msg, 0, 40);
    msg[12] = 1, msg[13] = 'x'; /* three octets for two */
    msg[15] = 0xc0, msg[16] = 12;
    assert(dns_rdata_expand(msg, 15, 65535, 30, NULL, 0, &budget) == 65535 - 15 + 1);
    assert(!strcmp(dns_rdata_layout(14), "nn"));
}

static void a_client_is_given_no_more_than_it_can_take(void)
{
    dns_server server = {.udp_max = 1232};
    dns_query q = {.udp_size = 600};
    dns_client client = {.ip_len = 4, .most = 700};
    assert(dns_reply_limit(&server, &client, &q) == 600);
    client.most = 500;
    assert(dns_reply_limit(&server, &client, &q) == 500);
}

static void a_subnet_that_is_longer_than_any_is_not_given_back(void)
{
    uint8_t msg[600] = {0};
    dns_server server = {.udp_max = 1232, .ecs = 1};
    dns_client client = {.ip_len = 4};
    dns_query q = {.edns = 1, .ecs_at = 100, .ecs_len = 20};
    size_t with = dns_opt_size(&server, &client, &q, NULL);
    q.ecs_len = 21;
    assert(with == 11 + 24 && dns_opt_size(&server, &client, &q, NULL) == 11);
    (void)msg;
}

static void names_of_one_hash_are_compared(void)
{
    uint8_t out[300] = {0};
    static const uint8_t one[] = "\1a\2bc", other[] = "\1x\2bc", third[] = "\2aa\2bc", fourth[] = "\1a\2bd";
    const uint8_t *names[] = {other, third, fourth};
    for (int i = 0; i < 3; i++) {
        dns_writer w, forged;
        memcpy(out + 12, one, sizeof one);
        dns_writer_begin(&w, out, 12 + sizeof one, sizeof out);
        dns_writer_know(&w, out + 12, 12, 0);
        dns_writer_begin(&forged, out, 12 + sizeof one, sizeof out);
        dns_writer_know(&forged, names[i], 12, 0);
        memcpy(w.hash, forged.hash, sizeof w.hash); /* as if what is there hashed like what is written */
        assert(dns_writer_name(&w, names[i], 1) == 0);
        size_t at = 12 + sizeof one, pos = at, len = 0;
        uint8_t got[256];
        int budget = 9;
        assert(dns_name_read(out, w.at, pos, got, &len, &budget) && len == dns_wire_len(names[i]) && !memcmp(got, names[i], len));
    }
    dns_writer w; /* no more names are remembered than there is room for */
    dns_writer_begin(&w, out, 12, sizeof out);
    w.known = DNS_WRITER_NAMES;
    dns_writer_know(&w, one, 12, 0);
    assert(w.known == DNS_WRITER_NAMES);
    w.known = 0;
    dns_writer_know(&w, one, 0x4000, 0); /* nor such as no pointer reaches */
    assert(w.known == 0);
    w.lookups = 0; /* nor looked for without end */
    assert(dns_writer_name(&w, one, 1) == 0);
    static const uint8_t mx[] = "\0";
    assert(dns_writer_record(&w, one, DNS_MX, DNS_IN, 1, mx, 1) == -1); /* shorter than its type */
    assert(dns_writer_record(&w, one, DNS_MX, DNS_IN, 1, (const uint8_t *)"\0\1\77", 3) == -1); /* no name */
    uint16_t relocs[1];
    dns_writer_begin(&w, out, 12, sizeof out);
    w.relocs = relocs, w.max_relocs = 1, w.owner_moves = 1;
    for (int i = 0; i < 3; i++) /* more pointers than there is room to note */
        assert(dns_writer_record(&w, i < 2 ? one : NULL, DNS_A, DNS_IN, 1, (const uint8_t *)"abcd", 4) == 0);
    assert(w.nrelocs == 1);
    while (dns_writer_record(&w, NULL, 300, DNS_IN, 1, (const uint8_t *)"", 0) == 0)
        ;
    for (uint32_t left = 0; left < 12; left++) {
        w.room = w.at + left;
        assert(dns_writer_record(&w, NULL, 300, DNS_IN, 1, (const uint8_t *)"", 0) == -1);
    }
}

/* Lists: every kind of line, on its way and handed back. */
static void lines_of_lists(void)
{
    char text[2000] = "  ads.net  \r\n\tb.net\t\n\x01.net\ncaf\xc3\xa9.net\na\tb.net\n@\n.\n*.w.net\n*x\n*\n#\n   \nlocalhost\n"
                      "@@||ok.net^\n@@ok2.net\n||below.net^\n@@\n||\n^\n@x\n|x\nplain.net\n127.0.0.1 localhost x.net\n\\.net\n";
    for (int i = 0; i < 254; i++) /* one octet more than a name has: 63.63.63.62 */
        text[strlen(text)] = i % 64 == 63 ? '.' : 'e';
    strcat(text, "\n");
    for (int kind = 0; kind < 3; kind++)
        for (size_t cut = 0; cut < 40; cut++) {
            dns_names set[DNS_LIST_SETS] = {0};
            dns_list list = {.rules = dns_rules_new(0, 0, &key), .set = {&set[0], &set[1], &set[2], &set[3]}};
            assert(dns_list_read(&list, kind, (const uint8_t *)text + cut, strlen(text) - cut) == 0);
            assert(list.count > 0);
            for (int i = 0; i < DNS_LIST_SETS; i++) {
                dns_names_seal(&set[i]);
                dns_names_free(&set[i]);
            }
            dns_rules_free(list.rules);
            free(list.left);
        }
    dns_names many = {0}; /* one name so often that its bucket is sorted another way */
    for (uint32_t i = 0; i < 100; i++)
        assert(dns_names_add(&many, 7, 100 - i) == 0);
    assert(dns_names_add(&many, UINT64_MAX, 5) == 0);
    dns_names_seal(&many);
    assert(many.count == 2 && dns_names_find(&many, 7) == 1 && dns_names_find(&many, 8) == 0 && dns_names_find(&many, UINT64_MAX) == 5);
    dns_names_free(&many);
}

/* A letter behind every other: in the root its count is halved, and both sides do it alike. */
static void counts_are_halved_on_both_sides(void)
{
    static en_range model;
    static uint8_t plain[4000], coded[9000], back[4000];
    for (int kind = 0; kind < 6; kind++) {
        for (size_t i = 0; i < sizeof plain; i++)
            plain[i] = i % 2 ? 'a' : (uint8_t)(kind < 3 ? i / 2 * (kind + 1) : i * i / 7 >> kind);
        for (size_t len = 200; len <= sizeof plain; len += 380) {
            size_t n = en_range_compress(&model, plain, len, coded, sizeof coded);
            assert(n && en_range_decompress(&model, coded, n, back, sizeof back) == (long)len && !memcmp(plain, back, len));
            assert(en_range_compress(&model, plain, len, coded, n - 1) == 0); /* no room, at any place */
            for (size_t room = 1; room < n && room < 40; room++)
                assert(en_range_compress(&model, plain, len, coded, room) == 0);
        }
    }
}

int main(void)
{
    rdata_that_grows_beyond_16_bits_is_refused();
    a_client_is_given_no_more_than_it_can_take();
    a_subnet_that_is_longer_than_any_is_not_given_back();
    names_of_one_hash_are_compared();
    lines_of_lists();
    counts_are_halved_on_both_sides();
    puts("parts: ok");
    return 0;
}
