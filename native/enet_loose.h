/* enet_loose.h: a turn without an endpoint, for whoever drives a host by hand: the
 * sans-io face, plain C tests, the fuzzer. Every datagram goes to a function.
 */
#ifndef EN_LOOSE_H
#define EN_LOOSE_H

#include "enet.h"

typedef void (*en_out_fn)(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to);

typedef struct en_loose {
    tudp_turn turn; /* first: the call table finds the rest through it */
    uint64_t counters[TUDP_WORDS];
    en_out_fn out;
    void *ctx;
    uint8_t room[2 * EN_MTU_MOST];
} en_loose;

void en_loose_init(en_loose *loose, en_out_fn out, void *ctx);
tudp_turn *en_loose_turn(en_loose *loose, uint64_t now); /* ns */

#endif
