/* snapshot.h: what a game tells each client of a room, as the difference to what that client has.
 *
 * A frame is rows of 32-bit words, by rising id: the id, then a whole number for each field. The upper half
 * of the id's word counts how often this entity has jumped, and goes round. Nothing here allocates or keeps anything; all
 * memory is the caller's, and one thread uses it at a time. The bits are described in toolips_udp/game/snapshot.py,
 * and toolips_udp/game/making.py says the same in Python.
 */
#ifndef TUDP_SNAPSHOT_H
#define TUDP_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#define SNAP_FIELDS 32
#define SNAP_IDS 65536
#define SNAP_JUMP 0x10000u

enum { SNAP_STEP, SNAP_WHOLE, SNAP_ROUND }; /* sent as a difference, whole, as one that goes round */

typedef struct snap_shape {
    uint32_t fields; /* 1 to 32 */
    uint8_t bits[SNAP_FIELDS]; /* 1 to 32 each; a value has no more */
    uint8_t kind[SNAP_FIELDS];
} snap_shape;

/* Words of one row. */
static inline size_t snap_words(const snap_shape *shape)
{
    return 1 + (size_t)shape->fields;
}

/* The bits that turn one frame into another, into `out`, the last byte filled with zeros. Returns how many
 * they are; when that is more than 8 * room, they did not fit and `out` is of no use. */
uint64_t snap_delta(const snap_shape *shape, const uint32_t *base, size_t base_rows, const uint32_t *frame,
                    size_t frame_rows, uint8_t *out, size_t room);

/* Where the entities of a frame are, by cell of a grid. */
typedef struct snap_place {
    double x, y;
    int32_t column, line;
    uint32_t row, id;
} snap_place;

typedef struct snap_grid {
    double size, inner, outer; /* of a cell; squares of the radius to come in and to go out */
    uint32_t buckets; /* a power of two */
    uint32_t *starts; /* buckets + 1 */
    snap_place *places; /* by bucket */
} snap_grid;

/* Fills a grid whose size, inner, outer, buckets, starts and places (`rows` of them) the caller has set.
 * x and y must be finite. */
void snap_grid_fill(snap_grid *grid, const snap_shape *shape, const uint32_t *frame, size_t rows, const double *x,
                    const double *y);

/* Sets a bit in `visible` (by row of the frame, all clear before) for what is in view from a place: within the
 * radius, or a little beyond when `held` (by id) has it already; and the entity `own`. */
void snap_around(const snap_grid *grid, double x, double y, uint32_t own, const uint64_t *held, uint64_t *visible);

/* Sets the bits of a frame's ids in `held` (SNAP_IDS bits), or clears them. */
void snap_hold(const snap_shape *shape, const uint32_t *frame, size_t rows, uint64_t *held, int on);

typedef struct snap_urgent {
    double urgency; /* gathered while unsent */
    uint64_t id;
} snap_urgent;

/* One client's choice. Everything has room for `rows` entries. */
typedef struct snap_choice {
    /* in */
    const uint32_t *now, *base;
    size_t rows, base_rows;
    const uint64_t *visible; /* bits by row of now; NULL: all */
    const double *weight; /* by row of now; NULL: 1 each */
    const snap_urgent *urgent; /* by rising id */
    size_t urgents;
    uint32_t own; /* goes first; 0: none */
    /* scratch, by row of now */
    uint8_t *state;
    uint32_t *cost, *order;
    double *urgency;
    /* out: what the client will hold, and what is left for later, by rising id */
    uint32_t *frame;
    size_t frame_rows;
    snap_urgent *left;
    size_t lefts;
} snap_choice;

/* The changes that one client sees, the most urgent first when they are more than `room` bytes. Returns bits as
 * snap_delta does; they fit unless the deaths alone do not. */
uint64_t snap_choose(const snap_shape *shape, snap_choice *c, uint8_t *out, size_t room);

#endif
