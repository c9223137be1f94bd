/* addresses.h: socket addresses for C tests. */
#ifndef TUDP_TEST_ADDRESSES_H
#define TUDP_TEST_ADDRESSES_H

#include "tudp.h"

#include <arpa/inet.h>
#include <string.h>

static inline tudp_sockaddr ipv4(uint32_t ip, uint16_t port)
{
    tudp_sockaddr a;
    memset(&a, 0, sizeof a);
    a.in4.sin_family = AF_INET;
    a.in4.sin_addr.s_addr = htonl(ip);
    a.in4.sin_port = htons(port);
    return a;
}

#endif
