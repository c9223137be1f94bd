/* dns_tap.h: questions and answers as dnstap frames (spec O5), for one reader in another thread.
 *
 * A ring of octets holds frames as they go over a Frame Streams connection: four octets of
 * length in network order, then a `dnstap.Dnstap` protobuf message (dnstap.proto). Who reads
 * has nothing to do but to move octets. One writer, one reader; memory is the caller's.
 */
#ifndef DNS_TAP_H
#define DNS_TAP_H

#include "dns_message.h"
#include "tudp.h"

/* dnstap.Message.Type; the answer to a question is one above it. */
enum { DNS_TAP_AUTH_QUERY = 1, DNS_TAP_RESOLVER_QUERY = 3, DNS_TAP_CLIENT_QUERY = 5, DNS_TAP_FORWARDER_QUERY = 7 };

#define DNS_TAP_NAMED 136 /* octets of the identity and the version together, encoded */

typedef struct dns_tap {
    uint64_t head, tail;     /* octets written, octets read */
    uint64_t lost;           /* frames that found no room */
    uint32_t mask;           /* octets - 1 */
    uint32_t share;          /* of 2^32 answers, how many are written */
    uint32_t random;         /* state of xorshift, not 0 */
    uint32_t named_len;
    uint8_t named[DNS_TAP_NAMED]; /* in front of every message: fields 1 and 2, encoded */
    uint8_t octets[];
} dns_tap;

/* Whoever asked (`ip`) and whoever answers (`to`); a length of 0: not told. Times in ns since 1970, 0: not told. */
typedef struct dns_tap_message {
    uint32_t type;
    uint8_t transport;       /* as in dns_client */
    uint8_t ip_len, to_len;
    uint16_t port, to_port;
    const uint8_t *ip, *to;
    uint64_t asked, said;
    const uint8_t *query, *reply; /* NULL: not told */
    size_t query_len, reply_len;
} dns_tap_message;

/* Whether it is this one's turn. */
static inline int dns_tap_chosen(dns_tap *t)
{
    if (t->share == UINT32_MAX)
        return 1;
    t->random ^= t->random << 13;
    t->random ^= t->random >> 17;
    t->random ^= t->random << 5;
    return t->random < t->share;
}
/* Sets identity and version, each cut at 64 octets; 0: not told. */
void dns_tap_name(dns_tap *t, const uint8_t *identity, size_t identity_len, const uint8_t *version, size_t version_len);
/* Writes one frame; one that does not fit is counted in `lost`. */
void dns_tap_write(dns_tap *t, const dns_tap_message *m);
/* A client's question and what it got, if it is their turn: CLIENT where recursion was offered, else AUTH. */
void dns_tap_answer(dns_tap *t, const dns_client *client, const uint8_t *query, size_t query_len, const uint8_t *reply,
                    size_t reply_len, uint64_t asked, uint64_t said);
/* What goes to an upstream by UDP, or comes from it (`said` is not 0), if it is its turn. */
void dns_tap_upstream(dns_tap *t, const tudp_sockaddr *upstream, const uint8_t *msg, size_t len, uint64_t asked,
                      uint64_t said);
/* How much there is to read: whole frames. */
static inline size_t dns_tap_waiting(const dns_tap *t)
{
    return (size_t)(__atomic_load_n(&t->head, __ATOMIC_ACQUIRE) - t->tail);
}
/* Takes the first `n` of them (at most dns_tap_waiting) out of the ring. */
void dns_tap_take(dns_tap *t, uint8_t *out, size_t n);

#endif
