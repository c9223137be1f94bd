/* The native stage over a zone, a list and a cache: any datagram, and its reply read back. */
#include <assert.h>
#include <stdlib.h>

#include "../dns_stage.h"

static dns_stage *world(void)
{
    static dns_stage *s;
    static dns_range everyone = {.value = DNS_MAY_QUERY | DNS_MAY_RECURSE};
    static const uint8_t origin[] = "\7example", soa[] = "\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1";
    if (s)
        return s;
    s = calloc(1, sizeof *s);
    s->server = (dns_server){.key = {{3, 5}}, .udp_max = 1232, .secrets = 1, .ecs = 1, .id_len = 1, .id = "x"};
    dns_stage_init(s);
    s->range = &everyone;
    s->ranges = 1;
    s->views = 1;
    s->log = calloc(1, sizeof *s->log + 4 * sizeof *s->log->entry);
    s->log->mask = 3;
    s->log->share = 0xffffffffu;
    s->log->random = 1;
    s->tap = calloc(1, sizeof *s->tap + 4096);
    s->tap->mask = 4095;
    s->tap->share = 0xffffffffu;
    s->tap->random = 1;
    dns_stage_notes_to(s, s->log, s->tap);
    dns_builder *b = dns_builder_new(origin, sizeof origin, &s->server.key);
    dns_image *image;
    dns_builder_add(b, origin, sizeof origin, DNS_SOA, 60, soa, 22);
    dns_builder_add(b, (const uint8_t *)"\1*\7example", 11, DNS_A, 60, (const uint8_t *)"abcd", 4);
    dns_builder_add(b, (const uint8_t *)"\3www\7example", 13, DNS_CNAME, 60, (const uint8_t *)"\1a\7example", 11);
    assert(dns_builder_finish(b, &image) == 0);
    dns_builder_free(b);
    dns_zones *zones = dns_zones_new(1, &s->server.key);
    assert(!dns_zones_add(zones, image->origin, image->origin_len, image, 0, 0) && !dns_zones_seal(zones));
    dns_rules *rules = dns_rules_new(4, 64, &s->server.key);
    dns_rules_add(rules, (const uint8_t *)"\3bad", 5, 3, DNS_RULE_ZERO, 0);
    s->view[0] = (dns_view){.zones = zones, .cache = dns_cache_new(65536, 60, &s->server.key), .lists = 1,
                            .list = {{.rules = rules, .ede = 15, .action = DNS_RULE_ZERO, .ends = 1}},
                            .recursive = 1, .final = 1, .whole_any = 1};
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[1232];
    static const uint8_t ip[16];
    dns_stage *s = world();
    dns_notes notes = {.client = {.ip_len = 4, .now = 9}};
    dns_query q;
    int n = dns_stage_answer(s, data, size, &notes.client, ip, 1000000000u, 2000000000u, out, &notes, &q);
    s->log->tail = s->log->head;
    static uint8_t frames[4096];
    size_t told = dns_tap_waiting(s->tap), at = 0;
    dns_tap_take(s->tap, frames, told);
    while (at < told)
        at += 4 + dns_get32(frames + at);
    assert(at == told && (n > 0) == (told || s->tap->lost));
    s->tap->lost = 0;
    if (n <= 0)
        return 0;
    dns_walk walk;
    dns_record record;
    int more;
    assert(n <= 1232 && out[2] & 0x80 && !memcmp(out, data, 2) && dns_walk_begin(&walk, out, (size_t)n) == 0);
    while ((more = dns_walk_next(&walk, &record)) == 1)
        ;
    assert(more == 0);
    return 0;
}
