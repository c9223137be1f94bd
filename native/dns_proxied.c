/* dns_proxied.c: see dns_proxied.h. */
#include "dns_proxied.h"

#include <string.h>

enum { LOCAL = 0x20, PROXY = 0x21, UNSPECIFIED = 0, INET = 1, INET6 = 2, STREAM = 1, DATAGRAM = 2 };

size_t dns_proxied_read(const uint8_t *msg, size_t len, dns_proxied *from)
{
    static const uint8_t mark[12] = "\r\n\r\n\0\r\nQUIT\n";
    memset(from, 0, sizeof *from);
    if (len < DNS_PROXIED_LEAST || memcmp(msg, mark, sizeof mark))
        return 0;
    size_t rest = (size_t)(msg[14] << 8 | msg[15]);
    if (rest > len - DNS_PROXIED_LEAST)
        return 0;
    if (msg[12] == LOCAL)
        return DNS_PROXIED_LEAST + rest;
    unsigned family = msg[13] >> 4, kind = msg[13] & 15;
    if (msg[12] != PROXY || kind > DATAGRAM)
        return 0;
    if (family == UNSPECIFIED || kind == 0)
        return msg[13] == 0 ? DNS_PROXIED_LEAST + rest : 0;
    size_t size = family == INET ? 4 : family == INET6 ? 16 : 0;
    if (!size || rest < 2 * size + 4)
        return 0;
    const uint8_t *at = msg + DNS_PROXIED_LEAST;
    from->told = 1;
    if (size == 4)
        from->ip[10] = from->ip[11] = 0xff;
    memcpy(from->ip + 16 - size, at, size);
    from->port = (uint16_t)(at[2 * size] << 8 | at[2 * size + 1]);
    return DNS_PROXIED_LEAST + rest;
}
