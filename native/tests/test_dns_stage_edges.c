/* The DNS stage at its edges: who may ask, lists, views, what is limited, logged, passed on, or finds no room. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_stage.h"

static dns_stage *s;
static dns_range range[2];
static uint8_t msg[600], out[4096];
static dns_client client;
static dns_notes notes;
static dns_query q;
static const uint8_t four[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1};

static void begin(uint32_t meaning)
{
    s = calloc(1, sizeof *s);
    s->server = (dns_server){.key = {{0x1234567, 0x9e3779b97f4a7c15u}}, .udp_max = 1232};
    dns_stage_init(s);
    range[0] = (dns_range){.value = meaning};
    s->range = range;
    s->ranges = 1;
    s->views = 1;
    s->view[0] = (dns_view){.recursive = 1};
}

static void end(void) { free(s); }

/* `dnssec`: 0 without OPT, 1 with, 2 with DO, 3 with a cookie, 4 with a client subnet that cannot be */
static size_t question(const char *name, size_t len, unsigned type, unsigned klass, unsigned flags, int dnssec)
{
    memset(msg, 0, 12);
    dns_put16(msg + 2, flags);
    msg[5] = 1;
    memcpy(msg + 12, name, len);
    dns_put16(msg + 12 + len, type);
    dns_put16(msg + 14 + len, klass);
    size_t at = 16 + len;
    if (dnssec) {
        msg[11] = 1;
        memcpy(msg + at, "\0\0\x29\x10\0\0\0\0\0\0\0", 11);
        msg[at + 7] = dnssec == 2 ? 0x80 : 0;
        at += 11;
    }
    if (dnssec == 3)
        msg[at - 1] = 12, memcpy(msg + at, "\0\x0a\0\x08" "abcdefgh", 12), at += 12;
    if (dnssec == 4)
        msg[at - 1] = 9, memcpy(msg + at, "\0\x08\0\5\0\x09\x08\0x", 9), at += 9;
    return at;
}

static int answer(size_t len, uint64_t now)
{
    memset(&client, 0, sizeof client);
    client.ip_len = 4;
    memcpy(client.ip, four + 12, 4);
    return dns_stage_answer(s, msg, len, &client, four, now, now, out, &notes, &q);
}

#define NAME "\3www\2ex"
#define ASK(type, flags, dnssec) answer(question(NAME, sizeof NAME, type, DNS_IN, flags, dnssec), 1000000000u)
#define RCODE (out[3] & 15)

static void who_may_ask(void)
{
    begin(0);
    assert(ASK(DNS_A, 0, 0) > 0 && RCODE == DNS_REFUSED);
    range[0].value = DNS_SILENT;
    assert(ASK(DNS_A, 0, 0) == TUDP_DROP(TUDP_DENIED));
    range[0].value = DNS_MAY_QUERY | 5; /* a view that is not there */
    assert(ASK(DNS_A, 0, 0) == 0 && s->passed == 1);
    range[0].value = DNS_MAY_QUERY;
    s->view[0].closed = 1;
    assert(ASK(DNS_A, 0, 0) == 0);
    s->view[0].closed = 0;
    s->view[0].final = 1;
    assert(ASK(DNS_A, 0, 0) > 0 && RCODE == DNS_REFUSED && ASK(DNS_AXFR, 0, 0) == 0 && ASK(DNS_IXFR, 0, 0) == 0);
    assert(answer(5, 1) == TUDP_DROP(TUDP_MALFORMED));
    msg[5] = 2;
    assert(answer(question(NAME, sizeof NAME, DNS_MAILA, DNS_IN, 0, 0), 1) > 0 && RCODE == DNS_NOTIMP);
    s->server.ecs = 1;
    assert(ASK(DNS_A, 0, 4) > 0 && RCODE == DNS_FORMERR);
    assert(answer(question(NAME, sizeof NAME, DNS_MAILA, DNS_IN, 0, 4), 1) > 0 && RCODE == DNS_NOTIMP);
    s->server.ecs = 0;
    /* id.server, with and without an id */
    static const char id[] = "\2id\6server";
    assert(answer(question(id, sizeof id, DNS_TXT, DNS_CH, 0, 0), 1) > 0 && RCODE == DNS_REFUSED);
    s->server.id_len = 4;
    memcpy(s->server.id, "node", 4);
    int n = answer(question(id, sizeof id, DNS_TXT, DNS_CH, 0, 0), 1);
    assert(n > 0 && RCODE == 0 && !memcmp(out + n - 4, "node", 4));
    /* a cookie alone */
    s->server.secrets = 1;
    assert(ASK(DNS_A, 0, 3) > 0 && s->cookies[DNS_COOKIE_CLIENT] == 1);
    memset(msg, 0, 12);
    msg[11] = 1;
    memcpy(msg + 12, "\0\0\x29\x10\0\0\0\0\0\0\x0c\0\x0a\0\x08" "abcdefgh", 23);
    assert(answer(35, 1) > 0 && RCODE == 0);
    end();
}

static dns_rules *rules_of(const char *name, size_t len, unsigned action)
{
    dns_rules *rules = dns_rules_new(4, 64, &s->server.key);
    assert(dns_rules_add(rules, (const uint8_t *)name, len, DNS_RULE_EXACT | DNS_RULE_BELOW, action, 0) == 0);
    return rules;
}

static void lists_in_groups(void)
{
    static const struct { unsigned first, second; int stream, noted, result, rcode; } rows[] = {
        {DNS_RULE_NXDOMAIN, DNS_RULE_NODATA, 0, 0, 1, DNS_NXDOMAIN},
        {DNS_RULE_NXDOMAIN, DNS_RULE_ALLOW, 0, 0, 0, 0}, /* of one group: allowed */
        {DNS_RULE_ALLOW, DNS_RULE_NXDOMAIN, 0, 0, 0, 0},
        {DNS_RULE_DROP, DNS_RULE_ZERO, 0, 0, TUDP_DROP(TUDP_DENIED), 0},
        {DNS_RULE_PYTHON, DNS_RULE_DROP, 0, 0, 0, 0},
        {DNS_RULE_TCP, DNS_RULE_NXDOMAIN, 1, 0, 1, DNS_NXDOMAIN},
        {DNS_RULE_TCP, DNS_RULE_NXDOMAIN, 0, 0, 1, 0},
        {DNS_RULE_NXDOMAIN, DNS_RULE_NODATA, 0, 1, 0, 0}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int ends = 0; ends < 2; ends++) { /* of one group, and each of its own */
            begin(DNS_MAY_QUERY);
            dns_rules *first = rules_of(NAME, sizeof NAME, rows[i].first), *second = rules_of("\2ex", 4, rows[i].second);
            s->view[0].list[0] = (dns_listing){.rules = first, .action = DNS_RULE_NXDOMAIN, .ede = 15, .ends = (uint8_t)ends};
            s->view[0].list[1] = (dns_listing){.rules = second, .action = DNS_RULE_NXDOMAIN, .ede = 15, .ends = 1};
            s->view[0].lists = 2;
            s->view[0].note_blocked = (uint8_t)rows[i].noted;
            size_t len = question(NAME, sizeof NAME, DNS_A, DNS_IN, 0, 0);
            memset(&client, 0, sizeof client);
            client.ip_len = 4, client.stream = (uint8_t)rows[i].stream;
            int n = dns_stage_answer(s, msg, len, &client, four, 1, 1, out, &notes, &q);
            if (!ends)
                assert(rows[i].result > 0 ? n > 0 && RCODE == rows[i].rcode : n == rows[i].result);
            s->view[0].list[0].action = DNS_RULE_PYTHON; /* what this list's rules mean here */
            dns_stage_answer(s, msg, len, &client, four, 1, 1, out, &notes, &q);
            dns_rules_free(first);
            dns_rules_free(second);
            end();
        }
}

static dns_image *image_of(const char *last)
{
    static const uint8_t soa[] = "\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1";
    dns_image *image;
    dns_builder *b = dns_builder_new((const uint8_t *)"\2ex", 4, &s->server.key);
    dns_builder_add(b, (const uint8_t *)"\2ex", 4, DNS_SOA, 60, soa, 22);
    dns_builder_add(b, (const uint8_t *)NAME, sizeof NAME, DNS_A, 60, (const uint8_t *)last, 4);
    assert(dns_builder_finish(b, &image) == 0);
    dns_builder_free(b);
    return image;
}

static void views_with_zones_rules_and_caches(void)
{
    begin(DNS_MAY_QUERY | DNS_MAY_RECURSE);
    dns_image *image = image_of("abcd");
    dns_zones *zones = dns_zones_new(1, &s->server.key);
    assert(!dns_zones_add(zones, image->origin, image->origin_len, image, 0, 0) && !dns_zones_seal(zones));
    dns_rules *blocked = rules_of(NAME, sizeof NAME, DNS_RULE_NODATA), *python = rules_of("\2py", 4, DNS_RULE_PYTHON);
    dns_view *v = &s->view[0];
    *v = (dns_view){.zones = zones, .recursive = 1, .cache = dns_cache_new(1 << 17, 60, &s->server.key)};
    v->list[0] = (dns_listing){.rules = blocked, .action = DNS_RULE_NODATA, .ends = 1};
    v->lists = 1;
    assert(ASK(DNS_A, 0, 0) > 0 && out[7] == 0); /* the lists come first, */
    v->zones_first = 1;
    assert(ASK(DNS_A, 0, 0) > 0 && out[7] == 1); /* or the zones */
    /* what zones of this kind leave to Python */
    v->whole_any = v->generous = 1;
    assert(ASK(DNS_ANY, 0, 0) > 0 && out[2] & 2 && ASK(DNS_RRSIG, 0, 0) > 0 && out[2] & 2);
    size_t len = question(NAME, sizeof NAME, DNS_ANY, DNS_IN, 0, 0);
    client.stream = 1;
    assert(dns_stage_answer(s, msg, len, &client, four, 1, 1, out, &notes, &q) == 0);
    assert(ASK(DNS_MX, 0, 0) == 0 && ASK(DNS_SRV, 0, 0) == 0 && ASK(DNS_A, 0, 0) > 0 && ASK(DNS_TXT, 0, 0) > 0);
    v->whole_any = 0;
    assert(ASK(DNS_ANY, 0, 0) > 0 && ASK(DNS_MX, 0, 0) == 0);
    v->whole_any = 1, v->generous = 0;
    assert(ASK(DNS_MX, 0, 0) > 0);
    assert(answer(question("\1x\3org", 7, DNS_ANY, DNS_IN, 0, 0), 1) == 0); /* of another zone */
    v->zones = NULL;
    assert(ASK(DNS_ANY, 0, 0) > 0);
    v->zones = zones;
    /* names that Python answers first, and what it lets others have */
    v->python = python;
    static const uint8_t sharing[] = {1};
    static const char py[] = "\1a\2py";
    assert(answer(question(py, sizeof py, DNS_A, DNS_IN, DNS_RD, 0), 1) == 0 && notes.python == 1);
    v->sharing = sharing;
    v->shared = v->cache;
    assert(answer(question(py, sizeof py, DNS_A, DNS_IN, DNS_RD, 0), 1) == 0 && notes.python == 1);
    dns_cache_put put = {.now = 0, .view = DNS_SHARED};
    len = question(py, sizeof py, DNS_A, DNS_IN, DNS_RD, 0);
    assert(dns_query_parse(msg, len, &s->server.key, &q) == 0);
    msg[2] |= 0x80, msg[7] = 1;
    memcpy(msg + len, "\xc0\x0c\0\1\0\1\0\0\0\x64\0\4\1\2\3\4", 16);
    assert(dns_cache_store(v->cache, &q, msg, len + 16, &put) == 0);
    assert(answer(question(py, sizeof py, DNS_A, DNS_IN, DNS_RD, 0), 1) > 0 && out[7] == 1);
    static const uint8_t not_sharing[] = {0};
    v->sharing = not_sharing;
    assert(answer(question(py, sizeof py, DNS_A, DNS_IN, DNS_RD, 0), 1) == 0);
    /* the cache, and what is asked again before it is over */
    static const char far[] = "\1f\3org";
    put.view = 0;
    for (int dnssec = 0; dnssec < 2; dnssec++) {
        len = question(far, sizeof far, DNS_A, DNS_IN, DNS_RD, dnssec ? 2 : 0);
        assert(dns_query_parse(msg, len, &s->server.key, &q) == 0);
        msg[2] |= 0x80, msg[7] = 1, msg[11] = 0;
        memcpy(msg + q.question_end, "\xc0\x0c\0\1\0\1\0\0\0\x64\0\4\1\2\3\4", 16);
        assert(dns_cache_store(v->cache, &q, msg, q.question_end + 16u, &put) == 0);
        uint32_t before = s->prefetches;
        for (int i = 0; i < 3; i++)
            assert(answer(question(far, sizeof far, DNS_A, DNS_IN, DNS_RD, dnssec ? 2 : 0), 95000000000u) > 0);
        assert(s->prefetches == before + 1 && s->stage.held && s->prefetch[before].len == (dnssec ? 24 + 11 : 24) - 1);
        s->prefetches = DNS_PREFETCHES; /* no more fit until Python took them */
        put.now = dnssec ? 0 : 1;
        assert(dns_query_parse(msg, question(far, sizeof far, DNS_A, DNS_IN, DNS_RD, dnssec ? 2 : 0), &s->server.key, &q) == 0);
        msg[2] |= 0x80, msg[7] = 1, msg[11] = 0;
        memcpy(msg + q.question_end, "\xc0\x0c\0\1\0\1\0\0\0\x64\0\4\1\2\3\4", 16);
        assert(dns_cache_store(v->cache, &q, msg, q.question_end + 16u, &put) == 0);
        for (int i = 0; i < 3; i++)
            assert(answer(question(far, sizeof far, DNS_A, DNS_IN, DNS_RD, dnssec ? 2 : 0), 95000000000u) > 0);
        s->prefetches = before + 1;
        put.now = 0;
    }
    assert(answer(question(far, sizeof far, DNS_A, DNS_IN, 0, 0), 1) == 0); /* who does not want recursion gets none */
    range[0].value = DNS_MAY_QUERY;
    assert(answer(question(far, sizeof far, DNS_A, DNS_IN, DNS_RD, 0), 1) == 0); /* nor who may not */
    dns_cache_free(v->cache);
    dns_rules_free(blocked);
    dns_rules_free(python);
    dns_zones_free(zones);
    free(image);
    end();
}

static void limits_and_what_gets_round_them(void)
{
    dns_rrl rrl;
    begin(DNS_MAY_QUERY);
    s->view[0].final = 1;
    assert(dns_rrl_init(&rrl, 1024, 10, 3, 2, &s->server.key) == 0);
    s->rrl = &rrl;
    s->weight = 1;
    int seen[4] = {0};
    for (int i = 0; i < 30; i++) {
        int n = ASK(DNS_A, 0, 0);
        seen[n > 0 ? (out[2] & 2 ? 1 : 0) : n == TUDP_DROP(TUDP_LIMITED) ? 2 : 3]++;
    }
    assert(seen[0] >= 2 && seen[1] > 5 && seen[2] > 5 && !seen[3] && s->limited && s->slipped);
    s->server.secrets = 1; /* with a cookie: told to use it */
    for (int i = 0; i < 4; i++)
        assert(ASK(DNS_A, 0, 3) > 0 && RCODE == (DNS_BADCOOKIE & 15));
    msg[12] = 0xc0; /* no name: nothing is said */
    for (int i = 0; i < 4; i++)
        assert(answer(question("\xc0\x0c", 2, DNS_A, DNS_IN, 0, 0), 1000000000u) == TUDP_DROP(TUDP_LIMITED));
    for (int i = 0; i < 4; i++)
        assert(answer(question("\xc0\x0c", 2, DNS_A, DNS_IN, 0, 3), 1000000000u) == TUDP_DROP(TUDP_LIMITED));
    range[0].value |= DNS_TRUSTED;
    assert(ASK(DNS_A, 0, 0) > 0 && RCODE == DNS_REFUSED);
    range[0].value = DNS_MAY_QUERY | DNS_MAY_RECURSE;
    ASK(DNS_A, 0, 0);
    size_t len = question(NAME, sizeof NAME, DNS_A, DNS_IN, 0, 0);
    client.stream = 1;
    assert(dns_stage_answer(s, msg, len, &client, four, 1000000000u, 1, out, &notes, &q) > 0 && RCODE == DNS_REFUSED);
    dns_rrl_free(&rrl);
    /* near the limit a reply is small: a list's answer is cut to three times the question */
    assert(dns_rrl_init(&rrl, 1024, 10, 1, 0, &s->server.key) == 0);
    dns_rules *rules = rules_of("\1x", 3, DNS_RULE_NXDOMAIN);
    s->view[0].list[0] = (dns_listing){.rules = rules, .action = DNS_RULE_NXDOMAIN, .ends = 1};
    s->view[0].lists = 1;
    assert(answer(question("\1x", 3, DNS_A, DNS_IN, 0, 0), 9000000000u) > 0);
    dns_rules_free(rules);
    dns_rrl_free(&rrl);
    end();
}

static void the_log_and_its_ring(void)
{
    begin(DNS_MAY_QUERY);
    s->view[0].final = 1;
    dns_log *log = calloc(1, sizeof *log + 4 * sizeof *log->entry);
    log->mask = 3;
    log->share = UINT32_MAX;
    log->random = 1;
    dns_stage_notes_to(s, log, NULL);
    for (int i = 0; i < 6; i++)
        assert(ASK(DNS_A, 0, 0) > 0);
    assert(log->head == 4 && log->lost == 2 && log->entry[0].rcode == DNS_REFUSED && log->entry[0].name_len == sizeof NAME);
    log->tail = 4;
    log->share = 1u << 30; /* a quarter of them */
    for (int i = 0; i < 400; i++) {
        ASK(DNS_A, 0, 0);
        log->tail = log->head;
    }
    assert(log->head > 40 && log->head < 200);
    dns_tap *tap = calloc(1, sizeof *tap + 4096);
    tap->mask = 4095;
    tap->share = UINT32_MAX;
    dns_stage_notes_to(s, NULL, tap);
    assert(ASK(DNS_A, 0, 0) > 0 && dns_tap_waiting(tap) > 0);
    dns_stage_notes_to(s, log, tap);
    assert(ASK(DNS_A, 0, 0) > 0);
    free(tap);
    free(log);
    end();
}

/* --- as a stage -------------------------------------------------------------- */

static int no_room, sent;
static uint8_t *room(tudp_turn *turn, uint32_t most) { return no_room > 0 && no_room-- ? NULL : out; }
static int put(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to, const tudp_local *local)
{
    return sent++, 0;
}
static void drain(tudp_turn *turn) {}

static int no_port(void *ctx, const tudp_sockaddr *to, uint16_t port, uint32_t number) { return 7; }
static void close_port(void *ctx, int fd) {}
static int none_ready(void *ctx, uint32_t *numbers, int most) { return 0; }
static int all_sent(void *ctx, int fd, struct mmsghdr *msgs, unsigned n) { return (int)n; }
static int nothing(void *ctx, int fd, struct mmsghdr *msgs, unsigned n) { return -11; }
static int dice(void *ctx, void *to, size_t len)
{
    static uint32_t seed = 1;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)to)[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
    return 0;
}

static void datagrams_pass_through_it(void)
{
    static const tudp_ops ops = {.room = room, .send = put, .drain = drain};
    static const dns_forward_calls calls = {NULL, no_port, close_port, none_ready, all_sent, nothing, dice};
    uint64_t counters[TUDP_WORDS] = {0};
    tudp_turn turn = {.counters = counters, .ops = &ops, .now = 1000000000u, .wall = 5000000000u, .batch = 1};
    begin(DNS_MAY_QUERY | DNS_MAY_RECURSE);
    uint8_t data[600];
    tudp_slot slot = {.data = data, .scratch = calloc(1, sizeof(dns_notes))}, second = slot;
    slot.from.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(5000)};
    slot.len = (uint32_t)question(NAME, sizeof NAME, DNS_A, DNS_IN, DNS_RD, 0);
    memcpy(data, msg, slot.len);
    second.len = slot.len;
    s->view[0].final = 1;
    slot.stamp = turn.wall - 7;
    assert(dns_stage_take(&s->stage, &turn, &slot) == TUDP_ANSWERED && sent == 1 && s->waited == 7);
    slot.stamp = turn.wall + 7;
    no_room = 1;
    assert(dns_stage_take(&s->stage, &turn, &slot) == TUDP_ANSWERED && s->waited == 0);
    no_room = 2;
    assert(dns_stage_take(&s->stage, &turn, &slot) == TUDP_DROP(TUDP_SHED));
    /* looked ahead, where there are zones or not, and the view of the last is there or not */
    for (int views = 0; views < 2; views++) {
        s->view_ahead = views ? 0 : 99;
        turn.next = &second;
        dns_stage_take(&s->stage, &turn, &slot);
        turn.next = NULL;
        dns_stage_take(&s->stage, &turn, &second);
    }
    second.len = 3; /* what comes next is nothing */
    turn.next = &second;
    dns_stage_take(&s->stage, &turn, &slot);
    turn.next = NULL;
    assert(dns_stage_take(&s->stage, &turn, &second) == TUDP_DROP(TUDP_MALFORMED));
    /* IPv6, and addresses that only look mapped */
    tudp_slot six = slot;
    memset(&six.from, 0, sizeof six.from);
    six.from.in6.sin6_family = AF_INET6;
    for (int i = 0; i < 3; i++) {
        six.from.in6.sin6_addr.s6_addr[10] = i > 0 ? 0xff : 0;
        six.from.in6.sin6_addr.s6_addr[11] = i > 1 ? 0xff : 0;
        six.from.in6.sin6_addr.s6_addr[0] = 0x20;
        assert(dns_stage_take(&s->stage, &turn, &six) == TUDP_ANSWERED && dns_stage_notes(s, &six)->client.ip_len == 16);
    }
    /* in front of a proxy: only where a range says that it is one */
    memcpy(data, msg, slot.len);
    assert(dns_stage_take_proxied(&s->stage, &turn, &slot) == TUDP_ANSWERED);
    range[0].value |= DNS_PROXY;
    assert(dns_stage_take_proxied(&s->stage, &turn, &slot) == TUDP_DROP(TUDP_MALFORMED));
    /* forwarders: those that take the name, in order */
    s->view[0].final = 0;
    dns_cache *cache = dns_cache_new(1 << 17, 60, &s->server.key);
    s->view[0].cache = cache;
    dns_forward *f[2];
    tudp_sockaddr to = {.in4.sin_family = AF_INET};
    static const char *zones[] = {"\3org", "\0"};
    for (int i = 0; i < 2; i++) {
        f[i] = dns_forward_new((const uint8_t *)zones[i], i ? 1 : 5, &s->server, cache, &calls);
        dns_forward_add(f[i], &to);
        f[i]->upstream[0].usable = 1;
        assert(dns_stage_asks(s, f[i]) == 0);
        s->view[0].forward[i] = f[i];
    }
    s->view[0].forwards = 2;
    s->view[0].id = 3;
    range[0].value &= ~(uint32_t)DNS_PROXY;
    slot.len = (uint32_t)question(NAME, sizeof NAME, DNS_A, DNS_IN, DNS_RD, 0);
    memcpy(data, msg, slot.len);
    assert(dns_stage_take(&s->stage, &turn, &slot) == TUDP_HELD && f[1]->flights == 1);
    assert(s->stage.deadline(&s->stage) < TUDP_NEVER);
    s->stage.flush(&s->stage, &turn);
    s->stage.due(&s->stage, &turn);
    assert(!s->stage.held);
    /* a name that a list has: the second list, of the second view */
    dns_rules *rules = rules_of("\3bad", 5, DNS_RULE_DROP);
    s->views = 2;
    s->view[1] = (dns_view){.id = 3};
    s->view[1].list[0] = s->view[1].list[1] = (dns_listing){.rules = rules, .ends = 1};
    s->view[1].lists = 2;
    dns_query_name(&q, (const uint8_t *)"\3bad", 5, &s->server.key);
    assert(f[1]->listed(f[1]->self, 3, &q) && !f[1]->listed(f[1]->self, 4, &q));
    dns_query_name(&q, (const uint8_t *)"\3god", 5, &s->server.key);
    assert(!f[1]->listed(f[1]->self, 3, &q));
    turn.now += 5000000000u;
    s->stage.due(&s->stage, &turn);
    assert(s->stage.held && dns_forward_handed(f[1])); /* nobody answered: Python's */
    s->view[0].forward[0] = NULL; /* from here on the owner asks */
    assert(dns_stage_take(&s->stage, &turn, &slot) == 0 && !dns_stage_notes(s, &slot)->forward);
    s->forwards = DNS_FORWARDS;
    assert(dns_stage_asks(s, f[0]) == -1);
    s->forwards = 2;
    s->stage.detach(&s->stage);
    for (int i = 0; i < 2; i++)
        dns_forward_free(f[i]);
    dns_cache_free(cache);
    dns_rules_free(rules);
    free(slot.scratch);
    end();
}

int main(void)
{
    who_may_ask();
    lists_in_groups();
    views_with_zones_rules_and_caches();
    limits_and_what_gets_round_them();
    the_log_and_its_ring();
    datagrams_pass_through_it();
    puts("dns stage edges: ok");
    return 0;
}
