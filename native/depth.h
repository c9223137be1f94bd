/* depth.h: how deep JSON and msgpack nest, before a decoder that recurses sees them. Sans-io. */
#ifndef TUDP_DEPTH_H
#define TUDP_DEPTH_H

#include <stddef.h>
#include <stdint.h>

#define TUDP_DEPTH_MOST 64u

/* 1 when the first `len` bytes nest deeper than `most` (at most TUDP_DEPTH_MOST), else 0. What is cut off or
 * malformed is left to the decoder: it is only promised that a decoder never opens more than `most` containers. */
int tudp_depth_json(const uint8_t *data, size_t len, uint32_t most);
int tudp_depth_msgpack(const uint8_t *data, size_t len, uint32_t most);

#endif
