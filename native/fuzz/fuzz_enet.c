/* Datagrams into a server with a proven peer, between moves of the clock: what
 * arrives is echoed, memory stays under the caps, no more leaves to addresses
 * without proof than came from them.
 *
 * Input: [how u8], then steps of [what u8][length u8 or u16][bytes]. `how` & 1: sixteen
 * malformed datagrams end the peer; & 2: its rate is limited. `what` & 3: 0 the bytes
 * are a datagram as they are, 1 commands from the proven peer (header written here), 2
 * the same with a time, 3 the clock moves by the length in ms. Bit 2: from a stranger's
 * address. Bit 3: a 16-bit length. Bit 4: compressed by the coder first. Bit 5: alone;
 * else EN_VARIANTS changed copies follow, whose changes are drawn from a generator that
 * the datagram itself seeds. A peer that has left joins again at the next step.
 *
 * Every datagram that a step made is counted, the handshakes are not; at the end the
 * number is printed, and `native/run.py fuzz --ledger` writes it down.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "enet_loose.h"
#include "enet_range.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>

enum { EN_VARIANTS = 15, ROOM = 8192 };

/* What was freed is watched for 8 MiB, not for 256: a host per input would else be fresh pages each time. */
const char *__asan_default_options(void) { return "quarantine_size_mb=8"; }

static unsigned long long datagrams;

static void tell(void) { fprintf(stderr, "datagrams: %llu\n", datagrams); }

typedef struct sink {
    uint16_t id, session, time;
    int armed;
    uint64_t out;
} sink;

static void out(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to)
{
    sink *s = ctx;
    (void)to;
    s->out += len;
    if (s->armed && len >= 48 && (data[4] & 15) == EN_VERIFY_CONNECT) {
        s->time = en_get16(data + 2);
        s->id = en_get16(data + 8);
        s->session = data[11];
    }
    if (__asan_region_is_poisoned((void *)(uintptr_t)data, len))
        abort();
}

static void echo(en_host *h)
{
    for (uint32_t i = 0; i < en_event_count(h); i++) {
        en_event e = *en_event_at(h, i);
        if (e.kind != EN_EVENT_MESSAGE)
            continue;
        en_block *b = en_payload(h, e.data, e.length);
        if (b)
            en_send(h, e.peer, b, e.channel, e.delivery, 1);
        en_payload_drop(h, b);
    }
    en_events_done(h);
}

/* One datagram, or none, in a turn of its own. Around it and after its turn the buffer is poisoned, so that a
 * read beyond the end, or later, is seen; buffers take turns, so that it is seen for a while. */
static void turn(en_host *h, en_loose *loose, uint64_t now, const uint8_t *data, uint32_t len,
                 const tudp_sockaddr *from)
{
    static uint8_t rooms[8][ROOM] __attribute__((aligned(16)));
    static uint32_t next;
    uint8_t *room = rooms[next++ % 8];
    tudp_turn *t = en_loose_turn(loose, now);
    if (data) {
        ASAN_UNPOISON_MEMORY_REGION(room, len);
        memcpy(room, data, len);
        ASAN_POISON_MEMORY_REGION(room + len, ROOM - len);
        en_take(h, t, room, len, from, NULL);
    }
    if (en_deadline(h) <= now)
        en_due(h, t);
    echo(h);
    en_flush(h, t);
    ASAN_POISON_MEMORY_REGION(room, len);
}

static uint32_t connect_bytes(uint8_t *at, uint16_t client_id)
{
    uint8_t *end = en_header_write(at, EN_NO_ID, 0, 1, 4096);
    en_command c = {.type = EN_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1};
    c.u.greeting = (en_greeting){.peer_id = client_id, .incoming_session = 255, .outgoing_session = 255, .mtu = 1392,
                                 .window = 65536, .channels = 4, .interval = 5000, .acceleration = 2,
                                 .deceleration = 2, .connect_id = {1, 2, 3, 4}};
    return (uint32_t)(en_command_write(end, &c) - at);
}

/* ---- variants ---- */

static uint32_t draw(uint64_t *dice)
{
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    return (uint32_t)(*dice >> 32);
}

/* Changes `at` in one to three places; the new length. `kept` is an earlier datagram's commands. */
static uint32_t vary(uint8_t *at, uint32_t len, const uint8_t *kept, uint32_t kept_len, uint64_t *dice)
{
    static const uint32_t edges[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x6fff, 0x7000, 0x7fff, 0x8000, 0xffff,
                                     0x10000, 0x100000, 0x7fffffff, 0xffffffff};
    for (uint32_t n = 1 + draw(dice) % 3; n && len; n--) {
        uint32_t where = draw(dice) % len, value = draw(dice), edge = edges[value % 16];
        switch (draw(dice) % 8) {
        case 0: at[where] ^= (uint8_t)(1 << value % 8); break;
        case 1: at[where] = (uint8_t)value; break;
        case 2: at[where] = (uint8_t)(at[where] + value % 9 - 4); break; /* a number nearby */
        case 3:
            if (len - where >= 2)
                en_put16(at + where, (uint16_t)edge);
            break;
        case 4:
            if (len - where >= 4)
                en_put32(at + where, edge);
            break;
        case 5: len = where; break;
        case 6: { /* a stretch of itself elsewhere */
            uint32_t to = draw(dice) % len, far = where > to ? where : to, most = len - far;
            memmove(at + to, at + where, 1 + value % most);
            break;
        }
        case 7: { /* more commands behind */
            uint32_t more = kept_len < 4000 - len ? kept_len : 4000 - len;
            if (more)
                memcpy(at + len, kept, more);
            len += more;
        }
        }
    }
    return len;
}

/* ---- one input ---- */

typedef struct scene {
    en_host *host;
    en_loose loose;
    sink sink;
    uint64_t now;
    tudp_sockaddr from, stranger;
    uint16_t client_id;
    const uint8_t *kept; /* the commands of the step before */
    uint32_t kept_len;
} scene;

static void join(scene *s)
{
    uint8_t bytes[64];
    s->sink.armed = 1;
    s->client_id = (uint16_t)(s->client_id % 1000 + 1);
    turn(s->host, &s->loose, s->now, bytes, connect_bytes(bytes, s->client_id), &s->from);
    uint8_t *end = en_header_write(bytes, s->sink.id, (uint8_t)s->sink.session, 1, 1);
    en_command ack = {.type = EN_ACKNOWLEDGE, .channel = EN_CONTROL, .number = 1, .u.ack = {1, s->sink.time}};
    end = en_command_write(end, &ack);
    s->now += 1000;
    turn(s->host, &s->loose, s->now, bytes, (uint32_t)(end - bytes), &s->from);
    s->sink.armed = 0;
}

static void arrives(scene *s, const uint8_t *bytes, uint32_t len, const tudp_sockaddr *from)
{
    datagrams++;
    s->now += 1000;
    turn(s->host, &s->loose, s->now, bytes, len, from);
    const en_totals *t = en_host_totals(s->host);
    if (t->unproven_out > t->unproven_in || en_host_memory(s->host) > (4 << 20))
        abort();
}

/* A datagram of `what`, and its variants. */
static void step(scene *s, uint8_t what, const uint8_t *data, uint32_t len)
{
    static en_range coder;
    const tudp_sockaddr *from = what & 4 ? &s->stranger : &s->from;
    static uint8_t bytes[ROOM], copy[ROOM];
    uint32_t header = 0, whole;
    if (what & 3)
        header = (uint32_t)(en_header_write(bytes, s->sink.id, (uint8_t)s->sink.session, (what & 3) == 2,
                                            (uint16_t)(s->now / 1000000)) - bytes);
    memcpy(bytes + header, data, len);
    whole = header + len;
    if (what & 16 && header && len) {
        uint8_t coded[4096];
        size_t n = en_range_compress(&coder, data, len, coded, sizeof coded);
        if (n) {
            memcpy(bytes + header, coded, n);
            bytes[0] |= EN_COMPRESSED >> 8;
            whole = header + (uint32_t)n;
        }
    }
    arrives(s, bytes, whole, from);
    uint64_t dice = 0x9e3779b97f4a7c15u ^ whole;
    for (uint32_t i = 0; i < whole; i++)
        dice = (dice ^ bytes[i]) * 0x100000001b3u;
    dice += dice == 0;
    for (int i = 0; i < EN_VARIANTS && len && !(what & 32); i++) {
        memcpy(copy, bytes, whole);
        uint32_t changed = header + vary(copy + header, whole - header, s->kept, s->kept_len, &dice);
        arrives(s, copy, changed, from);
    }
    s->kept = data;
    s->kept_len = len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int told;
    if (!told++)
        atexit(tell); /* an input holds many */
    uint8_t how = 0;
    if (size) {
        how = *data++;
        size--;
    }
    en_config config;
    en_config_default(&config);
    config.accept = 1;
    config.secret[0] = 7;
    config.half_open = 16;
    config.max_message = 20000;
    config.max_fragments = 40;
    config.group_bytes = config.waiting_bytes = config.queue_bytes = 256 << 10;
    config.reassembly_bytes = 512 << 10;
    config.max_malformed = how & 1 ? 16 : 0;
    config.limit_loopback = how >> 1 & 1;
    scene s = {.host = en_host_new(&config), .now = 1000000000000u};
    s.from = (tudp_sockaddr){.in4 = {.sin_family = AF_INET, .sin_port = htons(4000)}};
    s.stranger = s.from;
    s.from.in4.sin_addr.s_addr = htonl(0x7f000002);
    s.stranger.in4.sin_addr.s_addr = htonl(0x7f000003);
    en_loose_init(&s.loose, out, &s.sink);
    join(&s);
    if (en_host_peers(s.host) != 1)
        abort();
    while (size >= 2) {
        uint8_t what = *data++;
        uint32_t len = *data++;
        size -= 2;
        if (what & 8 && size) {
            len = len << 8 | *data++;
            size--;
        }
        if ((what & 3) == 3) {
            s.now += (uint64_t)len * 1000000;
            turn(s.host, &s.loose, s.now, NULL, 0, NULL);
            continue;
        }
        if (len > size)
            len = (uint32_t)size;
        if (len > 4000)
            len = 4000;
        if (!en_host_peers(s.host))
            join(&s);
        step(&s, what, data, len);
        data += len;
        size -= len;
    }
    for (int i = 0; i < 60; i++) { /* everything ends */
        s.now += 2000000000;
        turn(s.host, &s.loose, s.now, NULL, 0, NULL);
    }
    if (en_host_peers(s.host) != 0)
        abort();
    turn(s.host, &s.loose, s.now + 1, NULL, 0, NULL);
    if (en_host_memory(s.host) != 0)
        abort();
    en_host_free(s.host);
    return 0;
}
