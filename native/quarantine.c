#include "quarantine.h"

#include <errno.h>

int tudp_quarantine_has(const tudp_quarantine *q, const uint8_t *data, uint32_t len)
{
    for (uint32_t i = 0; i < q->count; i++)
        if (q->packets[i].len == len && (len == 0 || memcmp(q->packets[i].data, data, len) == 0))
            return 1;
    return 0;
}

static int take(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot)
{
    const tudp_quarantine *q = stage->self;
    (void)turn;
    if (q->count && tudp_quarantine_has(q, slot->data, slot->len))
        return TUDP_DROP(TUDP_DENIED);
    return TUDP_PASS;
}

void tudp_quarantine_init(tudp_quarantine *q)
{
    memset(q, 0, sizeof *q);
    q->stage.abi = TUDP_ABI;
    q->stage.name = "quarantine";
    q->stage.self = q;
    q->stage.take = take;
}

int tudp_quarantine_add(tudp_quarantine *q, const uint8_t *data, uint32_t len)
{
    if (q->count >= TUDP_KEPT_OUT)
        return -ENOSPC;
    q->packets[q->count].data = data;
    q->packets[q->count].len = len;
    q->count++;
    return 0;
}
