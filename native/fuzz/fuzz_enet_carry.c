/* Any bytes as a peer that another process hands over: refused, or a peer whose memory is given back at its
 * end. It hears a few datagrams of its own channels, sends what it says is queued, and is saved again. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "enet_loose.h"

#include <stdlib.h>
#include <string.h>

static void out(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to)
{
    (void)data, (void)to;
    *(uint64_t *)ctx += len;
}

static void turn(en_host *h, en_loose *loose, uint64_t now)
{
    tudp_turn *t = en_loose_turn(loose, now);
    if (en_deadline(h) <= now)
        en_due(h, t);
    en_events_done(h);
    en_flush(h, t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t sent = 0, now = 1000000000000u;
    en_config config;
    en_config_default(&config);
    config.half_open = 16;
    config.accept = 1;
    en_host *h = en_host_new(&config);
    en_loose loose;
    en_loose_init(&loose, out, &sent);
    en_peer *p = en_peer_load(h, now, data, size);
    if (p) {
        en_peer_view v;
        en_peer_look(h, p, &v);
        uint64_t again = en_peer_save(h, p, NULL, 0);
        uint8_t *copy = malloc(again ? again : 1);
        if (en_peer_save(h, p, copy, again) != again)
            abort();
        free(copy);
        for (uint16_t n = 0; n < 4 && en_peer_state(p) == EN_CONNECTED; n++) { /* it is heard, and spoken to */
            uint8_t room[64], *end = en_header_write(room, v.our_id, 0, 1, n);
            en_command c = {.type = EN_SEND_RELIABLE, .flags = EN_FLAG_ACK, .number = (uint16_t)(n + 1)};
            end = en_command_write(end, &c);
            en_take(h, en_loose_turn(&loose, now + n), room, (uint32_t)(end - room), &v.address, NULL);
            en_block *b = en_payload(h, room, 8);
            if (en_peer_state(p) == EN_CONNECTED)
                en_send(h, p, b, (uint8_t)n, EN_RELIABLE, 0);
            en_payload_drop(h, b);
            en_events_done(h);
        }
    }
    for (int i = 0; i < 160; i++) /* nobody answers; whoever claims odd numbers may live on */
        turn(h, &loose, now += i < 80 ? 1000000000 : 60000000000);
    if (en_host_peers(h))
        en_peer_forget(h, p);
    turn(h, &loose, now + 1);
    if (en_host_memory(h))
        abort();
    en_host_free(h);
    return 0;
}
