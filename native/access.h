/* access.h: who may ask, by prefix of address.
 *
 * The lists are compiled to sorted ranges of addresses, each with a verdict; a
 * question is one binary search. Read-only while in use.
 */
#ifndef TUDP_ACCESS_H
#define TUDP_ACCESS_H

#include "tudp.h"

typedef struct tudp_range {
    uint8_t from[16]; /* first address of the range, canonical; it ends where the next begins */
    uint8_t allowed;
    uint8_t pad[7];
} tudp_range;

typedef struct tudp_access {
    uint32_t count; /* >= 1; the first range begins at :: */
    uint32_t pad;
    tudp_range range[];
} tudp_access;

/* 1: allowed. */
int tudp_access_check(const tudp_access *a, const uint8_t ip[16]);

#endif
