/* shed.h: known peers go first. While more comes than can be served, and strangers make up much of it, strangers
 * are let in at a rate; the rest of them is dropped, in the kernel before it takes room in the receive buffer, or,
 * where the kernel has no filters, before any stage sees it.
 *
 * Who is a stranger tells a stage (`tudp_ops.strangers`): whoever opens with two bytes of a certain form. Called by
 * batch.c alone; no memory, one thread.
 */
#ifndef TUDP_SHED_H
#define TUDP_SHED_H

#include <stdint.h>
#include <string.h>

struct tudp_batch;

#define TUDP_SHED_BUSY 5000000u    /* ns without an empty queue before anything is shed */
#define TUDP_SHED_WINDOW 50000000u /* ns between two looks while shedding */
#define TUDP_SHED_GROW 1000000000u /* ns without a full buffer, then more are let in again */
#define TUDP_SHED_MOST 100000u     /* strangers a second that are let in at most while shedding; at first half of them */
#define TUDP_SHED_LEAST 12500u     /* below this their number is not halved again, however full the buffer stays */

typedef struct tudp_shed {
    uint16_t mask, value; /* a stranger's first two bytes, in network order; mask 0: nobody is one */
    uint8_t on;
    uint8_t pressed;      /* memory is short: no stranger is let in */
    uint8_t filtering;    /* the kernel has our filter */
    uint32_t rate;        /* strangers a second that are let in */
    uint32_t window_most; /* of one window */
    uint32_t let_in;      /* in this window */
    uint32_t seen;        /* strangers in this window, or since the queue was empty last */
    uint32_t drops;       /* the kernel's count when the window began */
    uint64_t began;       /* the window */
    uint64_t look_at;     /* ns: when to look next */
    uint64_t over_at;     /* when the buffer was found too full last */
} tudp_shed;

static inline int tudp_shed_knows(const tudp_shed *s, const uint8_t *data, uint32_t len)
{
    return s->mask && len >= 2 && ((uint16_t)(data[0] << 8 | data[1]) & s->mask) == s->value;
}

/* A stranger has come. 1: drop it. */
static inline int tudp_shed_drops(tudp_shed *s)
{
    s->seen++;
    return s->pressed || (s->on && ++s->let_in > s->window_most);
}

/* After a receive call: begin to shed, look again, or end it. */
void tudp_shed_watch(struct tudp_batch *b);
/* End it now. Also takes away the filter that a process before this one has left on the socket. */
void tudp_shed_end(struct tudp_batch *b);

#endif
