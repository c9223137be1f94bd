/* Zones at their edges: what a builder refuses, names that all hash alike, chains of every length, answers that do not
 * fit, sets of zones. */
#include "zone_hand.h"
#include "refuse.h"

static void what_a_builder_refuses(void)
{
    static uint8_t big[70000];
    uint8_t name[256];
    dns_image *image;
    dns_builder_free(NULL);
    dns_builder *b = dns_builder_new(name, wire("sub.ex", name), &server.key);
    assert(dns_builder_finish(b, &image) == DNS_BUILD_NO_SOA && !image); /* nothing at all */
    assert(dns_builder_add(b, (const uint8_t *)"\xc0\x0c", 2, DNS_A, 1, big, 4) == DNS_BUILD_NAME);
    assert(add_row(b, "ex", DNS_A, big, 4) == 1 && add_row(b, "org", DNS_A, big, 4) == 1); /* above it, beside it */
    assert(add_row(b, "x.sub.ey", DNS_A, big, 4) == 1);
    assert(add_row(b, "sub.ex", DNS_SOA, soa, 22) == 0);
    assert(add_row(b, "a.sub.ex", DNS_TXT + 300, big, 65536) == DNS_BUILD_RDATA);
    assert(add_row(b, "a.sub.ex", DNS_RRSIG, big, 17) == DNS_BUILD_RDATA);
    assert(add_row(b, "a.sub.ex", DNS_NSEC3, big, 5) == DNS_BUILD_RDATA);
    assert(add_row(b, "a.sub.ex", DNS_NSEC3PARAM, big, 4) == DNS_BUILD_RDATA);
    assert(add_row(b, "a.sub.ex", DNS_A, big, 3) == DNS_BUILD_RDATA);
    /* rows of one type: longer, shorter, the same, larger; the shorter time counts */
    assert(!add_row(b, "a.sub.ex", 300, "abc", 3) && !add_row(b, "a.sub.ex", 300, "ab", 2) && !add_row(b, "a.sub.ex", 300, "abc", 3));
    assert(!add_row(b, "a.sub.ex", 300, "abd", 3) && !add_row(b, "a.sub.ex", 300, "", 0));
    assert(!dns_builder_add(b, (const uint8_t *)"\1a\3sub\2ex", 10, 300, 5, (const uint8_t *)"ab", 2));
    assert(!dns_builder_add(b, (const uint8_t *)"\1a\3sub\2ex", 10, 301, UINT32_MAX, (const uint8_t *)"ab", 2));
    assert(dns_builder_finish(b, &image) == DNS_BUILD_OK && image->ignored == 3 + 2 && image->records == 1 + 4 + 1);
    free(image);
    dns_builder_free(b);
    b = dns_builder_new(name, wire("ex", name), &server.key);
    uint8_t other[22];
    memcpy(other, soa, 22);
    other[5]++;
    assert(!add_row(b, "ex", DNS_SOA, soa, 22) && !add_row(b, "ex", DNS_SOA, other, 22));
    assert(dns_builder_finish(b, &image) == DNS_BUILD_TWO_SOA);
    dns_builder_free(b);
    b = dns_builder_new(name, wire("ex", name), &server.key);
    assert(!add_row(b, "ex", DNS_SOA, soa, 22));
    for (uint32_t i = 0; i < 65536; i++)
        assert(!add_row(b, "many.ex", DNS_A, &i, 4)); /* one more than a number of 16 bits can say */
    assert(dns_builder_finish(b, &image) == DNS_BUILD_SIZE);
    dns_builder_free(b);
}

static void a_set_refuses_what_it_cannot_hold(void)
{
    const row rows[] = {{"a.ex", DNS_A, 4, "\1\2\3\4"}};
    dns_image *image = zone_of("ex", rows, 1, 0);
    static const dns_key foreign = {{1, 1}};
    dns_zones_free(NULL);
    dns_zones *zones = dns_zones_new(0, &server.key);
    assert(!dns_zones_seal(zones) && ask(zones, "a.ex", DNS_A, 0) == 0);
    dns_zones_free(zones);
    zones = dns_zones_new(3, &foreign);
    assert(dns_zones_add(zones, image->origin, image->origin_len, image, 0, 0) == -1);
    assert(dns_zones_add(zones, (const uint8_t *)"\xc0", 1, NULL, 0, 0) == -1);
    dns_zones_free(zones);
    zones = dns_zones_new(9, &server.key);
    for (uint8_t i = 0; i < 30; i++) {
        uint8_t origin[] = {1, (uint8_t)('a' + i), 0};
        int got = dns_zones_add(zones, origin, 3, NULL, 14, 0);
        assert(got == 0 || i > 9);
        if (got)
            break;
    }
    assert(dns_zones_add(zones, (const uint8_t *)"\1a", 3, NULL, 14, 0) == -1);
    assert(!dns_zones_seal(zones));
    assert(ask(zones, "x.b", DNS_A, EDNS) && rcode == DNS_SERVFAIL); /* still loading */
    dns_zones_free(zones);
    zones = set_of(&image, 1);
    assert(ask(zones, "x.org", DNS_A, 0) == 0 && ask(zones, "org", DNS_DS, 0) == 0);
    dns_zones_free(zones);
    free(image);
}

/* With a key of zeros every name hashes like every other of its last length: found is what is equal. */
static void names_that_hash_alike_are_told_apart(void)
{
    dns_key was = server.key;
    server.key = (dns_key){{0, 0}};
    const row rows[] = {{"a.ex", DNS_A, 4, "\1\2\3\4"}, {"b.ex", DNS_A, 4, "\5\6\7\10"}, {"cc.ex", DNS_A, 4, "\1\1\1\1"},
                        {"a.b.ex", DNS_A, 4, "\2\2\2\2"}};
    dns_image *images[] = {zone_of("ex", rows, 4, 0), zone_of("ey", NULL, 0, 0), zone_of("foo", NULL, 0, 0)};
    dns_zones *zones = set_of(images, 3);
    assert(ask(zones, "a.ex", DNS_A, 0) && out[7] == 1 && ask(zones, "b.ex", DNS_A, 0) && out[7] == 1);
    assert(ask(zones, "cc.ex", DNS_A, 0) && out[7] == 1 && ask(zones, "a.b.ex", DNS_A, 0) && out[7] == 1);
    assert(ask(zones, "d.ex", DNS_A, 0) && rcode == DNS_NXDOMAIN && ask(zones, "x.ey", DNS_A, 0) && rcode == DNS_NXDOMAIN);
    assert(!ask(zones, "a.ez", DNS_A, 0) && ask(zones, "dd.ex", DNS_A, 0) && rcode == DNS_NXDOMAIN);
    assert(dns_zones_add(zones, images[0]->origin, images[0]->origin_len, images[0], 0, 0) == -1);
    dns_zones_free(zones);
    for (int i = 0; i < 3; i++)
        free(images[i]);
    server.key = was;
}

static void large_images_stay_where_they_are(void)
{
    uint8_t name[256];
    dns_image *images[2];
    dns_builder *b = dns_builder_new(name, wire("big", name), &server.key);
    assert(!add_row(b, "big", DNS_SOA, soa, 22));
    for (int i = 0; i < 9000; i++) {
        char owner[32];
        snprintf(owner, sizeof owner, "host%05d.big", i);
        assert(!add_row(b, owner, DNS_A, &i, 4));
    }
    assert(dns_builder_finish(b, &images[0]) == 0 && images[0]->size >= 1 << 20);
    dns_builder_free(b);
    images[1] = zone_of("ex", NULL, 0, 0);
    dns_zones *zones = set_of(images, 2);
    assert(ask(zones, "host08999.big", DNS_A, 0) && out[7] == 1 && zones->arena);
    assert(zones->entry[0].image == images[0] && zones->entry[1].image != images[1]);
    dns_zones_free(zones);
    zones = set_of(images, 1); /* alone, there is nothing to gather */
    assert(!zones->arena);
    dns_zones_free(zones);
    free(images[0]);
    free(images[1]);
}

static const row chains[] = {
    {"ex", DNS_NS, 0, "ns.sub.ex"}, {"ex", DNS_NS, 0, "ns.out"}, {"ex", DNS_NS, 0, "a.ex"},
    {"a.ex", DNS_A, 4, "\1\2\3\4"}, {"a.ex", DNS_AAAA, 16, "aaaaaaaaaaaaaaaa"},
    {"c.ex", DNS_CNAME, 0, "a.ex"}, {"loop.ex", DNS_CNAME, 0, "pool.ex"}, {"pool.ex", DNS_CNAME, 0, "loop.ex"},
    {"away.ex", DNS_CNAME, 0, "www.out"}, {"late.ex", DNS_CNAME, 0, "x.loading"}, {"gone.ex", DNS_CNAME, 0, "nope.ex"},
    {"cut.ex", DNS_CNAME, 0, "x.sub.ex"},
    {"d.ex", DNS_DNAME, 0, "e.ex"}, {"x.e.ex", DNS_A, 4, "\1\2\3\4"}, {"c.d.ex", DNS_A, 4, "\1\2\3\4"},
    {"grow.ex", DNS_DNAME, 0, "a.grow.ex"}, {"self.ex", DNS_DNAME, 0, "self.ex"}, {"up.ex", DNS_DNAME, 0, "ex"},
    {"root.ex", DNS_DNAME, 0, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.ex"},
    {"sub.ex", DNS_NS, 0, "ns.sub.ex"}, {"sub.ex", DNS_NS, 0, "a.ex"}, {"sub.ex", DNS_NS, 0, "ns.out"},
    {"ns.sub.ex", DNS_A, 4, "\1\2\3\4"}, {"sub.ex", DNS_DS, 6, "\0\1\10\2zz"},
    {"d.sub.ex", DNS_DNAME, 0, "ex"},
    {"svc.ex", DNS_HTTPS, 3, "\0\1\0"}, {"svc.ex", DNS_A, 4, "\1\2\3\4"}, {"svc.ex", DNS_HTTPS, 3, "\0\0\0"},
    {"svc.ex", DNS_HTTPS, 9, "\0\2\1a\2ex\0x"}, {"svc.ex", DNS_HTTPS, 7, "\0\3\3out\0"},
    {"alias.ex", DNS_SVCB, 11, "\0\0\4alia\2ex"}, {"alia.ex", DNS_SVCB, 11, "\0\0\4alib\2ex"}, {"alib.ex", DNS_SVCB, 8, "\0\0\1a\2ex"},
    {"alias.ex", DNS_SVCB, 11, "\0\0\4alib\2ex"},
    {"*.wild.ex", DNS_CNAME, 0, "a.ex"}, {"*.any.ex", DNS_A, 4, "\1\2\3\4"},
    {"two.ex", DNS_NSEC, 0, "ex"}, {"two.ex", DNS_A, 4, "\1\2\3\4"}, {"two.ex", DNS_TXT, 2, "\1x"},
    {"none.two.ex", DNS_NSEC, 0, "ex"},
};

static void chains_end_somewhere(void)
{
    for (int signing = 0; signing < 2; signing++) {
        dns_image *image = zone_of("ex", chains, sizeof chains / sizeof *chains, signing);
        dns_zones *zones = dns_zones_new(4, &server.key);
        assert(!dns_zones_add(zones, image->origin, image->origin_len, image, 0, 77));
        assert(!dns_zones_add(zones, (const uint8_t *)"\7loading", 9, NULL, 14, 0));
        assert(!dns_zones_add(zones, (const uint8_t *)"\3sub\2ex", 8, NULL, 24, 0) && !dns_zones_seal(zones));
        size_t n = ask(zones, "c.ex", DNS_A, DO);
        assert(count(n, 1, DNS_CNAME) == 1 && count(n, 1, DNS_A) == 1);
        static const unsigned own[] = {DNS_CNAME, DNS_ANY, DNS_NSEC, DNS_RRSIG};
        for (int i = 0; i < 4; i++) { /* what an alias may be asked itself */
            assert(ask(zones, "c.ex", own[i], DO));
            assert(ask(zones, "x.wild.ex", own[i], DO));
            assert(ask(zones, "x.any.ex", own[i], DO) && ask(zones, "two.ex", own[i], DO));
            assert(ask(zones, "none.two.ex", own[i], DO));
        }
        n = ask(zones, "loop.ex", DNS_A, 0);
        assert(rcode == 0 && count(n, 1, DNS_CNAME) == 2);
        n = ask(zones, "away.ex", DNS_A, 0);
        assert(rcode == 0 && count(n, 1, DNS_CNAME) == 1);
        assert(ask(zones, "late.ex", DNS_A, 0) && rcode == 0 && ask(zones, "gone.ex", DNS_A, DO) && rcode == DNS_NXDOMAIN);
        assert(ask(zones, "cut.ex", DNS_A, DO));
        n = ask(zones, "x.d.ex", DNS_A, DO);
        assert(count(n, 1, DNS_DNAME) == 1 && count(n, 1, DNS_CNAME) == 1 && count(n, 1, DNS_A) == 1);
        assert(ask(zones, "x.d.ex", DNS_CNAME, 0) && ask(zones, "d.ex", DNS_DNAME, DO) && ask(zones, "d.ex", DNS_A, 0));
        assert(ask(zones, "c.d.ex", DNS_A, 0)); /* below a DNAME: hidden */
        n = ask(zones, "x.grow.ex", DNS_A, 0);
        assert(count(n, 1, DNS_DNAME) == 1);
        assert(ask(zones, "x.self.ex", DNS_A, 0) && ask(zones, "a.up.up.up.ex", DNS_A, 0));
        char deep[256] = "";
        for (int i = 0; i < 90; i++)
            strcat(deep, "b.");
        strcat(deep, "root.ex");
        assert(ask(zones, deep, DNS_A, 0) && rcode == DNS_YXDOMAIN);
        n = ask(zones, "x.sub.ex", DNS_A, DO); /* the zone below is ours too, and not loaded */
        assert(rcode == DNS_SERVFAIL);
        n = ask(zones, "sub.ex", DNS_DS, DO); /* of this the zone above knows */
        assert(rcode == 0 && count(n, 1, DNS_DS) == 1);
        assert(ask(zones, "ex", DNS_DS, DO) && ask(zones, "x.loading", DNS_DS, 0) && rcode == DNS_SERVFAIL);
        n = ask(zones, "svc.ex", DNS_HTTPS, EDNS);
        assert(count(n, 1, DNS_HTTPS) == 4 && count(n, 3, DNS_A) >= 2);
        n = ask(zones, "alias.ex", DNS_SVCB, EDNS);
        assert(count(n, 3, DNS_SVCB) >= 1);
        n = ask(zones, "ex", DNS_SOA, EDNS | EXPIRE);
        assert(rcode == 0 && count(n, 1, DNS_SOA) == 1 && !memcmp(out + n - 8, "\0\x09\0\4\0\0\0\x4d", 8));
        assert(ask(zones, "x.loading", DNS_A, EDNS | EXPIRE) && ask(zones, "x.org", DNS_A, EDNS | EXPIRE) == 0);
        assert(ask(zones, "ex", DNS_NS, DO) && ask(zones, "ex", DNS_ANY, 0));
        dns_zones_free(zones);
        free(image);
    }
}

/* A chain of more links than are followed. */
static void long_chains_are_cut(void)
{
    uint8_t name[256], target[256];
    dns_image *image;
    dns_builder *b = dns_builder_new(name, wire("ex", name), &server.key);
    assert(!add_row(b, "ex", DNS_SOA, soa, 22));
    for (int i = 0; i < 30; i++) {
        char owner[16], next[16];
        snprintf(owner, sizeof owner, "l%d.ex", i);
        snprintf(next, sizeof next, "l%d.ex", i + 1);
        assert(!add_row(b, owner, DNS_CNAME, target, wire(next, target)));
    }
    assert(dns_builder_finish(b, &image) == 0);
    dns_builder_free(b);
    dns_zones *zones = set_of(&image, 1);
    size_t n = ask(zones, "l0.ex", DNS_A, STREAM);
    assert(rcode == 0 && count(n, 1, DNS_CNAME) == DNS_LINKS_MAX);
    dns_zones_free(zones);
    free(image);
}

/* Answers of every size: whole, without what may be left out, or cut. */
static void what_does_not_fit_is_said_so(void)
{
    uint8_t name[256], rdata[256];
    dns_image *image;
    dns_builder *b = dns_builder_new(name, wire("ex", name), &server.key);
    assert(!add_row(b, "ex", DNS_SOA, soa, 22) && !add_sig(b, "ex", DNS_SOA));
    for (int i = 0; i < 300; i++) {
        char owner[64];
        memset(rdata, i, sizeof rdata);
        rdata[0] = 250;
        assert(!add_row(b, "large.ex", DNS_TXT, rdata, 251));
        if (i < 4)
            assert(!add_row(b, "some.ex", DNS_TXT, rdata, 251));
        snprintf(owner, sizeof owner, "n%d.servers.ex", i);
        assert(!add_row(b, owner, DNS_A, &i, 4));
        if (i < 40)
            assert(!add_row(b, "many.ex", DNS_NS, rdata, wire(owner, rdata)));
        snprintf(owner, sizeof owner, "n%d.below.deleg.ex", i);
        if (i < 40)
            assert(!add_row(b, owner, DNS_A, &i, 4) && !add_row(b, "deleg.ex", DNS_NS, rdata, wire(owner, rdata)));
        assert(!add_sig(b, "signed.ex", DNS_TXT) || i);
        snprintf(owner, sizeof owner, "s%d.svc.ex", i);
        uint8_t service[300] = {0, 1};
        assert(!add_row(b, owner, DNS_A, &i, 4));
        assert(!add_row(b, "service.ex", DNS_SVCB, service, 2 + wire(owner, service + 2)));
    }
    for (int i = 0; i < 70; i++) { /* 280 octets of header, and so on: hundreds of pointers in one answer */
        for (int k = 0; k < 4; k++) {
            char owner[64];
            snprintf(owner, sizeof owner, "m%d.x.ex", i * 4 + k);
            uint8_t mx[300] = {0, (uint8_t)k};
            assert(!add_row(b, "mail.ex", DNS_MX, mx, 2 + wire(owner, mx + 2)));
        }
    }
    assert(!add_row(b, "signed.ex", DNS_TXT, "\1x", 2));
    assert(dns_builder_finish(b, &image) == DNS_BUILD_OK);
    dns_builder_free(b);
    dns_zones *zones = set_of(&image, 1);
    static const char *names[] = {"large.ex", "some.ex", "many.ex", "deleg.ex", "x.deleg.ex", "service.ex", "mail.ex", "signed.ex", "nope.ex"};
    static const unsigned types[] = {DNS_TXT, DNS_NS, DNS_SVCB, DNS_MX, DNS_A, DNS_ANY, DNS_RRSIG};
    static const int hows[] = {PLAIN, EDNS, DO, STREAM, STREAM | DO, DO | SMALL};
    unsigned cut = 0, whole = 0, failed = 0;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        for (unsigned t = 0; t < sizeof types / sizeof *types; t++)
            for (unsigned h = 0; h < sizeof hows / sizeof *hows; h++) {
                size_t n = ask(zones, names[i], types[t], hows[h]);
                assert(n && (hows[h] & STREAM || n <= 1232));
                cut += (out[2] & 2) != 0;
                failed += rcode == DNS_SERVFAIL;
                whole += !(out[2] & 2) && n > 400;
            }
    assert(cut > 10 && whole > 5 && failed > 0); /* 300 TXT are more than even a stream has */
    assert(ask(zones, "service.ex", DNS_SVCB, STREAM) && out[7] | out[6]);
    dns_zones_free(zones);
    free(image);
}

/* Pages: rounded up, huge where that pays, wherever the system has put them. */
static void pages_begin_where_huge_ones_can(void)
{
    void *kept[9];
    size_t sizes[9];
    for (int i = 0; i < 9; i++) {
        sizes[i] = i % 3 == 0 ? 5 << 20 : i % 3 == 1 ? 2 << 20 : 4096 * (size_t)(i + 1);
        kept[i] = dns_pages_take(&sizes[i]);
        assert(kept[i] && (sizes[i] < 2 << 20 || (uintptr_t)kept[i] % (2 << 20) == 0));
        memset(kept[i], 1, sizes[i]);
    }
    for (int i = 0; i < 9; i++)
        dns_pages_give(kept[i], sizes[i]);
    dns_pages_give(NULL, 4096);
}

int main(void)
{
    what_a_builder_refuses();
    a_set_refuses_what_it_cannot_hold();
    names_that_hash_alike_are_told_apart();
    large_images_stay_where_they_are();
    chains_end_somewhere();
    long_chains_are_cut();
    what_does_not_fit_is_said_so();
    pages_begin_where_huge_ones_can();
    puts("dns zone edges: ok");
    return 0;
}
