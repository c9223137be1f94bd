/* Datagrams into a server with a proven peer, between moves of the clock: what
 * arrives is echoed, memory stays under the caps, no more leaves to addresses
 * without proof than came from them.
 *
 * Input: steps of [what u8][length u8 or u16][bytes]. `what` & 3: 0 the bytes are a
 * datagram as they are, 1 commands from the proven peer (header written here), 2 the
 * same with a time, 3 the clock moves by the length in ms. Bit 2: from a stranger's
 * address. Bit 3: a 16-bit length. Bit 4: compressed by the coder first.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "enet_loose.h"
#include "enet_range.h"

#include <stdio.h>
#include <stdlib.h>

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
    volatile uint8_t sum = 0; /* every byte that leaves was written */
    for (uint32_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + data[i]);
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

static void turn(en_host *h, en_loose *loose, uint64_t now, const uint8_t *data, uint32_t len,
                 const tudp_sockaddr *from)
{
    tudp_turn *t = en_loose_turn(loose, now);
    if (data) {
        uint8_t *exact = malloc(len ? len : 1); /* a read beyond the end is seen */
        memcpy(exact, data, len);
        en_take(h, t, exact, len, from, NULL);
        if (en_deadline(h) <= now)
            en_due(h, t);
        echo(h);
        en_flush(h, t);
        free(exact);
        return;
    }
    if (en_deadline(h) <= now)
        en_due(h, t);
    echo(h);
    en_flush(h, t);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static en_range coder;
    uint8_t bytes[8192];
    if (!datagrams++)
        atexit(tell); /* an input holds many */
    en_config config;
    en_config_default(&config);
    config.accept = 1;
    config.secret[0] = 7;
    config.half_open = 16;
    config.max_message = 20000;
    config.max_fragments = 40;
    config.group_bytes = config.waiting_bytes = config.queue_bytes = 256 << 10;
    config.reassembly_bytes = 512 << 10;
    en_host *h = en_host_new(&config);
    sink s = {.armed = 1};
    en_loose loose;
    en_loose_init(&loose, out, &s);
    uint64_t now = 1000000000000u;
    tudp_sockaddr from = {.in4 = {.sin_family = AF_INET, .sin_port = htons(4000)}}, stranger = from;
    from.in4.sin_addr.s_addr = htonl(0x7f000002);
    stranger.in4.sin_addr.s_addr = htonl(0x7f000003);
    turn(h, &loose, now, bytes, connect_bytes(bytes, 3), &from);
    uint8_t *end = en_header_write(bytes, s.id, (uint8_t)s.session, 1, 1);
    en_command ack = {.type = EN_ACKNOWLEDGE, .channel = EN_CONTROL, .number = 1, .u.ack = {1, s.time}};
    end = en_command_write(end, &ack);
    turn(h, &loose, now, bytes, (uint32_t)(end - bytes), &from);
    if (en_host_peers(h) != 1)
        abort();
    s.armed = 0;
    while (size >= 2) {
        uint8_t what = *data++;
        uint32_t len = *data++;
        size -= 2;
        if (what & 8 && size) {
            len = len << 8 | *data++;
            size--;
        }
        if ((what & 3) == 3) {
            now += (uint64_t)len * 1000000;
            turn(h, &loose, now, NULL, 0, NULL);
            continue;
        }
        if (len > size)
            len = (uint32_t)size;
        if (len > 4000)
            len = 4000;
        uint32_t header = 0;
        if (what & 3)
            header = (uint32_t)(en_header_write(bytes, s.id, (uint8_t)s.session, (what & 3) == 2,
                                                (uint16_t)(now / 1000000)) - bytes);
        memcpy(bytes + header, data, len);
        uint32_t whole = header + len;
        if (what & 16 && header && len) {
            uint8_t coded[4096];
            size_t n = en_range_compress(&coder, data, len, coded, sizeof coded);
            if (n) {
                memcpy(bytes + header, coded, n);
                bytes[0] |= EN_COMPRESSED >> 8;
                whole = header + (uint32_t)n;
            }
        }
        data += len;
        size -= len;
        datagrams++;
        turn(h, &loose, now, bytes, whole, what & 4 ? &stranger : &from);
        const en_totals *t = en_host_totals(h);
        if (t->unproven_out > t->unproven_in || en_host_memory(h) > (4 << 20))
            abort();
    }
    for (int i = 0; i < 60; i++) { /* everything ends */
        now += 2000000000;
        turn(h, &loose, now, NULL, 0, NULL);
    }
    if (en_host_peers(h) != 0)
        abort();
    turn(h, &loose, now + 1, NULL, 0, NULL);
    if (en_host_memory(h) != 0)
        abort();
    en_host_free(h);
    return 0;
}
