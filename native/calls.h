/* calls.h: the three tables an endpoint may stand on.
 *
 * tudp_system: the operating system. tudp_faults: wraps another table and makes
 * chosen calls fail, so that tests see each of them fail. tudp_wire: a socket
 * made of memory with a clock that is set by hand.
 */
#ifndef TUDP_CALLS_H
#define TUDP_CALLS_H

#include "tudp.h"

extern const tudp_calls tudp_system;

/* ---- failing calls ---- */

enum tudp_call {
    TUDP_CALL_RECVMMSG,
    TUDP_CALL_SENDMMSG,
    TUDP_CALL_SETSOCKOPT,
    TUDP_CALL_GETSOCKOPT,
    TUDP_CALL_TIMER_SET,
    TUDP_CALL_TIMER_READ,
    TUDP_CALL_COUNT
};

typedef struct tudp_fault {
    uint64_t calls;    /* how often it was called */
    uint64_t from, to; /* calls from <= number < to are touched; numbers begin at 1 */
    int error;         /* errno to fail with, or 0 */
    int most;          /* when error is 0: pass on at most so many messages (short batches) */
} tudp_fault;

typedef struct tudp_faults {
    tudp_calls table; /* give this one to the endpoint */
    const tudp_calls *inner;
    tudp_fault fault[TUDP_CALL_COUNT];
} tudp_faults;

/* Make `faults` pass everything on to `inner` until a fault is set. */
void tudp_faults_init(tudp_faults *faults, const tudp_calls *inner);

/* ---- a socket made of memory ---- */

typedef struct tudp_wire_datagram {
    struct tudp_wire_datagram *next;
    tudp_sockaddr peer; /* received: from; sent: to */
    tudp_local local;
    uint64_t stamp;
    uint32_t len;
    uint8_t data[];
} tudp_wire_datagram;

typedef struct tudp_wire {
    tudp_calls table;
    uint64_t now;       /* CLOCK_MONOTONIC ns, set by the owner */
    uint64_t wall;      /* CLOCK_REALTIME ns */
    uint64_t deadline;  /* what the endpoint asked its timer for */
    tudp_wire_datagram *in_head, **in_tail;
    tudp_wire_datagram *out_head, **out_tail;
    uint64_t in_bytes;   /* charged as the kernel charges, see tudp_wire_charge */
    uint64_t in_limit;   /* receive buffer; 0: no limit */
    uint32_t drops;      /* datagrams that found it full */
    uint32_t out_count;
    int pktinfo, stamps; /* options the endpoint has set */
    int real_clock;      /* the system's clocks instead of now and wall */
} tudp_wire;

void tudp_wire_init(tudp_wire *wire);
void tudp_wire_clear(tudp_wire *wire);
/* Put a datagram into the receive queue. 0; 1 when it was dropped (buffer full);
 * -ENOMEM. Copies `data`. */
int tudp_wire_push(tudp_wire *wire, const uint8_t *data, uint32_t len, const tudp_sockaddr *from,
                   const tudp_local *local);
/* Take the oldest datagram that was sent, or NULL. The caller frees it. */
tudp_wire_datagram *tudp_wire_pop(tudp_wire *wire);
/* What Linux charges a receive buffer for a datagram of `len` bytes. */
uint32_t tudp_wire_charge(uint32_t len);

#endif
