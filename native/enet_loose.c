/* enet_loose.c: see enet_loose.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "enet_loose.h"

static uint8_t *room(tudp_turn *turn, uint32_t most)
{
    en_loose *loose = (en_loose *)turn;
    return most <= EN_MTU_MOST + 64 ? loose->room : NULL;
}

static int send_out(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to,
                    const tudp_local *local)
{
    en_loose *loose = (en_loose *)turn;
    (void)local;
    if (len + tail_len > sizeof loose->room)
        return -1;
    if (tail_len)
        memcpy(loose->room + len, tail, tail_len);
    loose->counters[TUDP_SEND_QUEUED]++;
    loose->counters[TUDP_BYTES_OUT] += len + tail_len;
    loose->out(loose->ctx, loose->room, len + tail_len, to);
    return 0;
}

static void drain(tudp_turn *turn) { (void)turn; }

static const tudp_ops ops = {.room = room, .send = send_out, .drain = drain};

void en_loose_init(en_loose *loose, en_out_fn out, void *ctx)
{
    memset(loose, 0, sizeof *loose);
    loose->turn.abi = TUDP_ABI;
    loose->turn.counters = loose->counters;
    loose->turn.ops = &ops;
    loose->out = out;
    loose->ctx = ctx;
}

tudp_turn *en_loose_turn(en_loose *loose, uint64_t now)
{
    loose->turn.now = now;
    return &loose->turn;
}
