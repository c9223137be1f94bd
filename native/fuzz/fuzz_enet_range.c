/* Opens anything; what opens must close to something that opens to the same. */
#include "enet_range.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static en_range model;
    static uint8_t plain[4096], coded[3 * 4096], back[4096];
    long n = en_range_decompress(&model, data, size, plain, sizeof plain);
    if (n < 0)
        return 0;
    size_t m = en_range_compress(&model, plain, (size_t)n, coded, sizeof coded);
    if (n && !m)
        abort();
    if (n && (en_range_decompress(&model, coded, m, back, sizeof back) != n || memcmp(plain, back, (size_t)n)))
        abort();
    return 0;
}
