/* Any bytes: what nests deeper than some depth nests deeper than every smaller one. */
#include "depth.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int json = 1, msgpack = 1;
    for (uint32_t most = 0; most <= TUDP_DEPTH_MOST; most += 8) {
        int j = tudp_depth_json(data, size, most), m = tudp_depth_msgpack(data, size, most);
        if (j > json || m > msgpack)
            abort();
        json = j;
        msgpack = m;
    }
    return 0;
}
