/* What is not there, proven: NSEC and NSEC3 in every place of the order, with salt and turns, under opt-out, and in
 * zones whose records of denial are not what they should be. */
#include "zone_hand.h"

#define N3(hash, text) {hash ".ex", DNS_NSEC3, sizeof(text) - 1, text}
#define PROOF "\1\0\0\2\2\xab\xcd\24abcdefghijklmnopqrst\0"

/* Salt abcd, two turns; sub.ex, opt.ex and y.opt.ex have no record: opt-out. */
static const row hashed[] = {
    {"ex", DNS_NS, 0, "a.ex"},
    {"ex", DNS_NSEC3PARAM, 7, "\1\0\0\2\2\xab\xcd"},
    {"a.ex", DNS_A, 4, "\1\2\3\4"},
    {"*.w.ex", DNS_TXT, 2, "\1x"},
    {"sub.ex", DNS_NS, 0, "ns.elsewhere"},
    {"safe.ex", DNS_NS, 0, "ns.elsewhere"},
    {"safe.ex", DNS_DS, 6, "\0\1\10\2zz"},
    {"y.opt.ex", DNS_A, 4, "\1\2\3\4"},
    N3("f6i1cpmhc9bajdetil1v3bq8ltck2v5l", PROOF),
    N3("HBKETLLFD95RSQ4E2NS7SV4VRUVMBE0V", PROOF),
    N3("cv9ijpe7e2qgcafhn2rpqs22hn67fq35", PROOF),
    N3("mg1u634sfeeogo1paev538idhod0ofr6", PROOF),
    /* none of the order: too short, no base32hex, too deep */
    N3("abc", PROOF), N3("wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww", PROOF), N3("////////////////////////////////", PROOF),
    N3("::::::::::::::::::::::::::::::::", PROOF), N3("f6i1cpmhc9bajdetil1v3bq8ltck2v5l.a", PROOF),
};

static void nsec3_with_salt_and_opt_out(void)
{
    dns_image *image = zone_of("ex", hashed, sizeof hashed / sizeof *hashed, 1);
    dns_zones *zones = set_of(&image, 1);
    assert(image->nsec3_count == 4 && image->flags == (DNS_IMAGE_NSEC3 | DNS_IMAGE_SIGNED));
    size_t n = ask(zones, "nope.ex", DNS_A, DO);
    assert(rcode == DNS_NXDOMAIN && count(n, 2, DNS_NSEC3) >= 2 && count(n, 2, DNS_SOA) == 1);
    n = ask(zones, "p.q.nope.ex", DNS_A, DO);
    assert(rcode == DNS_NXDOMAIN && count(n, 2, DNS_NSEC3) >= 1);
    n = ask(zones, "a.ex", DNS_TXT, DO);
    assert(rcode == 0 && count(n, 2, DNS_NSEC3) == 1 && count(n, 2, DNS_RRSIG) == 2);
    n = ask(zones, "x.w.ex", DNS_TXT, DO);
    assert(rcode == 0 && count(n, 1, DNS_TXT) == 1 && count(n, 2, DNS_NSEC3) == 1);
    n = ask(zones, "x.w.ex", DNS_A, DO);
    assert(rcode == 0 && count(n, 2, DNS_NSEC3) >= 2);
    n = ask(zones, "x.sub.ex", DNS_A, DO); /* not signed: the closest that can be proven, and what covers it */
    assert(count(n, 2, DNS_NS) == 1 && count(n, 2, DNS_DS) == 0 && count(n, 2, DNS_NSEC3) >= 1);
    n = ask(zones, "x.safe.ex", DNS_A, DO);
    assert(count(n, 2, DNS_DS) == 1 && count(n, 2, DNS_NSEC3) == 0);
    n = ask(zones, "z.y.opt.ex", DNS_A, DO); /* below names without a record of their own */
    assert(rcode == DNS_NXDOMAIN && count(n, 2, DNS_NSEC3) >= 1);
    n = ask(zones, "y.opt.ex", DNS_TXT, DO);
    assert(rcode == 0 && count(n, 2, DNS_NSEC3) >= 1);
    n = ask(zones, "ex", DNS_TXT, DO);
    assert(rcode == 0 && count(n, 2, DNS_NSEC3) == 1);
    n = ask(zones, "nope.ex", DNS_A, EDNS);
    assert(rcode == DNS_NXDOMAIN && count(n, 2, DNS_NSEC3) == 0);
    dns_zones_free(zones);
    free(image);
}

static void an_apex_without_its_record_ends_the_search(void)
{
    const row rows[] = {{"ex", DNS_NSEC3PARAM, 5, "\1\0\0\0\0"},
                        N3("vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv", "\1\0\0\0\0\24abcdefghijklmnopqrst\0"),
                        {"a.ex", DNS_A, 4, "\1\2\3\4"}};
    dns_image *image = zone_of("ex", rows, 3, 1);
    dns_zones *zones = set_of(&image, 1);
    assert(image->nsec3_count == 1);
    size_t n = ask(zones, "nope.ex", DNS_A, DO);
    assert(rcode == DNS_NXDOMAIN && count(n, 2, DNS_NSEC3) == 1); /* the one that there is, once */
    n = ask(zones, "ex", DNS_TXT, DO);
    assert(rcode == 0 && count(n, 2, DNS_NSEC3) == 0);
    dns_zones_free(zones);
    free(image);
}

/* The blocks of SHA-1: names with a salt of 60 octets, and of 255. */
static void salts_of_every_length(void)
{
    for (unsigned salt = 0; salt <= 255; salt += 5) {
        uint8_t param[260] = {1, 0, 0, 1, (uint8_t)salt};
        memset(param + 5, 's', salt);
        const row rows[] = {{"ex", DNS_NSEC3PARAM, 5 + salt, (const char *)param}, {"a.ex", DNS_A, 4, "\1\2\3\4"},
                            N3("8ft5v6m4l3s3f2gsn53gf3msvak10a6q", PROOF), N3("cgur0fer540p5gosj3fkjd01jf6psu8t", PROOF)};
        uint8_t name[256];
        dns_image *image;
        dns_builder *b = dns_builder_new(name, wire("ex", name), &server.key);
        add_row(b, "ex", DNS_SOA, soa, 22);
        add_sig(b, "ex", DNS_SOA);
        for (int i = 0; i < 4; i++)
            assert(!add_row(b, rows[i].owner, rows[i].type, rows[i].rdata, rows[i].len));
        assert(dns_builder_finish(b, &image) == DNS_BUILD_OK);
        dns_builder_free(b);
        dns_zones *zones = set_of(&image, 1);
        size_t n = ask(zones, "a.ex", DNS_TXT, DO);
        assert(count(n, 2, DNS_NSEC3) >= 1);
        if (salt == 60) { /* it is found by its hash: alone, and its own */
            assert(count(n, 2, DNS_NSEC3) == 1);
            n = ask(zones, "ex", DNS_TXT, DO);
            assert(count(n, 2, DNS_NSEC3) == 1);
        }
        dns_zones_free(zones);
        free(image);
    }
}

static void parameters_that_are_not_ours_prove_nothing(void)
{
    static const struct { unsigned len; const char *param; } odd[] = {
        {5, "\2\0\0\0\0"}, {5, "\1\0\0\0\1"}, {5, "\1\0\0\xff\0"}, {5, "\1\0\0\0\0"}};
    for (int i = 0; i < 4; i++) { /* another hash; a salt that is not there; too many turns; and no record at all */
        row rows[] = {{"ex", DNS_NSEC3PARAM, odd[i].len, odd[i].param}, {"a.ex", DNS_A, 4, "\1\2\3\4"},
                      N3("8ft5v6m4l3s3f2gsn53gf3msvak10a6q", PROOF)};
        dns_image *image = zone_of("ex", rows, i == 3 ? 2 : 3, 1);
        dns_zones *zones = set_of(&image, 1);
        assert(!(image->flags & DNS_IMAGE_NSEC3));
        size_t n = ask(zones, "nope.ex", DNS_A, DO);
        assert(rcode == DNS_NXDOMAIN && count(n, 2, DNS_NSEC3) == 0 && count(n, 2, DNS_SOA) == 1);
        assert(ask(zones, "ex", DNS_TXT, DO) && ask(zones, "x.a.ex", DNS_A, DO));
        dns_zones_free(zones);
        free(image);
    }
}

static const row ordered[] = {
    {"ex", DNS_NSEC, 0, "a.ex"},
    {"a.ex", DNS_A, 4, "\1\2\3\4"},
    {"a.ex", DNS_NSEC, 0, "w.ex"},
    {"*.w.ex", DNS_TXT, 2, "\1x"},
    {"*.w.ex", DNS_NSEC, 0, "zz.ex"},
    {"empty.z.ex", DNS_A, 4, "\1\2\3\4"},
    {"empty.z.ex", DNS_NSEC, 0, "ex"},
    {"sub.ex", DNS_NS, 0, "ns.elsewhere"},
    {"sub.ex", DNS_NSEC, 0, "z.ex"},
    {"glue.sub.ex", DNS_NSEC, 0, "z.ex"}, /* below a cut: of another zone */
    {"c.ex", DNS_CNAME, 0, "a.ex"},
};

static void nsec_in_every_place(void)
{
    dns_image *image = zone_of("ex", ordered, sizeof ordered / sizeof *ordered, 1);
    dns_zones *zones = set_of(&image, 1);
    assert(image->nsec_count == 5);
    size_t n = ask(zones, "nope.ex", DNS_A, DO);
    assert(rcode == DNS_NXDOMAIN && count(n, 2, DNS_NSEC) == 2);
    n = ask(zones, "zzz.ex", DNS_A, DO); /* behind the last */
    assert(rcode == DNS_NXDOMAIN && count(n, 2, DNS_NSEC) == 2);
    n = ask(zones, "a.ex", DNS_TXT, DO);
    assert(rcode == 0 && count(n, 2, DNS_NSEC) == 1);
    n = ask(zones, "z.ex", DNS_A, DO); /* it is there, and empty */
    assert(rcode == 0 && count(n, 2, DNS_NSEC) == 1);
    n = ask(zones, "q.w.ex", DNS_TXT, DO);
    assert(rcode == 0 && count(n, 1, DNS_TXT) == 1 && count(n, 2, DNS_NSEC) == 1);
    n = ask(zones, "q.w.ex", DNS_A, DO);
    assert(rcode == 0 && count(n, 2, DNS_NSEC) >= 1);
    n = ask(zones, "x.sub.ex", DNS_A, DO);
    assert(count(n, 2, DNS_NS) == 1 && count(n, 2, DNS_NSEC) == 1);
    n = ask(zones, "c.ex", DNS_A, DO); /* the alias, and what is at its end */
    assert(rcode == 0 && count(n, 1, DNS_CNAME) == 1 && count(n, 1, DNS_A) == 1);
    char deep[256] = "";
    for (int i = 0; i < 124; i++)
        strcat(deep, "b.");
    strcat(deep, "w.ex"); /* as long as a name can be */
    n = ask(zones, deep, DNS_TXT, DO);
    assert(rcode == 0 && count(n, 1, DNS_TXT) == 1);
    dns_zones_free(zones);
    free(image);
}

static void keys_of_odd_octets(void)
{
    uint8_t a[512], b[512];
    size_t n = dns_order_key((const uint8_t *)"\3\0\1\2\2ex", a), m = dns_order_key((const uint8_t *)"\3\0\1\3\2ex", b);
    assert(n == m && memcmp(a, b, n) < 0);
}

int main(void)
{
    nsec3_with_salt_and_opt_out();
    an_apex_without_its_record_ends_the_search();
    salts_of_every_length();
    parameters_that_are_not_ours_prove_nothing();
    nsec_in_every_place();
    keys_of_odd_octets();
    puts("dns proofs: ok");
    return 0;
}
