/* The seldom branches of dns_message.c and dns_reply.c: options twice, signatures, wrong sections, full rooms. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>

#include "../dns_message.h"

#define QUESTION "\3www\7example\0\0\1\0\1"
#define OPT(size) "\0\0\x29\4\xd0\0\0\0\0" size

static const dns_key key = {{1, 3}};

typedef struct message {
    uint8_t at[65600];
    size_t len;
} message;

/* A header with these counts, behind it nothing yet. */
static void begin(message *m, int opcode, int questions, int answers, int authority, int additional)
{
    memset(m->at, 0, DNS_HEADER);
    m->at[2] = (uint8_t)(opcode << 3);
    m->at[5] = (uint8_t)questions, m->at[7] = (uint8_t)answers;
    m->at[9] = (uint8_t)authority, m->at[11] = (uint8_t)additional;
    m->len = DNS_HEADER;
}

static void add(message *m, const void *data, size_t len)
{
    memcpy(m->at + m->len, data, len);
    m->len += len;
}

#define ADD(m, text) add(m, text, sizeof text - 1)

/* Parses a copy that ends where the message does, so that ASan sees one octet too far. */
static int parse(const message *m, dns_query *q)
{
    uint8_t *exact = malloc(m->len ? m->len : 1);
    memcpy(exact, m->at, m->len);
    int result = dns_query_parse(exact, m->len, &key, q);
    free(exact);
    return result;
}

static int with_additional(const void *record, size_t len, int count, dns_query *q)
{
    message m;
    begin(&m, DNS_QUERY, 1, 0, 0, count);
    ADD(&m, QUESTION);
    add(&m, record, len);
    return parse(&m, q);
}

#define ADDITIONAL(text, count, q) with_additional(text, sizeof text - 1, count, q)

static void of_an_option_that_comes_twice_the_first_counts(void)
{
    dns_query q;
    assert(ADDITIONAL(OPT("\0\x18") "\0\x8\0\4\0\1\0\0" "\0\x8\0\4\0\2\0\0" "\0\x9\0\0\0\xb\0\0", 1, &q) == 0);
    assert(q.expire && q.keepalive && q.ecs_len == 4 && q.ecs_at == 12 + 17 + 11 + 4 && q.work >= 4);
    assert(ADDITIONAL(OPT("\0\x18") "\0\xa\0\x8" "abcdefgh" "\0\xa\0\x8" "ABCDEFGH", 1, &q) == 0);
    assert(q.cookie_len == 8 && q.cookie_at == 12 + 17 + 11 + 4 && q.cookie == DNS_COOKIE_CLIENT);
    assert(ADDITIONAL(OPT("\0\xd") "\0\xa\0\x9" "abcdefghi", 1, &q) == DNS_FORMERR);
    assert(ADDITIONAL(OPT("\0\x14") "\0\xa\0\x10" "abcdefghabcdefgh", 1, &q) == 0 && q.cookie == DNS_COOKIE_BAD);
    uint8_t long_cookie[11 + 4 + 41] = OPT("\0\x2d") "\0\xa\0\x29";
    assert(with_additional(long_cookie, sizeof long_cookie, 1, &q) == DNS_FORMERR);
    assert(ADDITIONAL(OPT("\0\3") "\0\xc\0", 1, &q) == DNS_FORMERR);
    assert(ADDITIONAL(OPT("\0\4") "\0\xc\0\1", 1, &q) == DNS_FORMERR);
    assert(ADDITIONAL(OPT("\0\0") OPT("\0\0"), 2, &q) == DNS_FORMERR);
    assert(ADDITIONAL("\1x\0\0\x29\4\xd0\0\0\0\0\0\0\0", 1, &q) == DNS_FORMERR);
}

static void a_signature_is_the_last_record_and_of_its_one_form(void)
{
    dns_query q;
#define TSIG "\0\0\xfa\0\xff\0\0\0\0\0\0"
    assert(ADDITIONAL(TSIG, 1, &q) == 0 && q.tsig_at == 12 + 17);
    assert(ADDITIONAL(TSIG OPT("\0\0"), 2, &q) == DNS_FORMERR);
    assert(ADDITIONAL("\0\0\xfa\0\1\0\0\0\0\0\0", 1, &q) == DNS_FORMERR);
    assert(ADDITIONAL("\0\0\xfa\0\xff\0\0\0\1\0\0", 1, &q) == DNS_FORMERR);
    assert(ADDITIONAL("\0\0\x18\0\xff\0\0\0\0\0\x12" "\0\0aaaaaaaaaaaaaaaa", 1, &q) == 0 && q.sig0);
    assert(ADDITIONAL("\0\0\x18\0\xff\0\0\0\0\0\x12" "\0\1aaaaaaaaaaaaaaaa", 1, &q) == DNS_FORMERR);
    assert(ADDITIONAL("\0\0\x18\0\xff\0\0\0\0\0\x11" "\0\0aaaaaaaaaaaaaaa", 1, &q) == DNS_FORMERR);
    assert(ADDITIONAL("\0\0\1\0\1\0\0\0\0\0\4abcd", 1, &q) == DNS_FORMERR);
}

static void sections_are_what_the_opcode_asks_for(void)
{
#define A_RECORD "\0\0\1\0\1\0\0\0\0\0\4abcd"
#define SOA_RECORD "\0\0\6\0\1\0\0\0\0\0\x16" "\0\0" "\0\0\0\7" "abcdabcdabcdabcd"
    struct {
        int opcode, answers, authority, additional, result;
        const char *records;
        size_t len;
    } cases[] = {
#define CASE(opcode, a, n, x, result, text) {opcode, a, n, x, result, text, sizeof text - 1}
        CASE(DNS_NOTIFY, 1, 0, 0, 0, SOA_RECORD),
        CASE(DNS_NOTIFY, 2, 0, 0, DNS_FORMERR, SOA_RECORD SOA_RECORD),
        CASE(DNS_NOTIFY, 0, 1, 0, DNS_FORMERR, SOA_RECORD),
        CASE(DNS_NOTIFY, 1, 0, 0, DNS_FORMERR, A_RECORD),
        CASE(DNS_NOTIFY, 1, 0, 0, DNS_FORMERR, TSIG),
        CASE(DNS_NOTIFY, 1, 0, 0, DNS_FORMERR, OPT("\0\0")),
        CASE(DNS_UPDATE, 1, 1, 1, DNS_REFUSED, A_RECORD A_RECORD A_RECORD),
        CASE(DNS_UPDATE, 0, 0, 3, DNS_REFUSED, A_RECORD A_RECORD TSIG),
        CASE(DNS_UPDATE, 0, 0, 2, DNS_REFUSED, A_RECORD OPT("\0\0")),
        CASE(DNS_UPDATE, 0, 1, 0, DNS_FORMERR, TSIG),
        CASE(DNS_QUERY, 1, 0, 0, DNS_FORMERR, A_RECORD),
        CASE(DNS_QUERY, 0, 1, 0, DNS_FORMERR, SOA_RECORD),
        CASE(DNS_QUERY, 0, 0, 3, DNS_FORMERR, OPT("\0\0") A_RECORD TSIG),
        CASE(DNS_QUERY, 0, 0, 1, DNS_FORMERR, OPT("\0\0") "x"),
        CASE(DNS_QUERY, 0, 0, 9, DNS_FORMERR, OPT("\0\0")),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        message m;
        dns_query q;
        begin(&m, cases[i].opcode, 1, cases[i].answers, cases[i].authority, cases[i].additional);
        ADD(&m, QUESTION);
        add(&m, cases[i].records, cases[i].len);
        assert(parse(&m, &q) == cases[i].result);
        assert(q.has_serial == (i == 0 || i == 1 || i == 2 || i == 11) || cases[i].result == DNS_FORMERR);
    }
}

static void without_a_question_only_a_cookie_is_answered(void)
{
    message m;
    dns_query q;
    struct {
        int opcode, questions, answers, authority, additional, result;
    } cases[] = {{0, 0, 0, 0, 1, DNS_COOKIE_ONLY}, {0, 2, 0, 0, 1, DNS_FORMERR}, {DNS_NOTIFY, 0, 0, 0, 1, DNS_FORMERR},
                 {0, 0, 1, 0, 1, DNS_FORMERR},     {0, 0, 0, 1, 1, DNS_FORMERR}, {0, 0, 0, 0, 2, DNS_FORMERR}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(&m, cases[i].opcode, cases[i].questions, cases[i].answers, cases[i].authority, cases[i].additional);
        ADD(&m, OPT("\0\xc") "\0\xa\0\x8" "abcdefgh");
        assert(parse(&m, &q) == cases[i].result);
    }
    begin(&m, 0, 0, 0, 0, 1);
    ADD(&m, "\0\0\x29\4\xd0\0\1\0\0\0\xc" "\0\xa\0\x8" "abcdefgh");
    assert(parse(&m, &q) == DNS_BADVERS);
    begin(&m, 0, 0, 0, 0, 1);
    ADD(&m, OPT("\0\0"));
    assert(parse(&m, &q) == DNS_FORMERR);
    begin(&m, 0, 1, 0, 0, 0);
    ADD(&m, QUESTION);
    m.len = 65536;
    assert(parse(&m, &q) == DNS_DROP);
    begin(&m, 2, 1, 0, 0, 0);
    ADD(&m, QUESTION);
    assert(parse(&m, &q) == DNS_NOTIMP);
}

static void chaos_is_answered_for_its_two_names(void)
{
    static const struct {
        const char *question;
        size_t len;
        int opcode, result;
    } cases[] = {
#define CHAOS(name, type, opcode, result) {name "\0\0" type "\0\3", sizeof name + 4, opcode, result}
        CHAOS("\2id\6server", "\x10", DNS_QUERY, 0),
        CHAOS("\2ID\6SERVER", "\x10", DNS_QUERY, 0),
        CHAOS("\2io\6server", "\x10", DNS_QUERY, DNS_REFUSED),
        CHAOS("\x8hostname\4bind", "\x10", DNS_QUERY, 0),
        CHAOS("\x8hostnama\4bind", "\x10", DNS_QUERY, DNS_REFUSED),
        CHAOS("\7version\4bind", "\x10", DNS_QUERY, DNS_REFUSED),
        CHAOS("\2id\6server", "\1", DNS_QUERY, DNS_REFUSED),
        CHAOS("\2id\6server", "\x10", DNS_NOTIFY, DNS_REFUSED),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        message m;
        dns_query q;
        begin(&m, cases[i].opcode, 1, 0, 0, 0);
        add(&m, cases[i].question, cases[i].len);
        assert(parse(&m, &q) == cases[i].result);
    }
}

static void names_of_every_wrong_form_are_told(void)
{
    uint8_t name[300] = {0};
    for (size_t i = 0; i < 254; i += 2)
        name[i] = 1, name[i + 1] = 'x';
    name[254] = 0;
    assert(dns_name_check(name, 255) == 127 && dns_name_check(name, 256) == -1 && dns_name_check(name, 254) == -1);
    assert(dns_name_check((const uint8_t *)"\0\0", 2) == -1 && dns_name_check((const uint8_t *)"\100", 1) == -1);
    uint8_t whole[DNS_HEADER + 300] = {0}, out[DNS_NAME_MAX];
    size_t len;
    int budget = 9;
    memcpy(whole + DNS_HEADER, name, 255);
    assert(dns_name_read(whole, DNS_HEADER + 255, DNS_HEADER, out, &len, &budget) == DNS_HEADER + 255 && len == 255);
}

static void expanded_rdata_stops_at_its_room(void)
{
    static const uint8_t mx[] = "\0\5\4mail\0";
    uint8_t out[16];
    int hops = 9;
    assert(dns_rdata_expand(mx, 0, 8, 15, out, 8, &hops) == 8 && !memcmp(out, mx, 8));
    for (size_t room = 0; room < 8; room++)
        assert(dns_rdata_expand(mx, 0, 8, 15, out, room, &hops) == -1);
    assert(dns_rdata_expand(mx, 0, 1, 15, NULL, 0, &hops) == -1 && dns_rdata_ok(13, (const uint8_t *)"\1a\1b", 4));
    assert(!dns_rdata_ok(13, (const uint8_t *)"\1a", 2) && !dns_rdata_ok(28, (const uint8_t *)"abcd", 4));
    assert(!dns_rdata_ok(1, (const uint8_t *)"abcde", 5) && dns_rdata_ok(99, (const uint8_t *)"abcde", 5));
}

static void a_client_subnet_is_right_or_wrong(void)
{
    static const struct {
        const char *data;
        int len, ok;
    } cases[] = {{"\0\1\x18\0\1\2\3", 7, 1}, {"\0\1\x18\0\1\2", 6, 0},  {"\0\1\x18\1\1\2\3", 7, 0}, {"\0\1\x21\0\1\2\3\4\5", 9, 0},
                 {"\0\1\x14\0\1\2\x10", 7, 1}, {"\0\1\x14\0\1\2\x18", 7, 0}, {"\0\2\0\0", 4, 1},        {"\0\3\0\0", 4, 1},
                 {"\0\3\1\0\0", 5, 0},        {"\0\2\x80\0aaaaaaaaaaaaaaaa", 20, 1}, {"\0\2\x81\0aaaaaaaaaaaaaaaab", 21, 0},
                 {"\0\1\0", 3, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dns_query q = {.ecs_at = 0, .ecs_len = (uint16_t)cases[i].len};
        uint8_t *exact = malloc((size_t)cases[i].len);
        memcpy(exact, cases[i].data, (size_t)cases[i].len);
        assert(dns_ecs_ok(exact, &q) == cases[i].ok);
        free(exact);
    }
}

/* A reply without records; dns_opt_size said before how long it would be. */
static size_t answer(uint8_t *out, const message *m, const dns_query *q, const dns_server *server,
                     const dns_client *client, const dns_extra *extra)
{
    size_t n = dns_error_write(out, server, client, m->at, q, 0, DNS_REFUSED, extra);
    assert(q->padding || n == q->question_end + dns_opt_size(server, client, q, extra));
    dns_walk walk;
    dns_record record;
    assert(dns_walk_begin(&walk, out, n) == 0);
    while (dns_walk_next(&walk, &record) == 1)
        assert(record.type == DNS_OPT && record.section == 3);
    assert(walk.at == n);
    return n;
}

static void replies_carry_each_option_that_was_asked_for_and_can_be_given(void)
{
    message m;
    dns_query q;
    uint8_t out[2048];
    begin(&m, DNS_QUERY, 1, 0, 0, 1);
    ADD(&m, QUESTION);
    ADD(&m, OPT("\0\x20") "\0\3\0\0" "\0\x9\0\0" "\0\xb\0\0" "\0\xa\0\x8" "abcdefgh" "\0\x8\0\4\0\1\0\0");
    assert(parse(&m, &q) == 0);
    for (unsigned bits = 0; bits < 512; bits++) {
        dns_server server = {.udp_max = 1232, .secrets = bits & 1, .ecs = bits >> 1 & 1};
        server.id_len = bits & 4 ? 3 : 0;
        memcpy(server.id, "ns1", 3);
        dns_client client = {.ip_len = bits & 8 ? 16 : 4, .stream = bits >> 4 & 1, .idle = bits & 32 ? 100 : 0, .now = 9};
        dns_extra extra = {.ede = bits & 64 ? 18 : DNS_EDE_NONE, .has_expire = bits >> 7 & 1, .expire = 3600};
        if (bits & 256)
            extra.text = "no", extra.text_len = 2;
        size_t n = answer(out, &m, &q, &server, &client, bits % 3 ? &extra : NULL);
        assert(n >= q.question_end + 11u);
        dns_query without = q;
        without.expire = without.keepalive = without.nsid = 0;
        without.cookie_at = without.ecs_at = 0;
        size_t less = answer(out, &m, &without, &server, &client, bits % 3 ? &extra : NULL);
        assert(less <= n && less >= q.question_end + 11u);
    }
}

static void a_reply_is_padded_unless_it_is_as_long_as_can_be(void)
{
    static uint8_t out[66000];
    static const uint16_t none[3] = {0, 0, 0};
    dns_query q = {.edns = 1, .padding = 1};
    dns_server server = {.udp_max = 1232};
    dns_client client = {.stream = 1, .encrypted = 1};
    assert(dns_reply_finish(out, 1000, &server, &client, out, &q, 0, 0, none, NULL) % 468 == 0);
    assert(dns_reply_finish(out, 65510, &server, &client, out, &q, 0, 0, none, NULL) == 65521);
    client.encrypted = 0;
    assert(dns_reply_finish(out, 1000, &server, &client, out, &q, 0, 0, none, NULL) == 1011);
}

static void a_cookie_is_good_for_its_client_and_its_hour(void)
{
    for (int v6 = 0; v6 < 2; v6++) {
        dns_server server = {.udp_max = 1232, .secrets = 1};
        dns_client client = {.ip_len = v6 ? 16 : 4, .ip = {192, 0, 2, 1}, .now = 1000};
        message m;
        dns_query q;
        uint8_t out[512];
        begin(&m, DNS_QUERY, 1, 0, 0, 1);
        ADD(&m, QUESTION);
        ADD(&m, OPT("\0\xc") "\0\xa\0\x8" "abcdefgh");
        assert(parse(&m, &q) == 0);
        size_t n = dns_error_write(out, &server, &client, m.at, &q, 0, 0, NULL);
        begin(&m, DNS_QUERY, 1, 0, 0, 1);
        ADD(&m, QUESTION);
        ADD(&m, OPT("\0\x1c") "\0\xa\0\x18");
        add(&m, out + n - 24, 24);
        const struct { uint32_t now; uint8_t last, secrets, version; int cookie; } cases[] = {
            {1000, 1, 1, 1, DNS_COOKIE_GOOD}, {1000 + 1801, 1, 1, 1, DNS_COOKIE_RENEW}, {1000 + 3601, 1, 1, 1, DNS_COOKIE_BAD},
            {1000 - 301, 1, 1, 1, DNS_COOKIE_BAD}, {1000, 2, 1, 1, DNS_COOKIE_BAD}, {1000, 1, 0, 1, DNS_COOKIE_BAD},
            {1000, 1, 1, 2, DNS_COOKIE_BAD}, {1000, 1, 2, 1, DNS_COOKIE_RENEW},
        };
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            dns_server now = server;
            now.secrets = cases[i].secrets;
            if (now.secrets == 2)
                now.secret[0][0] = 1; /* the one that signed is the older now */
            client.now = cases[i].now;
            client.ip[3] = cases[i].last;
            m.at[m.len - 16] = cases[i].version;
            assert(parse(&m, &q) == 0 && q.cookie == DNS_COOKIE_BAD);
            dns_cookie_check(&now, &client, m.at, &q);
            assert(q.cookie == cases[i].cookie);
        }
    }
}

static void a_walk_begins_on_replies_only(void)
{
    message m;
    dns_walk walk;
    dns_record record;
    begin(&m, 0, 2, 0, 0, 0);
    ADD(&m, QUESTION QUESTION);
    assert(dns_walk_begin(&walk, m.at, m.len) == -1 && dns_walk_begin(&walk, m.at, 11) == -1);
    assert(dns_walk_begin(&walk, m.at, 65536) == -1);
    begin(&m, 0, 1, 0, 0, 0);
    assert(dns_walk_begin(&walk, m.at, m.len) == -1);
    ADD(&m, "\3www\0\0\1\0");
    assert(dns_walk_begin(&walk, m.at, m.len) == -1);
    begin(&m, 0, 0, 1, 0, 0);
    ADD(&m, A_RECORD);
    assert(dns_walk_begin(&walk, m.at, m.len) == 0 && dns_walk_next(&walk, &record) == 1);
    assert(dns_walk_next(&walk, &record) == 0);
    ADD(&m, "x");
    assert(dns_walk_begin(&walk, m.at, m.len) == 0 && dns_walk_next(&walk, &record) == 1);
    assert(dns_walk_next(&walk, &record) == -1);
}

int main(void)
{
    of_an_option_that_comes_twice_the_first_counts();
    a_signature_is_the_last_record_and_of_its_one_form();
    sections_are_what_the_opcode_asks_for();
    without_a_question_only_a_cookie_is_answered();
    chaos_is_answered_for_its_two_names();
    names_of_every_wrong_form_are_told();
    expanded_rdata_stops_at_its_room();
    a_client_subnet_is_right_or_wrong();
    replies_carry_each_option_that_was_asked_for_and_can_be_given();
    a_reply_is_padded_unless_it_is_as_long_as_can_be();
    a_cookie_is_good_for_its_client_and_its_hour();
    a_walk_begins_on_replies_only();
    return 0;
}
