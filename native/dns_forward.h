/* dns_forward.h: asks other servers by UDP what the cache does not know (spec section 5).
 *
 * The plain course of a question runs here, without Python: a question upstream from a
 * random port with a random id and random letter case, one for all clients that ask the
 * same (C11), the reply checked and filtered, kept in the cache, everybody answered.
 * Whatever is odd (no reply in time, a refusal, TC, a wrong id, records that nobody asked
 * for) is handed to the owner, who asks again in its own way.
 *
 * Memory is fixed at start. System calls and random go through a table.
 */
#ifndef DNS_FORWARD_H
#define DNS_FORWARD_H

#include "dns_cache.h"
#include "dns_tap.h"
#include "tudp.h"

#define DNS_FORWARD_UPSTREAMS 16
#define DNS_FORWARD_FLIGHTS 10000
#define DNS_FORWARD_WAITERS 10000
#define DNS_FORWARD_WAITERS_EACH 1000 /* for one question */
#define DNS_FORWARD_POOL 8            /* ports of an upstream that take new questions */
#define DNS_FORWARD_PORTS 512         /* those that only wait for replies included */
#define DNS_FORWARD_USES 128          /* questions from one port */
#define DNS_FORWARD_OUT 64            /* questions that wait for the end of the turn */
#define DNS_FORWARD_QUESTION 336      /* octets of a question upstream, at most */
#define DNS_FORWARD_PACKET 320        /* octets of a client's message; longer ones are the owner's */
#define DNS_FORWARD_SLOT 2048
#define DNS_FORWARD_IN 32             /* replies received at once */
#define DNS_FORWARD_RECORDS 100       /* of a reply; more are the owner's to judge */
#define DNS_FORWARD_SAMPLES 64
#define DNS_FORWARD_AGE 10000000000u      /* ns that a port takes new questions */
#define DNS_FORWARD_TOO_LATE 1900000000u  /* ns after which nobody is answered in a burst */
#define DNS_FORWARD_FIRST_TIMEOUT 400000000u
#define DNS_FORWARD_LEAST_TIMEOUT 50000000u
#define DNS_FORWARD_MOST_TIMEOUT 1000000000u
#define DNS_FORWARD_LEAST_HEDGE 10000000u
#define DNS_FORWARD_DOWN_AFTER 3          /* failures in a row */

/* Why a question was handed to the owner. */
enum { DNS_HANDED_TIMEOUT = 1, DNS_HANDED_REFUSED, DNS_HANDED_RCODE, DNS_HANDED_TRUNCATED, DNS_HANDED_MISMATCH,
       DNS_HANDED_ODD };
enum { DNS_FASTEST, DNS_ORDERED, DNS_ROUND_ROBIN, DNS_BY_HASH };

typedef struct dns_forward_calls {
    void *ctx;
    /* A non-blocking socket from `port`, connected, known as `number` to ready(); or a negative errno. */
    int (*open)(void *ctx, const tudp_sockaddr *to, uint16_t port, uint32_t number);
    void (*close)(void *ctx, int fd);
    /* The numbers of sockets that have something, at most `most`. */
    int (*ready)(void *ctx, uint32_t *numbers, int most);
    int (*send)(void *ctx, int fd, struct mmsghdr *msgs, unsigned n);
    int (*receive)(void *ctx, int fd, struct mmsghdr *msgs, unsigned n);
    int (*random)(void *ctx, void *out, size_t len); /* 0 or a negative errno */
} dns_forward_calls;

typedef struct dns_upstream {
    tudp_sockaddr to;
    /* set by the owner */
    uint64_t hedge;          /* ns after which the next upstream is asked too */
    uint8_t usable;          /* cleared here after failures in a row */
    uint8_t mixed;           /* it keeps letter case */
    uint8_t cookie_len;      /* client cookie, and the server's if known */
    uint8_t cookie[40];
    /* measured here */
    uint64_t rtt, variance;  /* ns; 0: not known */
    uint64_t asked, answered, missed, hedged;
    uint64_t closed;         /* of missed: the port was closed; the others were late */
    uint32_t failures;       /* in a row */
    uint32_t samples;        /* taken in all; the last ones in sample[], us */
    uint32_t sample[DNS_FORWARD_SAMPLES];
    uint16_t pool[DNS_FORWARD_POOL], pools;
} dns_upstream;

typedef struct dns_port {
    int fd;                  /* -1: free */
    uint16_t upstream, used, waiting;
    uint8_t retired, refused;
    uint64_t born;
    uint16_t id[DNS_FORWARD_USES];
    uint32_t flight[DNS_FORWARD_USES]; /* 1 + number; 0: nobody waits for it any more */
    uint64_t sent[DNS_FORWARD_USES];   /* 0: answered */
} dns_port;

typedef struct dns_attempt {
    uint16_t upstream, port, use;
    uint8_t letters[32];     /* which letters are capital */
} dns_attempt;

typedef struct dns_flight {
    uint64_t hash, began, timeout_at, hedge_at;
    uint32_t next;           /* in its bucket, or among the free; 1 + number */
    uint32_t place;          /* among the active */
    uint32_t first, last;    /* those who wait, 1 + number */
    uint16_t waiting, qtype, view;
    uint8_t dnssec_ok, checking_disabled, attempts, name_len;
    dns_attempt attempt[2];
    uint8_t name[DNS_NAME_MAX + 1];
} dns_flight;

typedef struct dns_waiter {
    uint64_t came;
    tudp_sockaddr from;
    tudp_local local;
    dns_client client;
    uint32_t next;
    uint16_t len, reason, upstream;
    uint8_t packet[DNS_FORWARD_PACKET];
} dns_waiter;

typedef struct dns_forward_out {
    uint16_t port, len;
    uint8_t packet[DNS_FORWARD_QUESTION];
} dns_forward_out;

typedef struct dns_forward_counts {
    uint64_t questions, coalesced, answered, handed[8], ignored, full;
    uint64_t landed[3];      /* questions that got an answer here, by how many were asked: 1, 2 */
} dns_forward_counts;

/* One client's message, and the answer that it gets. */
typedef struct dns_told {
    const uint8_t *query, *reply;
    size_t query_len, reply_len;
    uint16_t rcode;
} dns_told;

typedef struct dns_forward {
    const dns_forward_calls *calls;
    const dns_server *server;
    dns_cache *cache;
    dns_cache *once;         /* for answers that are not kept: those who wait get them */
    /* Told of each answer; may be NULL. `waited`: ns since the question came. */
    void (*said)(void *self, const struct dns_forward *f, const tudp_turn *turn, const dns_client *client,
                 const dns_query *q, uint64_t waited, const dns_told *told);
    /* Whether a CNAME's target is on a list. NULL: there are none. */
    int (*listed)(void *self, uint16_t view, const dns_query *q);
    void *self;
    dns_tap *tap;            /* is told what goes to upstreams and comes from them; or NULL */
    uint16_t number;         /* among the forwarders of its stage */
    uint16_t answering;      /* the upstream whose reply is being given to those who wait */
    tudp_turn *turn;         /* of the endpoint; NULL: detached */
    uint8_t zone[DNS_NAME_MAX + 1], zone_len;
    uint8_t policy, ready;
    uint32_t upstreams, turns;
    uint32_t patience;       /* timeouts are so many times as long; 1, but for tests on slow machines */
    dns_upstream upstream[DNS_FORWARD_UPSTREAMS];
    uint64_t due;            /* the next timeout or hedge, or TUDP_NEVER */
    uint64_t window;         /* of the hedge budget */
    uint32_t window_asked, window_hedged;
    uint32_t flights, flight_free, waiter_free, waiters;
    uint32_t handed_first, handed_last;
    uint32_t outs;
    dns_forward_counts count;
    struct dns_forward_random *random;
    dns_flight *flight;
    dns_waiter *waiter;
    uint32_t *active, *bucket;
    uint32_t open_ports;
    dns_port port[DNS_FORWARD_PORTS];
    dns_forward_out out[DNS_FORWARD_OUT];
    uint8_t in[DNS_FORWARD_IN][DNS_FORWARD_SLOT];
} dns_forward;

/* NULL without memory. `zone` is a folded wire name. */
dns_forward *dns_forward_new(const uint8_t *zone, size_t zone_len, const dns_server *server, dns_cache *cache,
                             const dns_forward_calls *calls);
void dns_forward_free(dns_forward *f);
/* The number of a new upstream, or -1 when there are too many. */
int dns_forward_add(dns_forward *f, const tudp_sockaddr *to);

/* Whether a question may be asked here: its name in the zone, its type an ordinary one. */
int dns_forward_takes(const dns_forward *f, const dns_query *q);
/* One question of a client. TUDP_HELD, a drop, or 0: ask the owner. */
int dns_forward_ask(dns_forward *f, tudp_turn *turn, const tudp_slot *slot, const dns_client *client,
                    const dns_query *q, uint16_t view);
/* Receives replies when `ready` is set, and gives up what is late. */
void dns_forward_due(dns_forward *f, tudp_turn *turn);
/* Sends what was asked. */
void dns_forward_flush(dns_forward *f, tudp_turn *turn);
static inline uint64_t dns_forward_deadline(const dns_forward *f) { return f->ready ? 0 : f->due; }
/* The next question for the owner, or NULL; gone with the next call of anything here. */
const dns_waiter *dns_forward_handed(dns_forward *f);
/* Lets go of everybody who waits (counted `stopping`) and of all ports. */
void dns_forward_detach(dns_forward *f);
/* The kernel's table (dns_forward_calls.c). NULL without memory. */
dns_forward_calls *dns_forward_kernel(void);
/* Its descriptor, which is readable when a reply came; or a negative errno. Before the first port is opened. */
int dns_forward_kernel_open(dns_forward_calls *calls);
/* After the last port is closed. */
void dns_forward_kernel_close(dns_forward_calls *calls);
void dns_forward_kernel_free(dns_forward_calls *calls);

#endif
