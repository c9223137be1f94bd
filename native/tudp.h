/* tudp.h: what C code may know of a turn. The one header a native stage needs.
 *
 * A turn is one wake-up of an endpoint: datagrams are received in a batch, each
 * passes the stages in order, what no stage took goes to Python, and all
 * replies leave together. A stage touches only what is declared here.
 *
 * Everything runs on the endpoint's own thread. `take`, `due` and `flush` run
 * without the GIL and must not touch Python; `deliver` holds it.
 */
#ifndef TUDP_H
#define TUDP_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

struct mmsghdr;

#define TUDP_ABI 1u
#define TUDP_CAPSULE "toolips_udp.stage"
#define TUDP_NEVER UINT64_MAX

/* Every counter of an endpoint, by index into tudp_turn.counters. The order is
 * that of toolips_udp/counters.py; a test compares the two. */
typedef enum tudp_word {
    /* the receive ledger: received = handled + drops + in flight */
    TUDP_RECEIVED = 0,
    TUDP_HANDLED,
    TUDP_KERNEL,
    TUDP_TRUNCATED,
    TUDP_STALE,
    TUDP_DENIED,
    TUDP_LIMITED,
    TUDP_SHED,
    TUDP_MALFORMED,
    TUDP_ENDED,
    TUDP_NO_HANDLER,
    TUDP_HANDLER_FAILED,
    TUDP_QUEUE_FULL,
    TUDP_WORKER_LOST,
    TUDP_STOPPING,
    /* the send ledger: send_queued = sent + send_refused + send_refused_late + send_dropped_full + waiting */
    TUDP_SEND_QUEUED,
    TUDP_SENT,
    TUDP_SEND_REFUSED,
    TUDP_SEND_REFUSED_LATE,
    TUDP_SEND_DROPPED_FULL,
    /* not in a ledger */
    TUDP_BYTES_IN,
    TUDP_BYTES_OUT,
    TUDP_TURNS,
    TUDP_RECEIVE_CALLS,
    TUDP_SEND_CALLS,
    TUDP_GSO_GROUPS,
    TUDP_GSO_FALLBACKS,
    TUDP_RECEIVE_ERRORS,
    TUDP_NATIVE_ANSWERS, /* of handled: answered by a stage, without Python */
    TUDP_STALE_EFFECTS,  /* on state that was handed to the next process, and so refused */
    TUDP_WORDS = 48      /* size of the array; the rest is spare, or TUDP_QUEUE_AGE */
} tudp_word;

/* The last words of the array say how long datagrams had waited, while the age drop was armed: word n of them counts
 * what had waited less than 2^(TUDP_AGE_SHIFT + n) ns and no earlier word counts, the last one all the rest. */
#define TUDP_QUEUE_AGE 34
#define TUDP_AGE_BUCKETS 14
#define TUDP_AGE_SHIFT 18 /* 0.26 ms; the last bound is 1.07 s */

/* A socket address as the kernel gives it. 28 bytes. */
typedef union tudp_sockaddr {
    struct sockaddr sa;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
} tudp_sockaddr;

/* The canonical form of a peer: one peer is one key, whether it came over an
 * IPv4 socket or as ::ffff:a.b.c.d over a dual-stack one. Compare with memcmp. */
typedef struct tudp_key {
    uint8_t ip[16];  /* IPv4 as ::ffff:a.b.c.d */
    uint32_t scope;  /* link-local only, else 0 */
    uint16_t port;   /* host order */
    uint16_t zero;
} tudp_key;

/* The local address a datagram was sent to (wildcard binds only). */
typedef struct tudp_local {
    uint8_t family; /* 0: not known, nothing to give back */
    uint8_t pad[3];
    uint32_t ifindex;
    uint8_t ip[16]; /* 4 bytes used for AF_INET */
} tudp_local;

static inline void tudp_key_of(const tudp_sockaddr *from, tudp_key *key)
{
    memset(key, 0, sizeof *key);
    if (from->sa.sa_family == AF_INET6) {
        memcpy(key->ip, &from->in6.sin6_addr, 16);
        key->port = ntohs(from->in6.sin6_port);
        if (key->ip[0] == 0xfe && (key->ip[1] & 0xc0) == 0x80)
            key->scope = from->in6.sin6_scope_id;
    } else {
        key->ip[10] = key->ip[11] = 0xff;
        memcpy(key->ip + 12, &from->in4.sin_addr, 4);
        key->port = ntohs(from->in4.sin_port);
    }
}

/* One received datagram. Valid until the end of its turn. */
typedef struct tudp_slot {
    uint8_t *data;
    uint32_t len;
    uint16_t segment;    /* owned by the turn */
    int16_t verdict;     /* owned by the turn */
    tudp_sockaddr from;
    tudp_local local;
    uint64_t stamp;      /* kernel receive time, CLOCK_REALTIME ns; 0: not known */
    uint8_t *scratch;    /* the stages' notes; a stage's own begin at + stage->scratch_at */
} tudp_slot;

typedef struct tudp_turn tudp_turn;

typedef struct tudp_ops {
    /* Room for one outgoing datagram of at most `most` bytes (<= 65,507), to be
     * filled in place. NULL when the turn's memory is full: then flush first or
     * drop. Valid until the next call of any of these functions. */
    uint8_t *(*room)(tudp_turn *turn, uint32_t most);
    /* Queue the first `len` bytes of the last room() for `to`, followed by
     * `tail_len` bytes at `tail`, which are not copied and must stay as they
     * are until the turn has ended (NULL, 0: none). `local` is where to send
     * from (NULL: let the kernel choose). Counts SEND_QUEUED. Returns 0, or -1
     * with SEND_DROPPED_FULL counted. */
    int (*send)(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len,
                const tudp_sockaddr *to, const tudp_local *local);
    /* Send everything queued now, in the middle of a turn. For stages that
     * produce more than one turn's memory (a broadcast to thousands). */
    void (*drain)(tudp_turn *turn);
    /* Call in attach(): whoever opens with two bytes that, in network order, are `value` under `mask` has not
     * proven that he is where he says. When more comes than can be served, most of what comes so is dropped,
     * before any stage sees it. The last call holds; mask 0: nobody is a stranger. */
    void (*strangers)(tudp_turn *turn, uint16_t mask, uint16_t value);
} tudp_ops;

struct tudp_turn {
    uint32_t abi;
    uint32_t flags;
    uint64_t now;       /* CLOCK_MONOTONIC ns, read once per turn */
    uint64_t wall;      /* CLOCK_REALTIME ns, read once per turn */
    uint64_t *counters; /* TUDP_WORDS of them, one writer */
    void *endpoint;     /* opaque */
    const tudp_ops *ops;
    uint64_t batch;     /* number of the received batch: a slot is another datagram in another batch */
    const tudp_slot *next; /* received after the one in take(), its data and len to look ahead in; or NULL */
    uint64_t held;      /* datagrams that stages keep beyond their turn: part of what is in flight */
};

/* What take() returns. */
#define TUDP_PASS 0     /* next stage, or Python */
#define TUDP_ANSWERED 1 /* finished here; the turn counts HANDLED */
#define TUDP_HELD 2     /* kept for deliver() or longer; the stage counts its word itself, later; beyond the turn it counts in turn->held */
#define TUDP_DROP(word) (-(int)(word)) /* dropped; the turn counts the word */

/* A native stage. The struct belongs to the stage object, which hands it out in
 * a PyCapsule named TUDP_CAPSULE from its method __tudp_stage__(). Functions
 * that a stage does not need may be NULL. */
typedef struct tudp_stage tudp_stage;
struct tudp_stage {
    uint32_t abi;        /* TUDP_ABI; attach of another number is refused */
    uint32_t scratch;    /* bytes of notes wanted per slot (rounded up to 16) */
    uint32_t scratch_at; /* set by the endpoint before attach() */
    uint32_t held;       /* set by the stage: something waits for deliver() */
    const char *name;
    void *self;
    /* 0, or a negative errno that ends the start. */
    int (*attach)(tudp_stage *stage, tudp_turn *turn);
    /* One datagram; see above for what to return. No GIL. */
    int (*take)(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot);
    /* The deadline has passed: run timers. Called before deliver(). No GIL. */
    void (*due)(tudp_stage *stage, tudp_turn *turn);
    /* Hand held events to Python. With the GIL, only when `held` is not 0.
     * May send. Must not leave a Python exception set. */
    void (*deliver)(tudp_stage *stage, tudp_turn *turn);
    /* Last chance to queue datagrams before they leave. No GIL. */
    void (*flush)(tudp_stage *stage, tudp_turn *turn);
    /* When due() wants to run next: CLOCK_MONOTONIC ns, or TUDP_NEVER. Read
     * once at the end of each turn. No GIL. */
    uint64_t (*deadline)(tudp_stage *stage);
    void (*detach)(tudp_stage *stage);
};

/* For stages: answer the sender of `slot` with the first `len` bytes of room(). */
static inline int tudp_reply(tudp_turn *turn, tudp_slot *slot, uint32_t len)
{
    return turn->ops->send(turn, len, NULL, 0, &slot->from, &slot->local);
}

/* The system as an endpoint sees it. Tests replace single entries to make each
 * call fail; the memory wire replaces all of them, so that simulated worlds run
 * the C that ships. All return >= 0, or a negative errno. */
struct mmsghdr; /* complete where _GNU_SOURCE is defined first */
typedef struct tudp_calls {
    void *ctx;
    int (*recvmmsg)(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags);
    int (*sendmmsg)(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags);
    int (*setsockopt)(void *ctx, int fd, int level, int name, const void *value, socklen_t len);
    int (*getsockopt)(void *ctx, int fd, int level, int name, void *value, socklen_t *len);
    uint64_t (*monotonic)(void *ctx);
    uint64_t (*wall)(void *ctx);
    int (*timer_set)(void *ctx, int fd, uint64_t deadline); /* CLOCK_MONOTONIC ns; TUDP_NEVER disarms */
    int (*timer_read)(void *ctx, int fd);
    void (*rest)(void *ctx, uint32_t ns); /* wait; NULL where time does not pass by itself */
} tudp_calls;

#endif
