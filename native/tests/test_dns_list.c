/* Lists from text: what C takes, what it hands back, and the line of each name. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_list.h"

static const dns_key key = {{0x1234567, 0x89abcdf1}};

typedef struct read_list {
    dns_list list;
    dns_names set[DNS_LIST_SETS];
} read_list;

static void begin(read_list *r, int kind, const char *text)
{
    memset(r, 0, sizeof *r);
    r->list.rules = dns_rules_new(0, 0, &key);
    for (int i = 0; i < DNS_LIST_SETS; i++)
        r->list.set[i] = &r->set[i];
    assert(dns_list_read(&r->list, kind, (const uint8_t *)text, strlen(text)) == 0);
    for (int i = 0; i < DNS_LIST_SETS; i++)
        dns_names_seal(&r->set[i]);
}

static void end(read_list *r)
{
    dns_rules_free(r->list.rules);
    free(r->list.left);
    for (int i = 0; i < DNS_LIST_SETS; i++)
        dns_names_free(&r->set[i]);
}

static uint32_t line_of(read_list *r, int set, const uint8_t *name, size_t len, unsigned action)
{
    dns_query q;
    unsigned labels;
    uint16_t number;
    dns_query_name(&q, name, len, &key);
    assert(dns_rules_find(r->list.rules, &q, &labels, &number) == action);
    return dns_names_find(&r->set[set], q.hash);
}

static const uint8_t ads[] = "\3ads\3net", www[] = "\3www\3ads\3net", api[] = "\3api\3org";

static void hosts(void)
{
    read_list r;
    begin(&r, DNS_LIST_HOSTS, "# a comment\n127.0.0.1 localhost\n0.0.0.0 ADS.net api.org # two\r\n\n0.0.0.0 ads.net\n"
                              "0.0.0.0 good.net b..ad\n0.0.0.0 gr\303\274n.de\n0.0.0.0 back\\.slash");
    assert(r.list.count == 3 && r.set[DNS_LIST_EXACT].count == 2);
    assert(line_of(&r, DNS_LIST_EXACT, ads, sizeof ads, DNS_RULE_NXDOMAIN) == 3);
    assert(line_of(&r, DNS_LIST_EXACT, api, sizeof api, DNS_RULE_NXDOMAIN) == 3);
    assert(line_of(&r, DNS_LIST_EXACT, www, sizeof www, DNS_RULE_NONE) == 0);
    /* a name that is none spoils its line, and what is not ASCII is Python's */
    assert(r.list.lefts == 3 && r.list.left[0].number == 6 && r.list.left[2].number == 8);
    end(&r);
}

/* More than wait for their place in the tables at once, and one that comes again among them. */
static void many(void)
{
    char text[4096] = "0.0.0.0 ads.net\n", line[32];
    read_list r;
    for (int n = 2; n <= 100; n++) {
        snprintf(line, sizeof line, "0.0.0.0 n%d.net%s\n", n % 70, n % 7 ? "" : " ads.net");
        strcat(text, line);
    }
    assert(dns_list_lines((const uint8_t *)text, strlen(text)) == 101);
    assert(dns_list_lines((const uint8_t *)text, strlen(text) - 1) == 100 && dns_list_lines(NULL, 0) == 1);
    begin(&r, DNS_LIST_HOSTS, text);
    assert(r.list.count == 100 + 14 && r.list.waiting == 0 && r.list.rules->count == 71);
    assert(r.set[DNS_LIST_EXACT].count == 71);
    assert(line_of(&r, DNS_LIST_EXACT, ads, sizeof ads, DNS_RULE_NXDOMAIN) == 1);
    assert(line_of(&r, DNS_LIST_EXACT, (const uint8_t *)"\3n25\3net", 9, DNS_RULE_NXDOMAIN) == 25);
    assert(line_of(&r, DNS_LIST_EXACT, (const uint8_t *)"\2n0\3net", 8, DNS_RULE_NXDOMAIN) == 70);
    end(&r);
}

static void plain(void)
{
    read_list r;
    begin(&r, DNS_LIST_PLAIN, "*.ads.net\n! not this\napi.org.\n.\n");
    assert(r.list.count == 2 && r.list.lefts == 1);
    assert(line_of(&r, DNS_LIST_BELOW, ads, sizeof ads, DNS_RULE_NXDOMAIN) == 1);
    assert(line_of(&r, DNS_LIST_BELOW, www, sizeof www, DNS_RULE_NXDOMAIN) == 0); /* by its parent */
    assert(line_of(&r, DNS_LIST_BELOW, api, sizeof api, DNS_RULE_NXDOMAIN) == 3);
    end(&r);
}

static void adblock(void)
{
    read_list r;
    begin(&r, DNS_LIST_ADBLOCK, "[Adblock Plus]\n||ads.net^\n@@||www.ads.net^\napi.org\n||a*b.net^\n||x.org^$important\n"
                                "/banner/\n");
    assert(r.list.count == 3 && r.list.lefts == 3);
    assert(line_of(&r, DNS_LIST_BELOW, ads, sizeof ads, DNS_RULE_NXDOMAIN) == 2);
    assert(line_of(&r, DNS_LIST_ALLOW_BELOW, www, sizeof www, DNS_RULE_ALLOW) == 3);
    assert(line_of(&r, DNS_LIST_EXACT, api, sizeof api, DNS_RULE_NXDOMAIN) == 4);
    end(&r);
}

/* Sets of many names, some of them equal, are found again with their first line. */
static void sets(void)
{
    dns_names names = {0};
    uint64_t hash = 1;
    for (uint32_t i = 1; i <= 20000; i++) {
        hash = dns_mix(hash, 0x9e3779b97f4a7c15u) | 1;
        assert(dns_names_add(&names, hash, i) == 0);
        assert(dns_names_add(&names, i % 3 ? hash : 7, i + 20000) == 0);
    }
    dns_names_seal(&names);
    hash = 1;
    for (uint32_t i = 1; i <= 20000; i++) {
        hash = dns_mix(hash, 0x9e3779b97f4a7c15u) | 1;
        assert(dns_names_find(&names, hash) == i);
    }
    assert(dns_names_find(&names, 7) == 20003 && dns_names_find(&names, 8) == 0 && names.count == 20001);
    dns_names_free(&names);
    dns_names_seal(&names);
    assert(dns_names_find(&names, 7) == 0);
}

static void longest(void)
{
    char text[300];
    read_list r;
    for (int len = 240; len < 270; len++) { /* 127 labels of one octet are the most */
        for (int i = 0; i < len; i++)
            text[i] = i % 2 ? '.' : 'a';
        text[len] = 0;
        begin(&r, DNS_LIST_PLAIN, text);
        assert(r.list.count == (len <= 254) && r.list.lefts == (len > 254));
        end(&r);
    }
}

int main(void)
{
    hosts();
    many();
    plain();
    adblock();
    sets();
    longest();
    puts("lists: ok");
    return 0;
}
