#include "access.h"

int tudp_access_check(const tudp_access *a, const uint8_t ip[16])
{
    uint32_t low = 0, high = a->count; /* the answer is in [low, high) */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (memcmp(a->range[middle].from, ip, 16) <= 0)
            low = middle;
        else
            high = middle;
    }
    return a->range[low].allowed;
}
