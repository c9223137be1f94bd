/* batch.h: one socket, a batch at a time: receive, guard, stages, replies.
 *
 * All memory is handed in (tudp_batch_size bytes, zero-filled, page-aligned);
 * nothing is allocated per packet. One thread. Errors are negative errno.
 */
#ifndef TUDP_BATCH_H
#define TUDP_BATCH_H

#include "shed.h"
#include "tudp.h"

#define TUDP_BATCH 64u           /* datagrams per receive call */
#define TUDP_OUTS 1024u          /* datagrams queued before a send is forced */
#define TUDP_ARENA (8u << 20)    /* bytes of them */
#define TUDP_WAITING 1024u       /* messages kept when the kernel says "later" */
#define TUDP_WAITING_BYTES (4u << 20)
#define TUDP_WAITING_AGE 50000000u /* ns they are kept */
#define TUDP_LARGEST 65507u      /* bytes of an IPv4 datagram */
#define TUDP_SEGMENTS 64u        /* of one UDP_SEGMENT message; newer kernels allow 128 */
#define TUDP_STAGES 16u
#define TUDP_CONTROL 128u        /* bytes of control messages per datagram */

#define TUDP_AGE_LIMIT 50000000u       /* ns; half of it once armed for a second */
#define TUDP_AGE_ARM_AFTER 500000000u  /* ns without an empty queue */
#define TUDP_AGE_ARM_SERVED 1000u

/* A datagram on its way out. */
typedef struct tudp_out {
    uint32_t at, len;      /* in the arena */
    const uint8_t *tail;   /* not copied; follows the arena part */
    uint32_t tail_len;
    uint32_t next;         /* next member of the group, by index + 1 */
    tudp_sockaddr to;
    tudp_local local;
} tudp_out;

/* Datagrams to one destination that leave as one message. */
typedef struct tudp_group {
    uint32_t first, last;  /* outs */
    uint32_t count;
    uint32_t segment;      /* bytes of each but the last */
    uint32_t bytes;
    uint16_t open;         /* takes more */
    uint16_t place;        /* in the index */
} tudp_group;

typedef struct tudp_waiting {
    uint64_t since;
    uint32_t at, len;
    tudp_sockaddr to;
    tudp_local local;
} tudp_waiting;

/* What lies at the start of the memory, where a supervisor can read it after
 * this process died. One writer. */
typedef struct tudp_shared {
    uint32_t abi;
    uint32_t slot_room;
    uint64_t slots_at;     /* offset of the receive buffers */
    volatile uint64_t heartbeat;   /* CLOCK_MONOTONIC ns of the last turn */
    volatile uint32_t current_at;  /* offset of the datagram in work from slots_at */
    volatile uint32_t current_len; /* UINT32_MAX: none */
    uint64_t counters[TUDP_WORDS];
} tudp_shared;

/* Whether to rest between looks: in trials without and with, then the better one is held. */
enum { TUDP_PACE_HELD, TUDP_PACE_WITHOUT, TUDP_PACE_WITH };

typedef struct tudp_pace {
    uint64_t since, received; /* when this state began, and what was received by then */
    uint64_t rate;            /* of the trial without */
    uint8_t state, resting;
} tudp_pace;

typedef struct tudp_batch {
    tudp_turn turn;        /* first: ops get back to the batch by it */
    tudp_shared *shared;
    const tudp_calls *calls;
    int fd;
    int family;
    int wildcard;          /* ask for and give back the local address */
    tudp_key own;          /* own address, to refuse datagrams from ourselves */
    uint32_t slot_room;
    uint32_t limit;        /* datagrams per receive call, 1 .. TUDP_BATCH */

    tudp_stage *stages[TUDP_STAGES];
    uint32_t stage_count;
    uint32_t scratch_room; /* per slot */
    uint32_t passed;       /* of the current batch: slots left to Python */

    /* age drop */
    uint64_t age_limit;    /* ns; 0: off */
    uint64_t busy_since, armed_since; /* 0: not */
    uint64_t busy_served;
    int stamping;

    tudp_shed shed;

    tudp_pace pace;

    /* offload */
    int gso;               /* 0: never group */
    uint32_t gso_most;     /* larger segments were refused */

    /* receive */
    int gro;               /* the kernel may hand over many datagrams of one peer as one message */
    uint32_t whole;        /* messages of the last receive call that are not all served yet ... */
    uint32_t whole_at;     /* ... from this one on ... */
    uint32_t whole_byte;   /* ... and this byte of it */
    uint32_t received;
    tudp_slot slots[TUDP_BATCH];
    struct mmsghdr *in_msgs;
    struct iovec *in_iov;
    uint8_t *in_control; /* control messages, then (UDP_GRO) the addresses of messages */

    /* send */
    uint32_t outs_count;
    uint32_t arena_used, arena_most;
    tudp_out *outs;
    uint8_t *arena;
    uint32_t groups_count;
    tudp_group *groups;
    uint16_t *index;       /* hash of destination -> newest group + 1 */
    struct mmsghdr *out_msgs;
    struct iovec *out_iov;
    uint8_t *out_control;

    /* waiting for the kernel */
    uint32_t waiting_head, waiting_count;
    uint32_t waiting_at, waiting_used; /* ring of bytes */
    tudp_waiting *waiting;
    uint8_t *waiting_bytes;
    uint32_t refused_by[134]; /* by errno */
    int fatal;             /* of the last send: an error that is our own bug */
} tudp_batch;

size_t tudp_batch_size(uint32_t slot_room, uint32_t scratch_room);

/* Lay a batch out in `memory`. `shared` may be NULL: then it lies in `memory`
 * too; else it is tudp_shared_size() bytes whose counters go on. */
tudp_batch *tudp_batch_init(void *memory, tudp_shared *shared, const tudp_calls *calls, int fd, int family,
                            uint32_t slot_room, uint32_t scratch_room);
size_t tudp_shared_size(uint32_t slot_room);

/* Add a stage; its scratch must fit into what is left. */
int tudp_batch_add(tudp_batch *b, tudp_stage *stage, uint32_t *scratch_used);

/* Read the clocks. */
void tudp_batch_clock(tudp_batch *b);

/* Receive one batch, guard it and let the stages take what is theirs.
 * Returns the number received, 0 when the queue is empty, or a negative errno
 * that is our own bug (EBADF, ENOTSOCK). Slots with verdict TUDP_PASS are for
 * Python; `passed` says how many. */
int tudp_batch_receive(tudp_batch *b);

/* After a look that brought `got`, before the next: rest for some 40 us, where that costs
 * nobody answers. Reads the clocks again if it did. In pace.c. */
void tudp_batch_rest(tudp_batch *b, uint32_t got);

/* Ask for UDP_GRO: fewer calls where one peer sends trains. 0 or a negative errno. */
int tudp_batch_gro(tudp_batch *b);

/* Run the timers of stages whose deadline has come; returns the next deadline. */
uint64_t tudp_batch_due(tudp_batch *b);
uint64_t tudp_batch_deadline(const tudp_batch *b);

/* Let every stage add its last words, then send all that is queued. Returns the
 * number of messages that wait for the kernel (retry later), or -EBADF/-ENOTSOCK. */
int tudp_batch_flush(tudp_batch *b);

/* Queue one datagram: copy `len` bytes. Returns 0 or -1 (dropped, counted). */
int tudp_batch_push(tudp_batch *b, const uint8_t *data, uint32_t len, const tudp_sockaddr *to,
                    const tudp_local *local);

/* How many datagrams the kernel has dropped since it had dropped `last`, or a negative errno. Changes nothing.
 * `queued` gets the bytes now charged to the receive buffer (may be NULL). */
int64_t tudp_batch_lost(const tudp_batch *b, uint32_t last_drops, uint32_t *queued);
/* The same, added to KERNEL and RECEIVED: not while a turn may run on another thread. */
int64_t tudp_batch_drops(tudp_batch *b, uint32_t *last_drops, uint32_t *queued);

/* Turn the age drop off (limit 0) or on. */
void tudp_batch_age(tudp_batch *b, uint64_t limit);

/* in offload.c */
int tudp_offload_send(tudp_batch *b);
int tudp_offload_retry(tudp_batch *b);

#endif
