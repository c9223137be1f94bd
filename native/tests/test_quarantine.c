#undef NDEBUG
#include <assert.h>
#include <errno.h>

#include "../quarantine.h"

int main(void)
{
    static tudp_quarantine q;
    static const uint8_t poison[] = "poison", other[] = "poisox";
    tudp_slot slot = {.data = (uint8_t *)poison, .len = 6};
    tudp_turn turn = {0};

    tudp_quarantine_init(&q);
    assert(q.stage.abi == TUDP_ABI && q.stage.take(&q.stage, &turn, &slot) == TUDP_PASS);
    assert(tudp_quarantine_add(&q, poison, 6) == 0);
    assert(q.stage.take(&q.stage, &turn, &slot) == TUDP_DROP(TUDP_DENIED));
    slot.len = 5; /* a prefix is another packet */
    assert(q.stage.take(&q.stage, &turn, &slot) == TUDP_PASS);
    slot.data = (uint8_t *)other;
    slot.len = 6;
    assert(q.stage.take(&q.stage, &turn, &slot) == TUDP_PASS);
    slot.len = 0;
    assert(q.stage.take(&q.stage, &turn, &slot) == TUDP_PASS);
    assert(tudp_quarantine_add(&q, NULL, 0) == 0); /* the empty datagram */
    assert(q.stage.take(&q.stage, &turn, &slot) == TUDP_DROP(TUDP_DENIED));
    while (q.count < TUDP_KEPT_OUT)
        assert(tudp_quarantine_add(&q, other, 6) == 0);
    assert(tudp_quarantine_add(&q, other, 6) == -ENOSPC);
    return 0;
}
