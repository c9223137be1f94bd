/* dns_writer.h: writes records into a message, with bounded compression (N5..N7).
 *
 * A writer lives on the stack of one call. It never writes past `room`; what
 * does not fit leaves the message as it was and returns -1. Pointers written
 * can be recorded, so that a section may be moved later (zone templates).
 */
#ifndef DNS_WRITER_H
#define DNS_WRITER_H

#include "dns_message.h"

#define DNS_WRITER_NAMES 128
#define DNS_WRITER_LOOKUPS 120

typedef struct dns_writer {
    uint8_t *out;
    uint32_t at, room;
    int lookups;             /* left, N7 */
    uint32_t known;          /* suffixes that a pointer may name */
    uint16_t owner;          /* where the name stands that an owner of NULL means */
    uint16_t owner_moves;    /* pointers to it are recorded too */
    uint32_t nrelocs, max_relocs;
    uint16_t *relocs;        /* positions of pointers written; NULL: not wanted */
    uint32_t hash[DNS_WRITER_NAMES];
    uint16_t pos[DNS_WRITER_NAMES];
} dns_writer;

static inline void dns_writer_begin(dns_writer *w, uint8_t *out, size_t at, size_t room)
{
    w->out = out;
    w->at = (uint32_t)at;
    w->room = (uint32_t)room;
    w->lookups = DNS_WRITER_LOOKUPS;
    w->known = 0;
    w->owner = DNS_HEADER;
    w->owner_moves = 0;
    w->relocs = NULL;
    w->nrelocs = w->max_relocs = 0;
}

/* Tells of an uncompressed name that stands at `pos` in the message; its first
 * `skip` labels are not offered. */
void dns_writer_know(dns_writer *w, const uint8_t *name, size_t pos, unsigned skip);

/* Writes a valid name; compress: by pointer where possible. 0 or -1. */
int dns_writer_name(dns_writer *w, const uint8_t *name, int compress);

/* Writes one record of class `klass`. owner NULL: the name at w->owner,
 * the question's. rdata is uncompressed; it is written as its type allows. 0 or -1. */
int dns_writer_record(dns_writer *w, const uint8_t *owner, uint16_t type, uint16_t klass, uint32_t ttl,
                      const uint8_t *rdata, size_t rdlen);

#endif
