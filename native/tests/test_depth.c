#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "../depth.h"

static int json(const char *text, uint32_t most) { return tudp_depth_json((const uint8_t *)text, strlen(text), most); }

int main(void)
{
    static uint8_t bomb[65000];
    uint32_t most;
    assert(!json("", 0) && !json("1", 0) && json("[", 0) && !json("[[]]", 2) && json("[[]]", 1));
    assert(!json("\"[[[[\\\"[[\"", 0) && json("\"a\"{", 0) && !json("\"[[\\", 0) && !json("[][][]", 1));
    memset(bomb, 0x91, sizeof bomb);
    for (most = 0; most <= TUDP_DEPTH_MOST; most++) {
        assert(!tudp_depth_msgpack(bomb, most, most) && tudp_depth_msgpack(bomb, most + 1, most));
        assert(tudp_depth_msgpack(bomb, sizeof bomb, most));
    }
    assert(tudp_depth_msgpack(bomb, sizeof bomb, UINT32_MAX));
    {
        static const uint8_t bytes[] = {0xc4, 3, 0x91, 0x91, 0x91, 0xd9, 1, 0x91, 0xc7, 0, 1, 0xcf, 0x91, 0x91, 0x91,
                                        0x91, 0x91, 0x91, 0x91, 0x91, 0xa2, 0x91, 0x91, 0xc0};
        static const uint8_t beside[] = {0x93, 0x91, 1, 0x91, 2, 0x91, 3}, cut[] = {0xdd, 0, 0};
        assert(!tudp_depth_msgpack(bytes, sizeof bytes, 0));
        assert(!tudp_depth_msgpack(beside, sizeof beside, 2) && tudp_depth_msgpack(beside, sizeof beside, 1));
        assert(!tudp_depth_msgpack(cut, sizeof cut, 0));
    }
    return 0;
}
