/* Any bytes as one datagram: every command that is read lies inside it, and what is
 * written back is the same.
 */
#include "enet_wire.h"

#include <stdlib.h>
#include <string.h>

static int same(const en_command *a, const en_command *b)
{
    return a->type == b->type && a->flags == b->flags && a->channel == b->channel && a->number == b->number &&
           a->length == b->length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    en_header head;
    if (en_header_read(data, size, &head))
        return 0;
    uint8_t room[48];
    uint8_t *end = en_header_write(room, head.id, head.session, head.timed, head.time);
    if (end - room != head.size || (room[0] | EN_COMPRESSED >> 8) != (data[0] | EN_COMPRESSED >> 8))
        abort();
    static const uint8_t id[4] = {1, 2, 3, 4};
    volatile uint32_t sum = en_checksum(data, head.size, id, data + head.size, size - head.size);
    (void)sum;
    size_t at = head.size;
    while (at < size) {
        en_command c, again;
        long took = en_command_read(data + at, size - at, &c);
        if (took < 0)
            break;
        if (took < 4 || (size_t)took > size - at || c.type == 0 || c.type >= EN_TYPES)
            abort();
        if (c.length && (c.data < data || c.data + c.length > data + size))
            abort();
        end = en_command_write(room, &c);
        if (end - room != en_command_size[c.type] || (size_t)(end - room) + c.length != (size_t)took)
            abort();
        if (memcmp(room + 1, data + at + 1, (size_t)(end - room) - 1)) /* byte 0 has two unused bits */
            abort();
        if (c.length == 0 && (en_command_read(room, (size_t)(end - room), &again) != took || !same(&c, &again)))
            abort();
        at += (size_t)took;
    }
    return 0;
}
