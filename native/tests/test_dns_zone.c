/* Plain C test of the zone image: dns_zone*.c and dns_denial.c. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_zone.h"

static const dns_server server = {.key = {{7, 9}}, .udp_max = 1232};
static const uint8_t soa[] = "\0\0\0\0\0\x5\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\x1e";

static dns_image *build(const char *origin, const char *rows[][2], size_t n)
{
    dns_builder *b = dns_builder_new((const uint8_t *)origin, strlen(origin) + 1, &server.key);
    dns_image *image;
    assert(b && dns_builder_add(b, (const uint8_t *)origin, strlen(origin) + 1, DNS_SOA, 60, soa, 22) == 0);
    for (size_t i = 0; i < n; i++)
        assert(dns_builder_add(b, (const uint8_t *)rows[i][0], strlen(rows[i][0]) + 1, DNS_A, 60,
                               (const uint8_t *)rows[i][1], 4) == 0);
    assert(dns_builder_finish(b, &image) == DNS_BUILD_OK);
    dns_builder_free(b);
    return image;
}

static size_t ask(const dns_zones *zones, const char *name, uint8_t *out, uint16_t *rcode)
{
    uint8_t msg[300] = {0, 1, 0, 0, 0, 1};
    size_t len = strlen(name) + 1;
    memcpy(msg + 12, name, len);
    memcpy(msg + 12 + len, "\0\1\0\1", 4);
    dns_query q;
    dns_client client = {.ip_len = 4};
    assert(dns_query_parse(msg, 16 + len, &server.key, &q) == 0);
    return dns_zones_answer(zones, &server, &client, msg, &q, 0, out, rcode);
}

static void the_longest_zone_answers_and_a_wildcard_moves_its_pointers(void)
{
    const char *outer[][2] = {{"\1*\2ex", "abcd"}, {"\1w\3sub\2ex", "lost"}};
    const char *inner[][2] = {{"\1w\3sub\2ex", "efgh"}};
    dns_image *a = build("\2ex", outer, 2), *b = build("\3sub\2ex", inner, 1);
    dns_zones *zones = dns_zones_new(2, &server.key);
    uint8_t out[1232];
    uint16_t rcode;
    assert(!dns_zones_add(zones, a->origin, a->origin_len, a, 0, 0) && !dns_zones_add(zones, b->origin, b->origin_len, b, 0, 0));
    assert(dns_zones_add(zones, b->origin, b->origin_len, b, 0, 0) < 0 && dns_zones_seal(zones) == 0);
    size_t n = ask(zones, "\1W\3Sub\2eX", out, &rcode);
    assert(rcode == 0 && !memcmp(out + n - 4, "efgh", 4) && out[7] == 1);
    n = ask(zones, "\5hello\2EX", out, &rcode);
    assert(rcode == 0 && !memcmp(out + n - 4, "abcd", 4) && !memcmp(out + 12, "\5hello\2EX", 10));
    n = ask(zones, "\2no\3sub\2ex", out, &rcode);
    assert(rcode == DNS_NXDOMAIN && out[9] == 1 && dns_get16(out + 12 + 11 + 4) == (DNS_POINTER | 15));
    assert(dns_get32(out + 12 + 11 + 4 + 6) == 30);
    assert(ask(zones, "\3org", out, &rcode) == 0);
    dns_zones_free(zones);
    free(a);
    free(b);
}

static void a_name_of_127_labels_is_looked_up_in_seven_steps_or_less(void)
{
    uint8_t deep[256], out[1232];
    uint16_t rcode;
    const char *rows[][2] = {{"\1b\1b\1b\2ex", "abcd"}};
    dns_image *image = build("\2ex", rows, 1);
    dns_zones *zones = dns_zones_new(1, &server.key);
    assert(!dns_zones_add(zones, image->origin, image->origin_len, image, 0, 0) && !dns_zones_seal(zones));
    for (int i = 0; i < 250; i += 2)
        memcpy(deep + i, "\1b", 2);
    memcpy(deep + 250, "\2ex", 4);
    assert(ask(zones, (char *)deep, out, &rcode) && rcode == DNS_NXDOMAIN && out[9] == 1);
    dns_zones_free(zones);
    free(image);
}

static void order_keys_sort_as_rfc_4034_section_6(void)
{
    static const char *names[] = {"\7example", "\1a\7example", "\x8yljkjljk\1a\7example", "\1Z\1a\7example",
                                  "\4zABC\1a\7EXAMPLE", "\1z\7example", "\1\1\1z\7example", "\1*\1z\7example",
                                  "\1\xc8\1z\7example"};
    uint8_t last[512], key[512];
    size_t last_len = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t len = dns_order_key((const uint8_t *)names[i], key), n = len < last_len ? len : last_len;
        int order = memcmp(last, key, n);
        assert(i == 0 || order < 0 || (order == 0 && last_len < len));
        memcpy(last, key, len);
        last_len = len;
    }
}

static void broken_zones_are_refused(void)
{
    dns_image *image;
    dns_builder *b = dns_builder_new((const uint8_t *)"\2ex", 4, &server.key);
    assert(dns_builder_add(b, (const uint8_t *)"\2ex", 4, DNS_A, 1, (const uint8_t *)"abc", 3) == DNS_BUILD_RDATA);
    assert(dns_builder_add(b, (const uint8_t *)"\3org", 5, DNS_A, 1, (const uint8_t *)"abcd", 4) == 1);
    assert(dns_builder_finish(b, &image) == DNS_BUILD_NO_SOA && !image);
    dns_builder_free(b);
    assert(!dns_builder_new((const uint8_t *)"\xc0\x0c", 2, &server.key));
}

int main(void)
{
    the_longest_zone_answers_and_a_wildcard_moves_its_pointers();
    a_name_of_127_labels_is_looked_up_in_seven_steps_or_less();
    order_keys_sort_as_rfc_4034_section_6();
    broken_zones_are_refused();
    puts("dns_zone: ok");
    return 0;
}
