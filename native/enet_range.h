/* enet_range.h: the adaptive range coder that ENet 1.3 puts over the commands of
 * a datagram. Both ends must agree bit for bit; each datagram is a new model.
 *
 * Stands alone: no other header of ours, no allocation. Called by enet.c and the
 * binding. One model serves one call at a time.
 */
#ifndef EN_RANGE_H
#define EN_RANGE_H

#include <stddef.h>
#include <stdint.h>

/* A table entry and the context that follows its value, in one node. */
typedef struct en_range_node {
    uint16_t left, right; /* neighbours in the table that this entry belongs to; 0: none */
    uint16_t under;       /* counts of the left subtree and of this entry */
    uint16_t table;       /* the first entry of this context's own table; 0: empty */
    uint16_t escape, total;
    uint16_t parent;      /* the context one value shorter */
    uint8_t value, count;
} en_range_node;

/* 72 KiB. Needs no setting up: every call starts its own model. */
typedef struct en_range {
    en_range_node node[4096];
    uint32_t made;
    uint16_t now; /* the context in force */
    uint16_t order;
} en_range;

/* Code `len` bytes into at most `room`. Returns the coded size, or 0 when it
 * would not fit (so a `room` of len - 1 asks for "strictly shorter"). */
size_t en_range_compress(en_range *model, const uint8_t *in, size_t len, uint8_t *out, size_t room);

/* Undo it. Returns the number of bytes, or -1 when the input is corrupt or would
 * need more than `room`. Reads nothing outside `in`, missing bytes read as 0. */
long en_range_decompress(en_range *model, const uint8_t *in, size_t len, uint8_t *out, size_t room);

#endif
