/* Codes random inputs with libenet and with ours, both ways, and stops at the
 * first difference. usage: range_equal COUNT SEED. Links libenet. */
#include <enet/enet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "enet_range.h"

static uint64_t state;
static uint32_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 100000;
    state = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1) * 0x9e3779b97f4a7c15u + 1;
    static en_range model;
    static uint8_t plain[4096], theirs[8192], ours[8192], opened[4096], opened_by_them[4096];
    void *coder = enet_range_coder_create();
    long compared = 0;
    for (long i = 0; i < count; i++) {
        uint32_t letters = (uint32_t[]){1, 2, 4, 16, 60, 256}[draw() % 6];
        size_t len = 1 + draw() % (draw() % 20 == 0 ? 4000 : 200);
        for (size_t k = 0; k < len; k++)
            plain[k] = (uint8_t)(draw() % letters);
        ENetBuffer buffer = {.data = plain, .dataLength = len};
        size_t a = enet_range_coder_compress(coder, &buffer, 1, len, theirs, sizeof theirs);
        size_t b = en_range_compress(&model, plain, len, ours, sizeof ours);
        if (a != b || memcmp(theirs, ours, a)) {
            printf("input %ld of %zu bytes: coded %zu and %zu bytes, not equal\n", i, len, a, b);
            return 1;
        }
        size_t c = enet_range_coder_decompress(coder, ours, b, opened_by_them, sizeof opened_by_them);
        long d = en_range_decompress(&model, theirs, a, opened, sizeof opened);
        if (c != len || d != (long)len || memcmp(plain, opened, len) || memcmp(plain, opened_by_them, len)) {
            printf("input %ld of %zu bytes: opened to %zu and %ld bytes\n", i, len, c, d);
            return 1;
        }
        compared++;
    }
    printf("%ld inputs equal both ways\n", compared);
    return 0;
}
