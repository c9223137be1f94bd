/* Every cut of worked datagrams, from memory that ends where the datagram does,
 * so that a sanitizer sees a read too far. */
#include "enet_range.h"
#include "enet_wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t connect[] = {0x82, 0xff, 0, 1, 2, 3, 1, 2, 0, 0, 5, 0x70, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0,
                                  0, 0, 0, 0, 0, 0, 0x13, 0x88, 0, 0, 0, 2, 0, 0, 0, 2, 0xc0, 0xff, 0xee, 1, 0, 0, 0, 42};
static const uint8_t fragment[] = {0x88, 0, 0, 2, 0, 2, 0, 6, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0,
                                   '0', '1', '2', '3', '4', '5'};

static void cuts(const uint8_t *data, size_t len)
{
    en_command c;
    for (size_t cut = 0; cut <= len; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1);
        memcpy(exact, data, cut);
        long got = en_command_read(exact, cut, &c);
        assert(cut == len ? got == (long)len : got == -1);
        en_header h;
        assert((en_header_read(exact, cut, &h) == 0) == (cut >= 4 || (cut >= 2 && !(data[0] & 0x80))));
        free(exact);
    }
}

static void every_first_byte(void)
{
    for (int first = 0; first < 256; first++) {
        uint8_t bytes[48] = {(uint8_t)first};
        en_command c;
        int type = first & 15;
        long got = en_command_read(bytes, sizeof bytes, &c);
        assert(type >= 1 && type <= 12 ? got == en_command_size[type] : got == -1);
        assert(en_command_size[type] < 4 || en_command_read(bytes, 3, &c) == -1);
    }
}

static void what_is_read_is_written_alike(void)
{
    for (int type = 1; type <= 12; type++) {
        uint8_t bytes[64] = {(uint8_t)(0x80 | type)}, again[64] = {0};
        for (size_t i = 1; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(7 * i + (size_t)type);
        if (type >= EN_SEND_RELIABLE && type != EN_BANDWIDTH_LIMIT && type != EN_THROTTLE_CONFIGURE)
            bytes[4] = bytes[5] = bytes[6] = bytes[7] = 0; /* no payload */
        en_command c;
        long size = en_command_read(bytes, sizeof bytes, &c);
        assert(size == en_command_size[type]);
        assert(en_command_write(again, &c) == again + size && !memcmp(bytes, again, (size_t)size));
    }
}

static void a_length_beyond_the_end_is_refused(void)
{
    uint8_t bytes[6] = {0x86, 0, 0, 1, 0, 1};
    en_command c;
    assert(en_command_read(bytes, 6, &c) == -1);
    bytes[5] = 0;
    assert(en_command_read(bytes, 6, &c) == 6 && c.length == 0);
}

static void a_coder_stays_in_its_room(void)
{
    static en_range model;
    uint8_t plain[200], coded[400], back[200];
    for (int i = 0; i < 200; i++)
        plain[i] = (uint8_t)(i * 7 % 50);
    size_t n = en_range_compress(&model, plain, 200, coded, sizeof coded);
    assert(n && n < 200);
    for (size_t room = 0; room < n; room++)
        assert(en_range_compress(&model, plain, 200, coded, room) == 0);
    assert(en_range_compress(&model, plain, 200, coded, n) == n);
    assert(en_range_decompress(&model, coded, n, back, 199) == -1);
    assert(en_range_decompress(&model, coded, n, back, 200) == 200 && !memcmp(plain, back, 200));
}

int main(void)
{
    cuts(connect, sizeof connect);
    cuts(fragment, sizeof fragment);
    every_first_byte();
    what_is_read_is_written_alike();
    a_length_beyond_the_end_is_refused();
    a_coder_stays_in_its_room();
    assert(en_crc32(0, (const uint8_t *)"123456789", 9) == 0xcbf43926);
    return 0;
}
