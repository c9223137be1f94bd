/* dns_stage.h: the native stage of a DNS service: what C answers alone (spec 4.4).
 *
 * The state is written between turns by its owner (Python, with the GIL, on the
 * loop's thread) and read by take(). What take() passes on keeps its parse in the
 * slot's scratch, for dns_stage_notes.
 */
#ifndef DNS_STAGE_H
#define DNS_STAGE_H

#include "dns_cache.h"
#include "dns_forward.h"
#include "dns_policy.h"
#include "dns_tap.h"
#include "dns_zone.h"
#include "tudp.h"

enum { DNS_FROM_ZONE, DNS_FROM_CACHE, DNS_FROM_PYTHON, DNS_FROM_POLICY, DNS_FROM_SERVER, DNS_FROM_FORWARD, DNS_SOURCES };

/* A sorted list of address ranges: each begins at `from` and ends where the next
 * begins; `value` is what it means. The first begins at ::. */
typedef struct dns_range {
    uint8_t from[16];
    uint32_t value;
    uint32_t spare;
} dns_range;

/* One list of a view. A group of lists (one blocklist's files) ends with `ends`:
 * within it an allow rule of any list beats the others. */
typedef struct dns_listing {
    dns_rules *rules;
    uint16_t ede;            /* of blocked answers */
    uint8_t action;          /* what DNS_RULE_NXDOMAIN in the list means here */
    uint8_t ends;
} dns_listing;

#define DNS_LISTINGS 32
#define DNS_FORWARDS 8

/* What one group of clients is asked against. */
typedef struct dns_view {
    const dns_zones *zones;  /* or NULL */
    dns_cache *cache;        /* or NULL */
    dns_listing list[DNS_LISTINGS];
    uint32_t lists;
    dns_forward *forward[DNS_FORWARDS]; /* whom to ask what the cache does not know, in order; NULL: the owner's */
    uint32_t forwards;
    const dns_rules *python; /* names that Python answers first, or NULL */
    dns_cache *shared;       /* of answers that handlers share, or NULL */
    const uint8_t *sharing;  /* for each rule of `python`: whether its handlers shared one */
    uint16_t id;             /* of its answers in the cache */
    uint8_t recursive;       /* RA for clients that may recurse */
    uint8_t final;           /* nothing stands behind: REFUSED is C's to say */
    uint8_t closed;          /* Python sees every question */
    uint8_t note_blocked;    /* Python wants to hear of blocked questions: they are passed on */
    uint8_t zones_first;     /* the lists stand behind the zones */
    uint8_t whole_any;       /* ANY and RRSIG: TC=1 over UDP, everything (from Python) over streams */
    uint8_t generous;        /* MX and SRV bring addresses, from Python */
} dns_view;

/* What ranges say of a client: the view's number in the low bits, and */
enum { DNS_MAY_QUERY = 0x10000, DNS_MAY_RECURSE = 0x20000, DNS_TRUSTED = 0x40000, DNS_SILENT = 0x80000,
       DNS_PROXY = 0x100000 }; /* it says in front of each message for whom it asks (dns_proxied.h) */

#define DNS_VIEWS 64
#define DNS_SHARED 64    /* added to a view's id: answers of handlers that others may have */

/* What the query log wants of one answer. */
typedef struct dns_log_entry {
    uint64_t wall;           /* ns */
    uint64_t waited;         /* ns between the kernel and the turn, 0: not known */
    uint8_t ip[16];
    uint16_t port, qtype, qclass, flags, rcode, ede;
    uint16_t upstream;       /* 1 + its number, DNS_FORWARD_UPSTREAMS to a forwarder; 0: nobody was asked */
    uint8_t ip_len, transport, source, dnssec_ok, name_len;
    uint8_t name[DNS_NAME_MAX];
} dns_log_entry;

/* A ring between the loop, which writes, and one reader in any thread. */
typedef struct dns_log {
    uint32_t mask;           /* entries - 1 */
    uint32_t share;          /* of 2^32 answers, how many are written */
    uint32_t random;         /* state of xorshift, not 0 */
    uint64_t head, tail;     /* written so far, read so far */
    uint64_t lost;           /* found the ring full */
    dns_log_entry entry[];
} dns_log;
#define DNS_PREFETCHES 64

typedef struct dns_prefetch {
    uint16_t len;
    uint8_t octets[DNS_HEADER + DNS_NAME_MAX + 4 + 11];
} dns_prefetch;

typedef struct dns_stage {
    tudp_stage stage;
    dns_server server;
    void *owner;             /* the Python object */
    dns_rrl *rrl;            /* or NULL */
    uint32_t weight;         /* of a reply, for clients that may not recurse; the others' is 1 */
    dns_log *log;            /* or NULL */
    dns_tap *tap;            /* or NULL */
    uint8_t noting;          /* there is one of them */
    uint64_t waited;         /* of the datagram in hand, for the log */
    uint16_t said_rcode, said_ede; /* of the last answer, for the log */
    uint8_t said_source;
    uint32_t ranges;
    dns_range *range;
    uint32_t views;
    dns_view view[DNS_VIEWS];
    uint64_t answers[DNS_SOURCES][32]; /* by source and rcode */
    uint64_t transports[2];  /* answers by datagram, by stream */
    uint64_t passed, limited, slipped;
    uint8_t limited_ip[16];  /* the last client over the rate */
    uint8_t limited_len;
    uint64_t queries[4][16]; /* by transport and opcode */
    uint64_t cookies[5];
    dns_query ahead[2];      /* the question in hand, and the one behind it, parsed while its memory is fetched */
    uint32_t at;             /* which is in hand */
    int parsed;              /* what dns_query_parse said of the other, */
    const tudp_slot *parsed_slot; /* which is that of this slot */
    uint64_t parsed_batch;   /* in this batch */
    uint32_t view_ahead;     /* the view that is expected to answer: that of the last */
    uint32_t forwards;
    dns_forward *forward[DNS_FORWARDS]; /* all that the views ask */
    uint32_t prefetches;     /* questions to ask again, until Python took them */
    dns_prefetch prefetch[DNS_PREFETCHES];
} dns_stage;

/* What a passed question leaves in its slot. */
typedef struct dns_notes {
    dns_client client;
    uint32_t meaning;        /* the client's range */
    uint16_t verified;
    uint16_t python;         /* 1 + number of the Python rule that took the name; 0: none */
    dns_forward *forward;    /* whom to ask; NULL: the owner */
    dns_query q;             /* up to the hashes of its own labels */
} dns_notes;

/* Writes an answer into the log, if its turn has come. */
void dns_log_note(dns_log *log, const dns_client *client, const dns_query *q, uint64_t wall, uint64_t waited,
                  unsigned source, unsigned rcode, unsigned ede, unsigned upstream);

/* Where answers are noted, each or NULL. */
void dns_stage_notes_to(dns_stage *s, dns_log *log, dns_tap *tap);
/* Sets the functions and the scratch of s->stage; the rest is zero or set. */
void dns_stage_init(dns_stage *s);
/* One more forwarder that views may ask, before the stage is attached. -1: there are too many. */
int dns_stage_asks(dns_stage *s, dns_forward *f);
/* tudp_stage.take */
int dns_stage_take(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot);
/* The same where a range is DNS_PROXY: their headers are taken off, and the client is the one they tell. */
int dns_stage_take_proxied(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot);
/* What take() knew of a passed datagram. */
static inline dns_notes *dns_stage_notes(const dns_stage *s, const tudp_slot *slot)
{
    return (dns_notes *)(slot->scratch + s->stage.scratch_at);
}
uint32_t dns_range_find(const dns_range *range, uint32_t count, const uint8_t ip[16]);
/* Everything but the datagram's way in and out: the length of the reply in `out`,
 * 0 to pass on, or a negative drop word. Fills `notes`. */
int dns_stage_answer(dns_stage *s, const uint8_t *msg, size_t len, dns_client *client, const uint8_t ip[16],
                     uint64_t now, uint64_t wall, uint8_t *out, dns_notes *notes, dns_query *q);

#endif
