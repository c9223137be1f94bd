/* dns_proxied.c: every header is read to its end, cut ones and strangers are none, and the stage asks for the client. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_proxied.h"
#include "../dns_stage.h"

static const uint8_t mark[] = "\r\n\r\n\0\r\nQUIT\n";
static const uint8_t question[] = "\0\7\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1";
static uint8_t reply[4096];
static uint32_t reply_len;
static tudp_sockaddr reply_to;

static size_t header(uint8_t *out, uint8_t command, uint8_t kind, const void *rest, uint16_t size)
{
    memcpy(out, mark, 12);
    out[12] = command;
    out[13] = kind;
    out[14] = (uint8_t)(size >> 8);
    out[15] = (uint8_t)size;
    memcpy(out + 16, rest, size);
    return 16u + size;
}

static void reads(void)
{
    static const uint8_t four[] = {192, 0, 2, 7, 127, 0, 0, 1, 0x14, 0xe9, 0, 53, 'T', 'L', 'V'};
    uint8_t six[36] = {0x20, 1, 0xd, 0xb8, [32] = 0x14, 0xe9, 0, 53}, msg[300];
    dns_proxied from;
    for (int kind = 0; kind < 256; kind++) {
        int good = kind == 0x11 || kind == 0x12;
        size_t n = header(msg, 0x21, (uint8_t)kind, four, sizeof four), got = dns_proxied_read(msg, n, &from);
        assert(got == (good || kind == 0 ? n : 0));
        assert(from.told == good && (!good || (from.port == 5353 && !memcmp(from.ip + 10, "\xff\xff\xc0\0\2\7", 6))));
    }
    size_t n = header(msg, 0x21, 0x22, six, sizeof six);
    assert(dns_proxied_read(msg, n, &from) == n && from.told && from.port == 5353 && !memcmp(from.ip, six, 16));
    for (size_t cut = 0; cut < n; cut++)
        assert(dns_proxied_read(msg, cut, &from) == 0);
    for (int command = 0; command < 256; command++) {
        header(msg, (uint8_t)command, 0x22, six, sizeof six);
        assert(dns_proxied_read(msg, n, &from) == (command == 0x20 || command == 0x21 ? n : 0));
        assert(from.told == (command == 0x21));
    }
    for (int octet = 0; octet < 12; octet++) {
        header(msg, 0x21, 0x22, six, sizeof six);
        msg[octet] ^= 1;
        assert(dns_proxied_read(msg, n, &from) == 0);
    }
    assert(!dns_proxied_read(msg, header(msg, 0x21, 0x12, four, 11), &from));
    assert(!dns_proxied_read(msg, header(msg, 0x21, 0x22, six, 35), &from));
    header(msg, 0x21, 0x12, four, 12);
    msg[14] = 0xff;
    assert(!dns_proxied_read(msg, sizeof msg, &from)); /* a length that lies */
}

static uint8_t *room(tudp_turn *turn, uint32_t most) { return most <= sizeof reply ? reply : NULL; }

static int put(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to,
               const tudp_local *local)
{
    reply_len = len;
    reply_to = *to;
    return 0;
}

static void drain(tudp_turn *turn) {}

/* Only 192.0.2.7 may ask, and 127.0.0.9 is a proxy. */
static void answers(void)
{
    static const tudp_ops ops = {.room = room, .send = put, .drain = drain};
    static const uint8_t four[] = {192, 0, 2, 7, 127, 0, 0, 1, 0x14, 0xe9, 0, 53};
    static dns_range ranges[5] = {{.from = {0}},
                                  {.from = "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\11", .value = DNS_PROXY},
                                  {.from = "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\12"},
                                  {.from = "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\7", .value = DNS_MAY_QUERY},
                                  {.from = "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\10"}};
    uint64_t counters[TUDP_WORDS] = {0};
    tudp_turn turn = {.counters = counters, .ops = &ops, .now = 1000000000u, .wall = 2000000000u};
    dns_stage *s = calloc(1, sizeof *s);
    s->server = (dns_server){.key = {{3, 5}}, .udp_max = 1232};
    dns_stage_init(s);
    s->range = ranges;
    s->ranges = 5;
    s->views = 1;
    s->view[0].final = 1;
    uint8_t *scratch = calloc(1, s->stage.scratch), data[512];
    tudp_slot slot = {.data = data, .scratch = scratch};
    slot.from.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(4000)};
    slot.from.in4.sin_addr.s_addr = htonl(0x7f000009);
    size_t n = header(data, 0x21, 0x12, four, sizeof four);
    memcpy(data + n, question, sizeof question - 1);
    slot.len = (uint32_t)(n + sizeof question - 1);
    assert(dns_stage_take_proxied(&s->stage, &turn, &slot) == TUDP_ANSWERED);
    assert((reply[3] & 15) == DNS_REFUSED && reply_to.in4.sin_port == htons(4000)); /* by nobody's zone: it may ask */
    assert(slot.len == sizeof question - 1 && !memcmp(slot.data, question, slot.len));
    assert(dns_stage_notes(s, &slot)->client.port == 5353 && s->answers[DNS_FROM_SERVER][DNS_REFUSED] == 1 && s->said_ede == 20);
    /* the proxy itself may not, and must say so in a header */
    n = header(data, 0x20, 0, "", 0);
    memcpy(data + n, question, sizeof question - 1);
    slot.len = (uint32_t)(n + sizeof question - 1);
    assert(dns_stage_take_proxied(&s->stage, &turn, &slot) == TUDP_ANSWERED && s->said_ede == 18);
    memcpy(data, question, slot.len = sizeof question - 1);
    assert(dns_stage_take_proxied(&s->stage, &turn, &slot) == TUDP_DROP(TUDP_MALFORMED));
    /* a header from a stranger is a question of an odd kind */
    slot.from.in4.sin_addr.s_addr = htonl(0xc0000207);
    n = header(data, 0x21, 0x12, four, sizeof four);
    memcpy(data + n, question, sizeof question - 1);
    slot.len = (uint32_t)(n + sizeof question - 1);
    assert(dns_stage_take_proxied(&s->stage, &turn, &slot) == TUDP_ANSWERED && (reply[3] & 15) == DNS_NOTIMP);
    memcpy(data, question, slot.len = sizeof question - 1);
    assert(dns_stage_take_proxied(&s->stage, &turn, &slot) == TUDP_ANSWERED && s->said_ede == 20);
    free(scratch);
    free(s);
}

int main(void)
{
    reads();
    answers();
    return 0;
}
