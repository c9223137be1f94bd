/* Every piece of memory that a part asks for is refused once: it says so, leaks nothing, and works when asked again. */
#undef NDEBUG
#include "refuse.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "../dns_forward_parts.h"
#include "../dns_list.h"
#include "../dns_zone.h"

static const dns_server server = {.key = {{7, 9}}, .udp_max = 1232};
static const dns_key key = {{3, 5}};

/* --- zones -------------------------------------------------------------------- */

static const uint8_t soa[] = "\0\0\0\0\0\5\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\x1e";
static const uint8_t sig[] = "\0\1\10\2\0\0\0\x3c\0\0\0\1\0\0\0\1\0\1\0signature";

typedef struct row {
    const char *owner;
    unsigned type, len;
    const char *rdata;
} row;

static void digits(uint8_t *at, int n, int number)
{
    for (; n--; number /= 10)
        at[n] = (uint8_t)('0' + number % 10);
}

/* Something of every kind that a zone can have; the signatures are of the shape, no more. */
static const row rows[] = {
    {"\2ex", DNS_NS, 7, "\2ns\2ex"},
    {"\2ns\2ex", DNS_A, 4, "\1\2\3\4"},
    {"\2ex", DNS_MX, 9, "\0\1\2ns\2ex"},
    {"\1*\1w\2ex", DNS_TXT, 4, "\3abc"},
    {"\1c\2ex", DNS_CNAME, 7, "\2ns\2ex"},
    {"\1d\2ex", DNS_DNAME, 4, "\2ot"},
    {"\3sub\2ex", DNS_NS, 11, "\2ns\3sub\2ex"},
    {"\2ns\3sub\2ex", DNS_A, 4, "\5\6\7\10"},
    {"\3sub\2ex", DNS_DS, 6, "\0\1\10\2zz"},
    {"\1a\2ex", DNS_NSEC, 7, "\1c\2ex\0\1"},
    {"\2ex", DNS_NSEC3PARAM, 5, "\1\0\0\1\0"},
    {"\40" "0123456789abcdefghijklmnopqrstuv\2ex", DNS_NSEC3, 27, "\1\0\0\1\0\24abcdefghijklmnopqrst\0"},
};

static dns_builder *filled(int many)
{
    dns_builder *b = dns_builder_new((const uint8_t *)"\2ex", 4, &key);
    int bad = !b;
    if (!bad)
        bad = dns_builder_add(b, (const uint8_t *)"\2ex", 4, DNS_SOA, 60, soa, 22);
    for (size_t i = 0; !bad && i < sizeof rows / sizeof *rows; i++) {
        size_t len = strlen(rows[i].owner) + 1;
        bad = dns_builder_add(b, (const uint8_t *)rows[i].owner, len, (uint16_t)rows[i].type, 60,
                              (const uint8_t *)rows[i].rdata, rows[i].len);
        uint8_t one[sizeof sig - 1];
        memcpy(one, sig, sizeof one);
        dns_put16(one, rows[i].type);
        if (!bad && rows[i].type != DNS_NS)
            bad = dns_builder_add(b, (const uint8_t *)rows[i].owner, len, DNS_RRSIG, 60, one, sizeof one);
    }
    for (int i = 0; !bad && i < many; i++) { /* more than the first tables hold, and deep */
        uint8_t name[] = "\4n000\1x\2ex", address[4] = {10, 0, (uint8_t)(i >> 8), (uint8_t)i};
        digits(name + 2, 3, i);
        bad = dns_builder_add(b, name, sizeof name, DNS_A, 60, address, 4);
    }
    if (bad < 0) {
        assert(bad == DNS_BUILD_MEMORY);
        dns_builder_free(b);
        return NULL;
    }
    return bad ? NULL : b;
}

static dns_image *built(void)
{
    dns_image *image;
    dns_builder *b = filled(0);
    assert(b && dns_builder_finish(b, &image) == DNS_BUILD_OK);
    dns_builder_free(b);
    return image;
}

static void a_builder_takes_what_it_can(void)
{
    for (unsigned n = 1;; n++) {
        refuse("memory", n, ENOMEM);
        dns_builder *b = filled(600);
        int once = refused();
        assert(once == !b);
        dns_builder_free(b);
        if (!once)
            break;
    }
}

/* Without memory for one record the zone is as it was before: it can be given again. */
static void a_record_that_was_refused_can_be_added_again(void)
{
    dns_builder *b = dns_builder_new((const uint8_t *)"\2ex", 4, &key);
    dns_image *image;
    unsigned times = 0;
    assert(!dns_builder_add(b, (const uint8_t *)"\2ex", 4, DNS_SOA, 60, soa, 22));
    for (int i = 0; i < 3000; i++) {
        uint8_t name[] = "\5n0000\1x\2ex";
        digits(name + 2, 4, i);
        refuse("memory", 1, ENOMEM);
        int bad = dns_builder_add(b, name, sizeof name, DNS_A, 60, (const uint8_t *)"abcd", 4);
        if (refused()) {
            assert(bad == DNS_BUILD_MEMORY);
            bad = dns_builder_add(b, name, sizeof name, DNS_A, 60, (const uint8_t *)"abcd", 4);
            times++;
        }
        assert(!bad);
    }
    assert(times > 5 && dns_builder_finish(b, &image) == DNS_BUILD_OK && image->records == 3001 && image->nodes == 3002);
    dns_builder_free(b);
    free(image);
}

static void an_image_that_could_not_be_finished_is_finished_the_next_time(void)
{
    dns_image *whole = built(), *image;
    dns_builder *b = filled(0);
    for (unsigned n = 1;; n++) {
        refuse("memory", n, ENOMEM);
        int bad = dns_builder_finish(b, &image);
        if (!refused())
            break;
        assert((bad == DNS_BUILD_MEMORY && !image) || bad == DNS_BUILD_OK); /* the last one only makes it smaller */
        free(image);
        if (bad == DNS_BUILD_OK)
            continue;
        dns_image *again;
        assert(dns_builder_finish(b, &again) == DNS_BUILD_OK);
        assert(again->size == whole->size && again->records == whole->records && again->ignored == whole->ignored &&
               !memcmp(again, whole, whole->size));
        free(again);
    }
    free(image);
    dns_builder_free(b);
    free(whole);
    b = dns_builder_new((const uint8_t *)"\2ex", 4, &key);
    assert(dns_builder_add(b, (const uint8_t *)"\1a\2ex", 6, DNS_A, 60, (const uint8_t *)"abcd", 4) == 0);
    assert(dns_builder_finish(b, &image) == DNS_BUILD_NO_SOA && !image);
    assert(dns_builder_add(b, (const uint8_t *)"\2ex", 4, DNS_SOA, 60, soa, 22) == 0); /* it comes late */
    assert(dns_builder_finish(b, &image) == DNS_BUILD_OK && image->records == 2 && image->magic == DNS_IMAGE_MAGIC);
    free(image);
    dns_builder_free(b);
}

/* Whatever is being written when the memory of the image is full: zones of every size, built anew for each piece. */
static void an_image_that_cannot_grow_is_not_made(void)
{
    static uint8_t text[2048];
    for (size_t i = 0; i < sizeof text; i += 256)
        text[i] = 255;
    for (unsigned size = 0; size < 40; size++)
        for (unsigned n = 1;; n++) {
            dns_image *image;
            dns_builder *b = filled((int)size % 5);
            for (unsigned k = 0; k < size; k++) {
                text[1] = (uint8_t)k;
                assert(!dns_builder_add(b, (const uint8_t *)"\1t\2ex", 6, DNS_TXT, 60, text, 256));
            }
            refuse("memory", n, ENOMEM);
            int bad = dns_builder_finish(b, &image);
            int once = refused();
            assert(once ? (bad == DNS_BUILD_MEMORY && !image) || bad == DNS_BUILD_OK : bad == DNS_BUILD_OK);
            free(image);
            dns_builder_free(b);
            if (!once)
                break;
        }
}

static void a_set_of_zones_is_whole_or_not_there(void)
{
    dns_image *image = built();
    for (unsigned n = 1;; n++) {
        refuse("memory", n, ENOMEM);
        dns_zones *zones = dns_zones_new(2, &key);
        int bad = 0;
        if (zones) {
            assert(!dns_zones_add(zones, image->origin, image->origin_len, image, 0, 0));
            assert(!dns_zones_add(zones, (const uint8_t *)"\2ot", 4, NULL, 14, 0)); /* still loading */
            bad = dns_zones_seal(zones);
        }
        int once = refused();
        assert(once == (!zones || bad < 0));
        dns_zones_free(zones);
        if (!once)
            break;
    }
    free(image);
}

/* --- cache, rules, lists ---------------------------------------------------------- */

static void a_cache_is_whole_or_not_there(void)
{
    for (unsigned n = 1;; n++) {
        refuse("memory", n, ENOMEM);
        dns_cache *cache = dns_cache_new(1 << 20, 60, &key);
        int once = refused();
        assert(once == !cache);
        dns_cache_free(cache);
        if (!once)
            break;
    }
    assert(!dns_cache_new(65535, 60, &key));
}

static int add(dns_rules *rules, int i)
{
    uint8_t name[] = "\6n00000\3net";
    digits(name + 2, 5, i);
    return dns_rules_add(rules, name, sizeof name, DNS_RULE_EXACT, DNS_RULE_NXDOMAIN, 0);
}

static void rules_stay_as_they_were_when_there_is_no_room(void)
{
    for (unsigned n = 1;; n++) {
        refuse("memory", n, ENOMEM);
        dns_rules *rules = dns_rules_new(100000, 10, &key);
        int once = refused();
        assert(once == !rules);
        dns_rules_free(rules);
        if (!once)
            break;
    }
    assert(!dns_rules_new(1, UINT32_MAX, &key)); /* more octets than a place can name */
    for (unsigned at = 1; at <= 3; at++) {
        dns_rules *rules = dns_rules_new(0, 0, &key);
        unsigned times = 0;
        for (int i = 0; i < 500; i++) {
            refuse("memory", at, ENOMEM);
            int bad = add(rules, i);
            if (refused()) {
                assert(bad == -2 && rules->count == (uint32_t)i);
                bad = add(rules, i);
                times++;
            }
            assert(bad == 0);
        }
        for (int i = 0; i < 500; i++)
            assert(add(rules, i) == 1);
        assert(rules->count == 500 && (at == 3 || times > 2));
        dns_rules_free(rules);
    }
}

static int read_text(const char *text)
{
    dns_names set[DNS_LIST_SETS] = {0};
    dns_list list = {.rules = dns_rules_new(0, 0, &key), .set = {&set[0], &set[1], &set[2], &set[3]}};
    int bad = list.rules ? dns_list_read(&list, DNS_LIST_ADBLOCK, (const uint8_t *)text, strlen(text)) : -1;
    for (int i = 0; !bad && i < DNS_LIST_SETS; i++)
        dns_names_seal(&set[i]); /* needs memory to be fast, and does without */
    if (!bad) {
        dns_query q;
        dns_query_name(&q, (const uint8_t *)"\2n7\3net", 8, &key);
        assert(dns_names_find(&set[DNS_LIST_BELOW], q.hash) == 8 && set[DNS_LIST_BELOW].count == 180);
        assert(list.lefts == 75 && list.count == 200);
    }
    for (int i = 0; i < DNS_LIST_SETS; i++)
        dns_names_free(&set[i]);
    dns_rules_free(list.rules);
    free(list.left);
    return bad;
}

static void a_list_is_read_whole_or_said_not_to_be(void)
{
    static char text[16384];
    unsigned refusals = 0;
    for (int i = 0; i < 200; i++)
        sprintf(text + strlen(text), "||n%d.net^\n", i % 180);
    for (int i = 0; i < 75; i++)
        strcat(text, "||a*b.net^\n"); /* for Python */
    for (unsigned n = 1;; n++) {
        refuse("memory", n, ENOMEM);
        int bad = read_text(text);
        if (!refused())
            break;
        assert(bad == 0 || bad == -1);
        refusals += bad != 0;
    }
    assert(refusals > 5 && read_text(text) == 0);
}

static void limits_of_replies_say_when_they_cannot_be(void)
{
    dns_rrl rrl;
    refuse("memory", 1, ENOMEM);
    assert(dns_rrl_init(&rrl, 1024, 5, 10, 2, &key) == -1 && refused());
    dns_rrl_free(&rrl);
    assert(dns_rrl_init(&rrl, 0, 5, 10, 2, &key) == -1 && dns_rrl_init(&rrl, 1000, 5, 10, 2, &key) == -1);
    assert(dns_rrl_init(&rrl, 1024, 0, 10, 2, &key) == -1 && dns_rrl_init(&rrl, 1024, 5, 0.5, 2, &key) == -1);
}

/* --- forwarder --------------------------------------------------------------------- */

static void a_forwarder_is_whole_or_not_there(void)
{
    static const dns_forward_calls calls;
    dns_cache *cache = dns_cache_new(1 << 16, 60, &key);
    uint8_t zone[DNS_NAME_MAX + 2] = {0};
    for (unsigned n = 1;; n++) {
        refuse("memory", n, ENOMEM);
        dns_forward *f = dns_forward_new(zone, 1, &server, cache, &calls);
        int once = refused();
        assert(once == !f);
        dns_forward_free(f);
        if (!once)
            break;
    }
    refuse("madvise", 1, EINVAL); /* a child would repeat what its parent draws: there is no forwarder then */
    assert(!dns_forward_new(zone, 1, &server, cache, &calls) && refused());
    assert(!dns_forward_new(zone, sizeof zone, &server, cache, &calls));
    dns_cache_free(cache);
}

static void the_kernel_of_a_forwarder_says_what_failed(void)
{
    static const char *steps[] = {"socket", "bind", "connect", "epoll_ctl"};
    tudp_sockaddr to[2] = {{.in4 = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x7f000001)}},
                           {.in6 = {.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = IN6ADDR_LOOPBACK_INIT}}};
    uint32_t numbers[64];
    uint8_t octets[8];
    refuse("memory", 1, ENOMEM);
    assert(!dns_forward_kernel() && refused());
    dns_forward_kernel_free(NULL);
    dns_forward_calls *c = dns_forward_kernel();
    refuse("epoll_create1", 1, EMFILE);
    assert(dns_forward_kernel_open(c) == -EMFILE && refused());
    dns_forward_kernel_close(c); /* it is not open */
    int fd = dns_forward_kernel_open(c);
    assert(fd >= 0 && dns_forward_kernel_open(c) == fd);
    for (int family = 0; family < 2; family++) {
        for (int i = 0; i < 4; i++) {
            refuse(steps[i], 1, EACCES);
            int port = c->open(c->ctx, &to[family], 0, 5);
            /* where there is no IPv6 its steps are not reached */
            assert(refused() ? port == -EACCES : family && port < 0);
        }
    }
    int port = c->open(c->ctx, &to[0], 0, 5);
    struct mmsghdr m = {.msg_hdr = {0}};
    assert(port >= 0 && c->ready(c->ctx, numbers, 100) == 0 && c->receive(c->ctx, port, &m, 1) == -EAGAIN);
    refuse("epoll_wait", 1, EINTR);
    assert(c->ready(c->ctx, numbers, 8) == -EINTR && refused());
    refuse("sendmmsg", 1, ENOBUFS);
    assert(c->send(c->ctx, port, &m, 1) == -ENOBUFS && refused());
    refuse("recvmmsg", 1, ECONNREFUSED);
    assert(c->receive(c->ctx, port, &m, 1) == -ECONNREFUSED && refused());
    refuse("getrandom", 1, 0); /* fewer octets than were asked for */
    assert(c->random(c->ctx, octets, sizeof octets) == -EIO && refused());
    assert(c->random(c->ctx, octets, sizeof octets) == 0);
    c->close(c->ctx, port);
    dns_forward_kernel_free(c);
}

int main(void)
{
    a_builder_takes_what_it_can();
    a_record_that_was_refused_can_be_added_again();
    an_image_that_could_not_be_finished_is_finished_the_next_time();
    an_image_that_cannot_grow_is_not_made();
    a_set_of_zones_is_whole_or_not_there();
    a_cache_is_whole_or_not_there();
    rules_stay_as_they_were_when_there_is_no_room();
    a_list_is_read_whole_or_said_not_to_be();
    limits_of_replies_say_when_they_cannot_be();
    a_forwarder_is_whole_or_not_there();
    the_kernel_of_a_forwarder_says_what_failed();
    puts("refused: ok");
    return 0;
}
