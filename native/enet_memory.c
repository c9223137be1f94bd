/* enet_memory.c: see enet_memory.h. */
#include "enet_memory.h"

#include <stdlib.h>
#include <string.h>

/* Under a sanitizer every block is malloc's own, so that a wrong use is seen. */
#if defined(__SANITIZE_ADDRESS__)
#define POOLED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOLED 0
#endif
#endif
#ifndef POOLED
#define POOLED 1
#endif

enum { SLAB = 1 << 16 };

static int class_of(size_t size)
{
    int c = 0;
    while (((size_t)1 << (c + EN_CLASS_LEAST)) < size)
        c++;
    return c;
}

void *en_alloc(en_pool *pool, size_t size)
{
    int c = class_of(size);
    if (!POOLED || c >= EN_CLASSES) {
        void *block = malloc(size);
        if (block)
            pool->used += size;
        return block;
    }
    size_t whole = (size_t)1 << (c + EN_CLASS_LEAST);
    void *block = pool->free[c];
    if (block) {
        memcpy(&pool->free[c], block, sizeof(void *));
    } else {
        if (pool->fresh_left < whole) {
            uint8_t *slab = malloc(SLAB);
            if (!slab)
                return NULL;
            memcpy(slab, &pool->slabs, sizeof(void *));
            pool->slabs = slab;
            pool->fresh = slab + 32;
            pool->fresh_left = SLAB - 32;
        }
        block = pool->fresh;
        pool->fresh += whole;
        pool->fresh_left -= whole;
    }
    pool->used += whole;
    return block;
}

void en_free(en_pool *pool, void *block, size_t size)
{
    int c = class_of(size);
    if (!POOLED || c >= EN_CLASSES) {
        pool->used -= size;
        free(block);
        return;
    }
    pool->used -= (size_t)1 << (c + EN_CLASS_LEAST);
    memcpy(block, &pool->free[c], sizeof(void *));
    pool->free[c] = block;
}

void en_pool_end(en_pool *pool)
{
    while (pool->slabs) {
        void *next;
        memcpy(&next, pool->slabs, sizeof next);
        free(pool->slabs);
        pool->slabs = next;
    }
    memset(pool, 0, sizeof *pool);
}

en_block *en_block_new(en_pool *pool, uint32_t size)
{
    en_block *block = en_alloc(pool, sizeof *block + size);
    if (block) {
        block->refs = 1;
        block->size = size;
    }
    return block;
}

void en_block_drop(en_pool *pool, en_block *block)
{
    if (block && --block->refs == 0)
        en_free(pool, block, sizeof *block + block->size);
}

uint64_t *en_map_find(const en_map *map, uint64_t key)
{
    if (!map->mask)
        return NULL;
    key += key == 0;
    for (uint32_t i = (uint32_t)key & map->mask; map->at[i].key; i = (i + 1) & map->mask)
        if (map->at[i].key == key)
            return &map->at[i].value;
    return NULL;
}

static int map_grow(en_map *map)
{
    uint32_t size = map->mask ? (map->mask + 1) * 2 : 64;
    struct en_pair *at = calloc(size, sizeof *at);
    if (!at)
        return -1;
    for (uint32_t i = 0; map->mask && i <= map->mask; i++) {
        if (!map->at[i].key)
            continue;
        uint32_t k = (uint32_t)map->at[i].key & (size - 1);
        while (at[k].key)
            k = (k + 1) & (size - 1);
        at[k] = map->at[i];
    }
    free(map->at);
    map->at = at;
    map->mask = size - 1;
    return 0;
}

uint64_t *en_map_make(en_map *map, uint64_t key)
{
    uint64_t *found = en_map_find(map, key);
    if (found)
        return found;
    if ((!map->mask || map->count >= (map->mask + 1) / 2) && map_grow(map))
        return NULL;
    key += key == 0;
    uint32_t i = (uint32_t)key & map->mask;
    while (map->at[i].key)
        i = (i + 1) & map->mask;
    map->at[i] = (struct en_pair){key, 0};
    map->count++;
    return &map->at[i].value;
}

void en_map_remove(en_map *map, uint64_t key)
{
    uint64_t *found = en_map_find(map, key);
    if (!found)
        return;
    uint32_t hole = (uint32_t)((struct en_pair *)((char *)found - offsetof(struct en_pair, value)) - map->at);
    for (uint32_t i = (hole + 1) & map->mask; map->at[i].key; i = (i + 1) & map->mask) {
        uint32_t home = (uint32_t)map->at[i].key & map->mask;
        if (((i - home) & map->mask) >= ((i - hole) & map->mask)) {
            map->at[hole] = map->at[i];
            hole = i;
        }
    }
    map->at[hole].key = 0;
    map->count--;
}

void en_map_end(en_map *map)
{
    free(map->at);
    memset(map, 0, sizeof *map);
}

#define ROTATE(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define SIP_ROUND                                                                                                    \
    do {                                                                                                             \
        a += b, b = ROTATE(b, 13) ^ a, a = ROTATE(a, 32);                                                            \
        c += d, d = ROTATE(d, 16) ^ c;                                                                               \
        a += d, d = ROTATE(d, 21) ^ a;                                                                               \
        c += b, b = ROTATE(b, 17) ^ c, c = ROTATE(c, 32);                                                            \
    } while (0)

uint64_t en_sip(const uint64_t key[2], const uint64_t *words, int count)
{
    uint64_t a = key[0] ^ 0x736f6d6570736575u, b = key[1] ^ 0x646f72616e646f6du;
    uint64_t c = key[0] ^ 0x6c7967656e657261u, d = key[1] ^ 0x7465646279746573u;
    for (int i = 0; i <= count; i++) {
        uint64_t word = i < count ? words[i] : (uint64_t)count << 59;
        d ^= word;
        SIP_ROUND;
        a ^= word;
    }
    c ^= 0xff;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    return a ^ b ^ c ^ d;
}
