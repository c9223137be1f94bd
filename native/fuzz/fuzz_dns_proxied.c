/* Any octets as a PROXYv2 header: it ends within them, and what it tells is in it. */
#include <assert.h>
#include <string.h>

#include "../dns_proxied.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dns_proxied from;
    size_t n = dns_proxied_read(data, size, &from);
    assert(n <= size && (n == 0 || n >= DNS_PROXIED_LEAST) && (n || !from.told));
    if (from.told && data[13] >> 4 == 1)
        assert(!memcmp(from.ip + 12, data + 16, 4));
    return 0;
}
