/* dns_stage.c: what looks ahead in a batch answers as what does not. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_stage.h"

#define SLOTS 16
#define ROOM 512

static uint8_t reply[4096];
static uint32_t reply_len;

static uint8_t *room(tudp_turn *turn, uint32_t most)
{
    assert(most <= sizeof reply);
    return reply;
}

static int put(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to,
               const tudp_local *local)
{
    reply_len = len;
    return 0;
}

static void drain(tudp_turn *turn) {}

static uint32_t dice(uint32_t below)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

/* A question for one of 64 names, some of them cut short; its length. */
static uint32_t question(uint8_t *msg)
{
    uint32_t number = dice(64);
    memcpy(msg, "\0\0\1\0\0\1\0\0\0\0\0\0\4h000\7example\0\0\1\0\1", 30);
    msg[0] = (uint8_t)dice(256);
    msg[14] = (uint8_t)('0' + number / 8);
    msg[15] = (uint8_t)('0' + number % 8);
    return dice(8) ? 30 : dice(30);
}

static dns_stage *stage_of(dns_image **image)
{
    static const uint8_t origin[] = "\7example", soa[] = "\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1";
    static dns_range everyone = {.value = DNS_MAY_QUERY | DNS_MAY_RECURSE};
    dns_stage *s = calloc(1, sizeof *s);
    s->server = (dns_server){.key = {{3, 5}}, .udp_max = 1232};
    dns_stage_init(s);
    s->range = &everyone;
    s->ranges = s->views = 1;
    dns_builder *b = dns_builder_new(origin, sizeof origin, &s->server.key);
    dns_builder_add(b, origin, sizeof origin, DNS_SOA, 60, soa, 22);
    for (int n = 0; n < 32; n++) {
        uint8_t name[] = "\4h000\7example", address[4] = {10, 0, 0, (uint8_t)n};
        name[2] = (uint8_t)('0' + n / 8);
        name[3] = (uint8_t)('0' + n % 8);
        dns_builder_add(b, name, sizeof name, DNS_A, 60, address, 4);
    }
    assert(dns_builder_finish(b, image) == 0);
    dns_builder_free(b);
    dns_zones *zones = dns_zones_new(1, &s->server.key);
    assert(!dns_zones_add(zones, (*image)->origin, (*image)->origin_len, *image, 0, 0) && !dns_zones_seal(zones));
    s->view[0] = (dns_view){.zones = zones, .cache = dns_cache_new(65536, 60, &s->server.key), .recursive = 1, .final = 1};
    return s;
}

static void give(dns_stage *s, dns_image *image)
{
    dns_zones_free((dns_zones *)s->view[0].zones);
    dns_cache_free(s->view[0].cache);
    free(s);
    free(image);
}

int main(void)
{
    static const tudp_ops ops = {.room = room, .send = put, .drain = drain};
    static tudp_slot slot[SLOTS];
    static uint8_t data[SLOTS][ROOM];
    uint64_t counters[TUDP_WORDS] = {0};
    tudp_turn turn = {.counters = counters, .ops = &ops, .now = 1000000000u, .wall = 2000000000u};
    dns_image *image[2];
    dns_stage *ahead = stage_of(&image[0]), *plain = stage_of(&image[1]);
    uint32_t answered = 0;
    for (int i = 0; i < SLOTS; i++) {
        slot[i].data = data[i];
        slot[i].scratch = malloc(sizeof(dns_notes));
        slot[i].from.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(5353)};
    }
    for (int round = 0; round < 4000; round++) {
        uint32_t count = 1 + dice(SLOTS);
        turn.batch++;
        for (uint32_t i = 0; i < count; i++)
            slot[i].len = question(data[i]);
        for (uint32_t i = 0; i < count; i++) {
            uint8_t seen[4096];
            if (!dice(4))
                continue; /* a stage before this one took it */
            turn.next = i + 1 < count && dice(8) ? &slot[i + 1] : NULL;
            int n = dns_stage_take(&ahead->stage, &turn, &slot[i]);
            uint32_t len = reply_len;
            memcpy(seen, reply, len);
            turn.next = NULL;
            assert(dns_stage_take(&plain->stage, &turn, &slot[i]) == n);
            assert(n != TUDP_ANSWERED || (len == reply_len && !memcmp(seen, reply, len)));
            answered += n == TUDP_ANSWERED;
        }
    }
    assert(answered > 10000);
    give(ahead, image[0]);
    give(plain, image[1]);
    for (int i = 0; i < SLOTS; i++)
        free(slot[i].scratch);
    puts("stage: ok");
    return 0;
}
