/* Plain C test of dns_cache.c, dns_policy.c and dns_stage.c. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_stage.h"

static const dns_server server = {.key = {{7, 9}}, .udp_max = 1232};

static size_t question(uint8_t *msg, unsigned number)
{
    static const uint8_t head[] = "\0\1\1\0\0\1\0\0\0\0\0";
    memcpy(msg, head, 12);
    msg[12] = 8;
    snprintf((char *)msg + 13, 9, "%08x", number);
    memcpy(msg + 21, "\4test\0\0\1\0\1", 10);
    return 31;
}

static size_t answer(uint8_t *msg, unsigned number)
{
    size_t n = question(msg, number);
    msg[2] = 0x84;
    msg[7] = 1;
    memcpy(msg + n, "\xc0\x0c\0\1\0\1\0\0\1\0\0\4", 12);
    dns_put32(msg + n + 12, number);
    return n + 16;
}

static int ask(dns_cache *cache, unsigned number, uint64_t now)
{
    uint8_t msg[64], out[1232];
    dns_query q;
    dns_client client = {.ip_len = 4};
    dns_cache_found found;
    assert(dns_query_parse(msg, question(msg, number), &server.key, &q) == 0);
    size_t n = dns_cache_answer(cache, &server, &client, msg, &q, 0, now, 0, 0, out, &found);
    assert(!n || dns_get32(out + n - 4) == number);
    return n != 0;
}

static void keep(dns_cache *cache, unsigned number, uint64_t now)
{
    uint8_t msg[64];
    dns_query q;
    dns_cache_put put = {.now = now};
    question(msg, number);
    assert(dns_query_parse(msg, 31, &server.key, &q) == 0);
    size_t n = answer(msg, number);
    assert(dns_cache_store(cache, &q, msg, n, &put) == DNS_CACHE_STORED);
}

static void strangers_do_not_push_out_what_is_used(void)
{
    dns_cache *cache = dns_cache_new(1 << 20, 60, &server.key);
    unsigned hits = 0, asked = 0;
    for (unsigned i = 0; i < 1000; i++) {
        keep(cache, i, 0);
        ask(cache, i, 0);
    }
    for (unsigned i = 0; i < 40000; i++) {
        keep(cache, 1000000 + i, 1);
        if (i % 4 == 0) {
            unsigned hot = i * 2654435761u % 1000;
            asked++;
            if (ask(cache, hot, 1))
                hits++;
            else
                keep(cache, hot, 1);
        }
    }
    assert(hits * 100 >= asked * 95);
    assert(cache->ring[0].used <= cache->ring[0].size && cache->ring[1].used <= cache->ring[1].size);
    dns_cache_free(cache);
}

static void answers_age_out_to_the_millisecond(void)
{
    dns_cache *cache = dns_cache_new(65536, 0, &server.key);
    keep(cache, 5, 1000);
    assert(ask(cache, 5, 1000 + 255999) && !ask(cache, 5, 1000 + 256000));
    dns_cache_free(cache);
}

static void a_list_of_many_rules_finds_exactly_its_own(void)
{
    dns_rules *rules = dns_rules_new(50000, 50000 * 15, &server.key);
    uint8_t msg[64];
    dns_query q;
    unsigned labels;
    uint16_t list;
    for (unsigned i = 0; i < 50000; i++) {
        question(msg, i * 2);
        assert(dns_rules_add(rules, msg + 12, 15, DNS_RULE_EXACT, DNS_RULE_NXDOMAIN, 1) == 0);
    }
    for (unsigned i = 0; i < 2 * rules->count; i++) {
        assert(dns_query_parse(msg, question(msg, i), &server.key, &q) == 0);
        assert((dns_rules_find(rules, &q, &labels, &list) != 0) == (i % 2 == 0));
    }
    dns_rules_free(rules);
}

static void ranges_are_found_by_halving(void)
{
    dns_range range[3] = {{.value = 1}, {.from = {[15] = 5}, .value = 2}, {.from = {[0] = 9}, .value = 3}};
    uint8_t ip[16] = {0};
    assert(dns_range_find(range, 3, ip) == 1);
    ip[15] = 5;
    assert(dns_range_find(range, 3, ip) == 2);
    ip[0] = 0xff;
    assert(dns_range_find(range, 3, ip) == 3 && dns_range_find(range, 1, ip) == 1);
}

int main(void)
{
    strangers_do_not_push_out_what_is_used();
    answers_age_out_to_the_millisecond();
    a_list_of_many_rules_finds_exactly_its_own();
    ranges_are_found_by_halving();
    puts("dns_cache: ok");
    return 0;
}
