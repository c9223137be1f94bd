/* dns_proxied.h: the header of the PROXY protocol, version 2, in front of a message.
 *
 * A proxy says in it for whom it asks. Read only from sources that are listed as
 * proxies (spec T6), and from those it must be there. Nothing is allocated or kept.
 */
#ifndef DNS_PROXIED_H
#define DNS_PROXIED_H

#include <stddef.h>
#include <stdint.h>

#define DNS_PROXIED_LEAST 16

typedef struct dns_proxied {
    uint8_t told;    /* 0: the proxy asks for itself, or does not say for whom */
    uint8_t ip[16];  /* IPv4 as ::ffff:a.b.c.d */
    uint16_t port;   /* host order */
} dns_proxied;

/* The octets of the header at the start of `msg`, or 0 when there is none or it is broken. */
size_t dns_proxied_read(const uint8_t *msg, size_t len, dns_proxied *from);

#endif
