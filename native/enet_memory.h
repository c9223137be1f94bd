/* enet_memory.h: what the ENet host keeps things in: a pool of sized blocks, a
 * map from 64-bit keys, SipHash. No Python, no system calls but malloc, and that
 * only when a pool or map grows. One thread.
 */
#ifndef EN_MEMORY_H
#define EN_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Blocks of 32 to 8,192 bytes from slabs that are kept until the pool ends;
 * larger ones from malloc. Zeroed pools are empty pools. */
enum { EN_CLASSES = 9, EN_CLASS_LEAST = 5 };
typedef struct en_pool {
    void *free[EN_CLASSES];
    void *slabs;
    uint8_t *fresh; /* the unused part of the newest slab */
    size_t fresh_left;
    size_t used; /* bytes handed out, rounded to their class */
} en_pool;

void *en_alloc(en_pool *pool, size_t size); /* NULL: out of memory */
void en_free(en_pool *pool, void *block, size_t size); /* with the size it was asked for */
void en_pool_end(en_pool *pool);

/* A payload shared by the commands that carry it. */
typedef struct en_block {
    uint32_t refs;
    uint32_t size;
    uint8_t data[];
} en_block;

en_block *en_block_new(en_pool *pool, uint32_t size); /* one reference; NULL: out of memory */
void en_block_drop(en_pool *pool, en_block *block);   /* NULL is fine */

/* Keys are keyed hashes already, so they are used as they are. Key 0 is stored
 * as 1. Grows by doubling. */
typedef struct en_map {
    struct en_pair {
        uint64_t key;
        uint64_t value;
    } *at;
    uint32_t mask, count; /* mask 0: nothing allocated yet */
} en_map;

uint64_t *en_map_find(const en_map *map, uint64_t key); /* NULL: not there */
uint64_t *en_map_make(en_map *map, uint64_t key);       /* finds or adds with 0; NULL: out of memory */
void en_map_remove(en_map *map, uint64_t key);
void en_map_end(en_map *map);

/* SipHash-1-3 of whole words under a 128-bit key. */
uint64_t en_sip(const uint64_t key[2], const uint64_t *words, int count);

#endif
