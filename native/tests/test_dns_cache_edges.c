/* The cache at its edges: what is not kept, how long, keys that hash alike, rings that come round, forgetting; and the
 * rules and limits of replies that stand beside it. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_policy.h"
#include "../dns_stage.h"

static dns_server server = {.key = {{0x1234567, 0x9e3779b97f4a7c15u}}, .udp_max = 1232};
static uint8_t msg[70000], out[70000];
static dns_query q;
static dns_cache_found found;

/* A question for `name` (wire form, `len` octets) into msg; its length. `flags`: DNS_CD; dnssec: with OPT and DO. */
static size_t question(const char *name, size_t len, unsigned type, unsigned flags, int dnssec)
{
    memset(msg, 0, 12);
    dns_put16(msg + 2, DNS_RD | flags);
    msg[5] = 1;
    memcpy(msg + 12, name, len);
    dns_put16(msg + 12 + len, type);
    dns_put16(msg + 14 + len, DNS_IN);
    size_t at = 16 + len;
    if (dnssec) {
        msg[11] = 1;
        memcpy(msg + at, "\0\0\x29\x10\0\0\0\x80\0\0\0", 11);
        at += 11;
    }
    assert(dns_query_parse(msg, at, &server.key, &q) == 0);
    return at;
}

#define NAME "\3www\2ex"
#define ASKED(type, flags, dnssec) question(NAME, sizeof NAME, type, flags, dnssec)

/* Keeps a reply made of these flags, counts and records. */
static int keep(dns_cache *cache, unsigned type, unsigned flags, const char *counts, const void *records, size_t len,
                const dns_cache_put *put)
{
    ASKED(type, 0, 0);
    dns_put16(msg + 2, 0x8000 | flags);
    memcpy(msg + 6, counts, 6);
    memcpy(msg + q.question_end, records, len);
    return dns_cache_store(cache, &q, msg, q.question_end + len, put);
}

#define KEEP(type, flags, counts, records, put) keep(cache, type, flags, counts, records, sizeof(records) - 1, put)
#define A "\xc0\x0c\0\1\0\1\0\0\0\x64\0\4\1\2\3\4"
#define SOA "\xc0\x10\0\6\0\1\0\0\0\x64\0\x16\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\x32"
#define OPT "\0\0\x29\4\xd0\0\0\0\0\0\0"

static size_t ask(dns_cache *cache, unsigned type, unsigned flags, int dnssec, uint64_t now, int how, const dns_client *client)
{
    dns_client plain = {.ip_len = 4};
    ASKED(type, flags, dnssec);
    return dns_cache_answer(cache, &server, client ? client : &plain, msg, &q, 0, now, how, DNS_RA, out, &found);
}

static void what_is_not_kept_says_why(void)
{
    dns_cache *cache = dns_cache_new(1 << 20, 60, &server.key);
    dns_cache_put put = {.now = 1000};
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &put) == DNS_CACHE_STORED);
    assert(KEEP(DNS_A, DNS_TC, "\0\1\0\0\0\0", A, &put) == DNS_CACHE_TRUNCATED);
    assert(KEEP(DNS_A, 0, "\0\2\0\0\0\0", A, &put) == DNS_CACHE_MALFORMED);
    assert(KEEP(DNS_A, 0, "\0\0\0\0\0\0", "", &put) == DNS_CACHE_TTL);
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\2", A OPT "\0\0\1\0\1\0\0\0\1\0\4\1\2\3\4", &put) == DNS_CACHE_MALFORMED);
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\1", A "\0\0\xfa\0\xff\0\0\0\0\0\0", &put) == DNS_CACHE_MALFORMED);
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\1", A OPT, &put) == DNS_CACHE_STORED);
    ASKED(DNS_A, 0, 0); /* not a reply to it: another count of questions, name, type, class */
    dns_query asked = q;
    msg[2] = 0x80;
    size_t end = q.question_end;
    memcpy(msg + end, A, 16);
    msg[7] = 1;
    msg[5] = 0;
    assert(dns_cache_store(cache, &asked, msg, end + 16, &put) == DNS_CACHE_MALFORMED);
    msg[5] = 1;
    static const uint8_t spoiled[] = {12, 13, 20, 22};
    for (int i = 0; i < 4; i++) {
        msg[spoiled[i]] ^= 1;
        assert(dns_cache_store(cache, &asked, msg, end + 16, &put) == DNS_CACHE_MALFORMED);
        msg[spoiled[i]] ^= 1;
    }
    msg[12] = 0xc0;
    assert(dns_cache_store(cache, &asked, msg, end + 16, &put) == DNS_CACHE_MALFORMED);
    msg[12] = 3;
    assert(dns_cache_store(cache, &asked, msg, 5, &put) == DNS_CACHE_MALFORMED);
    /* too many records; records beyond 64 KiB; more octets than an entry has */
    ASKED(DNS_A, 0, 0);
    msg[2] = 0x80;
    dns_put16(msg + 6, 401);
    for (int i = 0; i < 401; i++)
        memcpy(msg + q.question_end + i * 16, A, 16);
    assert(dns_cache_store(cache, &q, msg, q.question_end + 401 * 16, &put) == DNS_CACHE_SIZE);
    dns_put16(msg + 6, 2);
    memcpy(msg + q.question_end, "\xc0\x0c\x01\x2c\0\1\0\0\0\x64\xff\x00", 12);
    memcpy(msg + q.question_end + 12 + 0xff00, A, 16);
    assert(dns_cache_store(cache, &q, msg, q.question_end + 12 + 0xff00 + 16, &put) == DNS_CACHE_SIZE);
    ASKED(300, 0, 0);
    msg[2] = 0x80;
    msg[7] = 1;
    memcpy(msg + q.question_end, "\xc0\x0c\x01\x2c\0\1\0\0\0\x64\x50\x00", 12);
    assert(dns_cache_store(cache, &q, msg, q.question_end + 12 + 0x5000, &put) == DNS_CACHE_SIZE);
    assert(cache->count.refused >= 15);
    dns_cache_free(cache);
    dns_cache_free(NULL);
}

static void lives_are_as_long_as_their_records_say(void)
{
    dns_cache *cache = dns_cache_new(1 << 20, 60, &server.key);
    dns_cache_put put = {.now = 1000}, most = {.now = 1000, .most = 5}, least = {.now = 1000, .least = 7}, wide = {.now = 1000, .most = 5000};
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &most) == 0 && ask(cache, DNS_A, 0, 0, 5999, 0, NULL));
    assert(!ask(cache, DNS_A, 0, 0, 6001, 0, NULL) && found.state == DNS_CACHE_STALE);
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &wide) == 0 && ask(cache, DNS_A, 0, 0, 100999, 0, NULL));
    assert(KEEP(DNS_TXT, 0, "\0\0\0\0\0\0", "", &least) == 0 && ask(cache, DNS_TXT, 0, 0, 7999, 0, NULL));
    assert(KEEP(DNS_MX, 3, "\0\0\0\1\0\0", SOA, &put) == 0 && ask(cache, DNS_MX, 0, 0, 50999, 0, NULL) && found.rcode == 3);
    assert(!ask(cache, DNS_MX, 0, 0, 51001, 0, NULL));
    /* of a SOA the lower of both times; no more than an hour */
#define LONG_SOA "\xc0\x10\0\6\0\1\0\1\0\0\0\x16\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\2\0\0"
    assert(KEEP(DNS_SRV, 3, "\0\0\0\1\0\0", LONG_SOA, &put) == 0 && ask(cache, DNS_SRV, 0, 0, 3600999, 0, NULL));
    assert(!ask(cache, DNS_SRV, 0, 0, 3601001, 0, NULL));
    assert(KEEP(DNS_AAAA, 0, "\0\1\0\0\0\0", A, &put) == DNS_CACHE_TTL); /* not what was asked for, and no SOA */
    assert(KEEP(DNS_AAAA, DNS_YXDOMAIN, "\0\1\0\0\0\0", A, &put) == 0 && KEEP(DNS_AAAA, DNS_YXDOMAIN, "\0\0\0\0\0\0", "", &put) == DNS_CACHE_TTL);
    assert(KEEP(DNS_ANY, 0, "\0\1\0\0\0\0", A, &put) == 0);
    assert(KEEP(DNS_A, 3, "\0\1\0\1\0\0", A SOA, &put) == 0); /* the end of a chain is not there */
    assert(KEEP(DNS_A, 0, "\0\1\0\1\0\0", A "\xc0\x10\0\2\0\1\0\0\0\x64\0\4\1n\xc0\x10", &put) == 0); /* a record of authority */
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\0", "\xc0\x0c\0\1\0\1\x7f\0\0\0\0\4\1\2\3\4", &put) == 0); /* years: a day */
    assert(ask(cache, DNS_A, 0, 0, 86400999, 0, NULL) && !ask(cache, DNS_A, 0, 0, 86401001, 0, NULL));
    assert(ask(cache, DNS_A, 0, 0, 86401001, DNS_CACHE_SERVE_STALE, NULL) && found.state == DNS_CACHE_STALE && cache->count.stale == 1);
    dns_cache_put bogus = {.now = 1000, .bogus = 1}, fixed = {.now = 1000, .fixed = 1}, secure = {.now = 1000, .secure = 1};
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &bogus) == 0 && !ask(cache, DNS_A, 0, 0, 102000, DNS_CACHE_SERVE_STALE, NULL) && !found.state);
    assert(KEEP(DNS_A, DNS_AA, "\0\1\0\0\0\0", A, &fixed) == 0 && ask(cache, DNS_A, 0, 0, 50000, 0, NULL) && out[2] & 4);
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &fixed) == 0 && ask(cache, DNS_A, 0, 0, 50000, 0, NULL) && !(out[2] & 4));
    assert(KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &secure) == 0 && ask(cache, DNS_A, 0, 0, 50000, 0, NULL) && !(out[3] & DNS_AD));
    assert(ask(cache, DNS_A, DNS_AD, 0, 50000, 0, NULL) && out[3] & DNS_AD);
    ASKED(DNS_A, 0, 1); /* to who wants signatures it is another answer */
    dns_query asked = q;
    assert(!ask(cache, DNS_A, 0, 1, 50000, 0, NULL) && !ask(cache, DNS_A, DNS_CD, 0, 50000, 0, NULL));
    KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &secure);
    assert(dns_cache_store(cache, &asked, msg, q.question_end + 16, &secure) == 0 && ask(cache, DNS_A, 0, 1, 50000, 0, NULL) && out[3] & DNS_AD);
    /* refresh: asked twice, near its end, once */
    put.now = 200000;
    KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &put);
    for (int i = 0; i < 300; i++)
        assert(ask(cache, DNS_A, 0, 0, 200000, 0, NULL) && !found.prefetch);
    assert(ask(cache, DNS_A, 0, 0, 295000, 0, NULL) && found.prefetch && ask(cache, DNS_A, 0, 0, 295000, 0, NULL) && !found.prefetch);
    assert(ask(cache, DNS_A, 0, 0, 199000, 0, NULL)); /* a clock that stood back */
    assert(ask(cache, DNS_A, 0, 0, 290000, DNS_CACHE_JUST_STORED, NULL));
    KEEP(DNS_A, 0, "\0\1\0\0\0\0", "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\1\2\3\4", &put); /* too short a life to refresh */
    for (int i = 0; i < 3; i++)
        assert(ask(cache, DNS_A, 0, 0, 204900, 0, NULL) && !found.prefetch);
    dns_cache_free(cache);
}

static void failures_double_and_good_answers_stand(void)
{
    dns_cache *cache = dns_cache_new(1 << 20, 60, &server.key);
    dns_cache_put put = {.now = 1000}, bogus = {.now = 1000, .bogus = 1};
    KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &put);
    assert(KEEP(DNS_A, DNS_SERVFAIL, "\0\0\0\0\0\0", "", &put) == DNS_CACHE_KEPT);
    ASKED(DNS_A, 0, 0);
    assert(dns_cache_fail(cache, &q, &bogus) == DNS_CACHE_STORED); /* what is forged is not served, however old the good one */
    uint32_t last = 0;
    for (int i = 0; i < 1100; i++) {
        ASKED(DNS_A, 0, 0);
        assert(dns_cache_fail(cache, &q, &put) == DNS_CACHE_STORED);
        assert(ask(cache, DNS_A, 0, 0, put.now, 0, NULL) && found.rcode == DNS_SERVFAIL && found.failures >= last && found.failures <= 1000);
        last = found.failures;
    }
    assert(last == 1000);
    put.now += 1000000000; /* long ago: it begins anew */
    ASKED(DNS_A, 0, 0);
    dns_cache_fail(cache, &q, &put);
    assert(ask(cache, DNS_A, 0, 0, put.now, 0, NULL) && found.failures == 1);
    assert(ask(cache, DNS_A, 0, 1, put.now, 0, NULL) == 0);
    KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &put);
    put.now += 500000; /* a good one whose time is over, staleness and all */
    ASKED(DNS_A, 0, 0);
    assert(dns_cache_fail(cache, &q, &put) == DNS_CACHE_STORED);
    KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &put);
    dns_cache_flush_view(cache, 0); /* and one of a generation before */
    ASKED(DNS_A, 0, 0);
    assert(dns_cache_fail(cache, &q, &put) == DNS_CACHE_STORED);
    dns_cache_free(cache);
}

static void names_that_hash_alike_are_told_apart(void)
{
    dns_key was = server.key;
    server.key = (dns_key){{0, 0}}; /* everything hashes alike */
    dns_cache *cache = dns_cache_new(1 << 20, 60, &server.key);
    dns_cache_put put = {.now = 1000};
    KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &put);
    static const struct { const char *name; size_t len; unsigned type, flags; int dnssec; uint16_t view; } rows[] = {
        {"\3wwx\2ex", 8, DNS_A, 0, 0, 0}, {"\4wwww\2ex", 9, DNS_A, 0, 0, 0}, {NAME, 8, DNS_TXT, 0, 0, 0},
        {NAME, 8, DNS_A, DNS_CD, 0, 0}, {NAME, 8, DNS_A, 0, 1, 0}, {NAME, 8, DNS_A, 0, 0, 2}};
    dns_client client = {.ip_len = 4};
    for (int i = 0; i < 6; i++) {
        question(rows[i].name, rows[i].len, rows[i].type, rows[i].flags, rows[i].dnssec);
        assert(!dns_cache_answer(cache, &server, &client, msg, &q, rows[i].view, 1000, 0, 0, out, &found));
        dns_cache_expect(cache, &q, rows[i].view);
        dns_cache_fetch(cache, &q, rows[i].view);
    }
    assert(ask(cache, DNS_A, 0, 0, 1000, 0, NULL) && cache->count.collisions >= 4);
    for (int i = 0; i < 40; i++) { /* more than a set has places: the unused go first, then any */
        char name[] = "\3h00\2ex";
        name[2] = (char)('0' + i / 10), name[3] = (char)('0' + i % 10);
        question(name, sizeof name, DNS_A, 0, 0);
        msg[2] = 0x80, msg[7] = 1;
        memcpy(msg + q.question_end, A, 16);
        assert(dns_cache_store(cache, &q, msg, q.question_end + 16, &put) == 0);
        if (i < 20) {
            question(name, sizeof name, DNS_A, 0, 0);
            assert(dns_cache_answer(cache, &server, &client, msg, &q, 0, 1000, 0, 0, out, &found));
        }
    }
    assert(cache->entries == 8 && cache->count.evicted > 30);
    dns_cache_free(cache);
    dns_rules *rules = dns_rules_new(4, 40, &server.key);
    unsigned labels;
    uint16_t list;
    assert(dns_rules_add(rules, (const uint8_t *)"\1a", 3, DNS_RULE_EXACT, DNS_RULE_NXDOMAIN, 1) == 0);
    assert(dns_rules_add(rules, (const uint8_t *)"\1b", 3, DNS_RULE_BELOW, DNS_RULE_IMPORTANT + DNS_RULE_DROP, 2) == 0);
    assert(dns_rules_add(rules, (const uint8_t *)"\1a", 3, DNS_RULE_BELOW | DNS_RULE_EXACT, DNS_RULE_ALLOW, 3) == 1);
    assert(dns_rules_add(rules, (const uint8_t *)"\1a", 3, DNS_RULE_BELOW | DNS_RULE_EXACT, DNS_RULE_NXDOMAIN, 4) == 1); /* the weaker */
    assert(dns_rules_add(rules, (const uint8_t *)"\xc0", 1, DNS_RULE_EXACT, DNS_RULE_DROP, 1) == -1);
    dns_query_name(&q, (const uint8_t *)"\1x\1b", 5, &server.key);
    assert(dns_rules_find(rules, &q, &labels, &list) == DNS_RULE_DROP && labels == 1 && list == 2);
    dns_query_name(&q, (const uint8_t *)"\1c", 3, &server.key);
    assert(dns_rules_find(rules, &q, &labels, &list) == DNS_RULE_NONE);
    assert(dns_rules_size(rules) > 4096);
    dns_rules_free(rules);
    dns_rules_free(NULL);
    server.key = was;
}

/* Replies that do not fit: without the additional section, or cut. */
static void what_does_not_fit_is_said_so(void)
{
    dns_cache *cache = dns_cache_new(1 << 20, 60, &server.key);
    dns_cache_put put = {.now = 1000};
    for (int with = 0; with < 2; with++) { /* 50 answers, or 5 and 45 beside them */
        ASKED(DNS_A, 0, 0);
        msg[2] = 0x80;
        for (int i = 0; i < 50; i++)
            memcpy(msg + q.question_end + i * 16, A, 16);
        dns_put16(msg + 6, with ? 5 : 50);
        dns_put16(msg + 10, with ? 45 : 0);
        assert(dns_cache_store(cache, &q, msg, q.question_end + 800, &put) == 0);
        size_t n = ask(cache, DNS_A, 0, 0, 2000, 0, NULL);
        assert(n && n <= 512 && !!(out[2] & 2) == !with && out[11] == 0);
        dns_client stream = {.ip_len = 4, .stream = 1};
        assert(ask(cache, DNS_A, 0, 0, 2000, 0, &stream) > 800);
        dns_client small = {.ip_len = 4, .most = 100}, large = {.ip_len = 4, .most = 5000};
        assert(ask(cache, DNS_A, 0, 0, 2000, 0, &small) <= 100 && ask(cache, DNS_A, 0, 0, 2000, 0, &large) == n);
    }
    dns_cache_free(cache);
}

static void rings_come_round_and_names_are_forgotten(void)
{
    dns_cache *cache = dns_cache_new(65536, 60, &server.key);
    dns_cache_put put = {.now = 1000};
    dns_client client = {.ip_len = 4};
    for (int round = 0; round < 30000; round++) { /* sizes that do and do not divide the ring */
        char name[] = "\5n0000\2ex";
        for (int d = 5, v = round; d > 1; d--, v /= 10)
            name[d] = (char)('0' + v % 10);
        question(name, sizeof name, 300, 0, 0);
        msg[2] = 0x80, msg[7] = 1;
        size_t len = round < 20000 ? (size_t)(round * 37 % 900) : 16 * (size_t)(round % 4) + 6;
        memcpy(msg + q.question_end, "\xc0\x0c\x01\x2c\0\1\0\0\0\x64", 10);
        dns_put16(msg + q.question_end + 10, (uint32_t)len);
        put.scope = (uint16_t)(round % 3);
        assert(dns_cache_store(cache, &q, msg, q.question_end + 12 + len, &put) == 0);
        if (round % 5 == 0) {
            question(name, sizeof name, 300, 0, 0);
            dns_cache_answer(cache, &server, &client, msg, &q, 0, 1000, 0, 0, out, &found);
        }
        if (round % 4000 == 7)
            dns_cache_flush_scope(cache, (uint16_t)(round % 3));
    }
    uint64_t at = 0;
    unsigned live = 0;
    while (dns_cache_walk(cache, &at))
        live++;
    assert(live > 10 && live <= cache->entries);
    assert(dns_cache_flush_name(cache, (const uint8_t *)"\xc0", 1, 0, 0) == 0);
    assert(dns_cache_flush_name(cache, (const uint8_t *)"\2ex", 4, 0, 0) == 0); /* the name itself has none */
    assert(dns_cache_flush_name(cache, (const uint8_t *)"\2ex", 4, 1, DNS_TXT) == 0); /* nor of that type */
    unsigned one = dns_cache_flush_name(cache, (const uint8_t *)"\5n9999\2ex", 10, 0, 300);
    assert(one <= 1 && dns_cache_flush_name(cache, (const uint8_t *)"\5m9999\2ex", 10, 1, 0) == 0);
    assert(dns_cache_flush_name(cache, (const uint8_t *)"\2ex", 4, 1, 0) == live - one);
    KEEP(DNS_A, 0, "\0\1\0\0\0\0", A, &put);
    assert(ask(cache, DNS_A, 0, 0, 1000, 0, NULL));
    dns_cache_flush_view(cache, 0);
    assert(!ask(cache, DNS_A, 0, 0, 1000, 0, NULL));
    dns_cache_free(cache);
}

static void replies_of_rules(void)
{
    static const unsigned actions[] = {DNS_RULE_NXDOMAIN, DNS_RULE_NODATA, DNS_RULE_ZERO, DNS_RULE_REFUSED, DNS_RULE_TCP, DNS_RULE_GONE};
    static const unsigned types[] = {DNS_A, DNS_AAAA, DNS_TXT};
    dns_client client = {.ip_len = 4};
    for (int a = 0; a < 6; a++)
        for (int t = 0; t < 3; t++) {
            ASKED(types[t], 0, 1);
            size_t n = dns_rule_reply(actions[a], &server, &client, msg, &q, DNS_RA, 15, out);
            unsigned code = out[3] & 15;
            assert(n > 12 && code == (actions[a] == DNS_RULE_NXDOMAIN || actions[a] == DNS_RULE_GONE ? 3u : actions[a] == DNS_RULE_REFUSED ? 5u : 0u));
            assert(out[7] == (actions[a] == DNS_RULE_ZERO && t < 2));
        }
}

static void who_asks_too_often_is_limited_by_every_prefix(void)
{
    dns_rrl rrl;
    uint8_t four[4] = {192, 0, 2, 1}, six[16] = {0x20, 1};
    assert(dns_rrl_init(&rrl, 65536, 10, 16, 2, &server.key) == 0);
    int seen[4] = {0};
    for (int i = 0; i < 40; i++)
        seen[dns_rrl_take(&rrl, four, 4, 1000000000u, 1)]++;
    assert(seen[DNS_RRL_PASS] == 15 && seen[DNS_RRL_SMALL] == 1 && seen[DNS_RRL_DROP] == 12 && seen[DNS_RRL_SLIP] == 12);
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < 4000; i++) {
        six[7] = (uint8_t)i, six[6] = (uint8_t)(i >> 8);
        seen[dns_rrl_take(&rrl, six, 16, 1000000000u, 1)]++;
    }
    assert(seen[DNS_RRL_DROP] > 100); /* all of them are one network */
    rrl.slip = 0;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < 40; i++)
        seen[dns_rrl_take(&rrl, four, 4, 1000000000u, 1)]++;
    assert(seen[DNS_RRL_SLIP] == 0);
    assert(dns_rrl_take(&rrl, four, 4, 60000000000u, 1) == DNS_RRL_PASS);
    dns_rrl_free(&rrl);
    dns_rrl_free(&rrl);
}

int main(void)
{
    what_is_not_kept_says_why();
    lives_are_as_long_as_their_records_say();
    failures_double_and_good_answers_stand();
    names_that_hash_alike_are_told_apart();
    what_does_not_fit_is_said_so();
    rings_come_round_and_names_are_forgotten();
    replies_of_rules();
    who_asks_too_often_is_limited_by_every_prefix();
    puts("dns cache edges: ok");
    return 0;
}
