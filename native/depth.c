/* depth.c: one pass over a packet, no recursion, no allocation. */
#include "depth.h"

int tudp_depth_json(const uint8_t *data, size_t len, uint32_t most)
{
    size_t at;
    uint32_t depth = 0;
    for (at = 0; at < len; at++) {
        switch (data[at]) {
        case '"': /* a string: on to its end */
            for (at++; at < len && data[at] != '"'; at++)
                at += data[at] == '\\';
            break;
        case '{':
        case '[':
            if (++depth > most)
                return 1;
            break;
        case '}':
        case ']':
            depth -= depth > 0;
            break;
        }
    }
    return 0;
}

/* A number of `width` bytes, highest first; fewer are there than that: 0 with *at behind the end. */
static uint64_t number(const uint8_t *data, size_t len, size_t *at, uint32_t width)
{
    uint64_t value = 0;
    if (width > len - *at) {
        *at = len;
        return 0;
    }
    while (width--)
        value = value << 8 | data[(*at)++];
    return value;
}

static void skip(size_t len, size_t *at, uint64_t bytes)
{
    *at = bytes > len - *at ? len : *at + (size_t)bytes;
}

/* Past one item; returns how many items it holds. */
static uint64_t step(const uint8_t *data, size_t len, size_t *at)
{
    static const uint8_t fixed[] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17}; /* from 0xca on */
    uint8_t byte = data[(*at)++];
    uint64_t many;
    if (byte < 0x80 || byte >= 0xe0)
        return 0;
    if (byte < 0xa0)
        return (uint64_t)(byte & 0x0f) << (byte < 0x90);
    if (byte < 0xc0) {
        skip(len, at, byte & 0x1f);
        return 0;
    }
    if (byte < 0xc4)
        return 0;
    if (byte < 0xca) { /* bin, then ext: one byte of type more */
        many = number(data, len, at, 1u << (byte - 0xc4) % 3);
        skip(len, at, many + (byte >= 0xc7));
        return 0;
    }
    if (byte < 0xd9) {
        skip(len, at, fixed[byte - 0xca]);
        return 0;
    }
    if (byte < 0xdc) { /* str */
        many = number(data, len, at, 1u << (byte - 0xd9));
        skip(len, at, many);
        return 0;
    }
    return number(data, len, at, byte & 1 ? 4 : 2) << (byte >= 0xde); /* array, map */
}

int tudp_depth_msgpack(const uint8_t *data, size_t len, uint32_t most)
{
    uint64_t missing[TUDP_DEPTH_MOST]; /* items, of each open container */
    uint32_t depth = 0;
    size_t at = 0;
    if (most > TUDP_DEPTH_MOST)
        most = TUDP_DEPTH_MOST;
    while (at < len) {
        uint64_t items;
        while (depth && !missing[depth - 1])
            depth--;
        if (depth)
            missing[depth - 1]--;
        items = step(data, len, &at);
        if (!items)
            continue;
        if (depth == most)
            return 1;
        missing[depth++] = items;
    }
    return 0;
}
