/* quarantine.h: packets that killed workers, kept out byte for byte. */
#ifndef TUDP_QUARANTINE_H
#define TUDP_QUARANTINE_H

#include "tudp.h"

#define TUDP_KEPT_OUT 64

typedef struct tudp_kept {
    const uint8_t *data; /* the caller's; must live as long as the entry */
    uint32_t len;
} tudp_kept;

typedef struct tudp_quarantine {
    tudp_stage stage; /* take() drops what is kept out as DENIED */
    uint32_t count;
    tudp_kept packets[TUDP_KEPT_OUT];
} tudp_quarantine;

/* An empty quarantine whose stage can be handed to an endpoint. */
void tudp_quarantine_init(tudp_quarantine *q);

/* Keep one more packet out. Returns 0, or -ENOSPC when the table is full. */
int tudp_quarantine_add(tudp_quarantine *q, const uint8_t *data, uint32_t len);

/* Whether these bytes are kept out. */
int tudp_quarantine_has(const tudp_quarantine *q, const uint8_t *data, uint32_t len);

#endif
