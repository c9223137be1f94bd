/* dns_forward_parts.h: what the parts of a forwarder know of one another; for dns_forward*.c only. */
#ifndef DNS_FORWARD_PARTS_H
#define DNS_FORWARD_PARTS_H

#include "dns_forward.h"

#define DNS_FORWARD_NONE 0xffffu
#define DNS_FORWARD_BUCKETS 16384u

/* --- dns_forward_ports.c --- */

/* The page of random octets: 0, or a negative number. */
int dns_forward_random_new(dns_forward *f);
void dns_forward_random_free(dns_forward *f);
/* Octets that nobody can guess. 0, or a negative errno. */
int dns_forward_draw(dns_forward *f, void *out, size_t len);
void dns_forward_close_port(dns_forward *f, uint16_t number);
/* One more question of a flight: port, id and letters are drawn, and it is queued. 0, or a negative errno. */
int dns_forward_attempt(dns_forward *f, uint32_t number, uint16_t upstream, uint64_t now);
/* Sends what is queued. */
void dns_forward_send_out(dns_forward *f);
/* The flight's name with the letters of one attempt. */
void dns_forward_letters(const dns_flight *flight, const dns_attempt *attempt, uint8_t *out);
/* Nobody waits for this use of a port any more. */
void dns_forward_done_with(dns_forward *f, uint16_t port, uint16_t use);

/* --- dns_forward_flights.c --- */

static inline uint64_t dns_forward_key(const dns_query *q, uint16_t view)
{
    unsigned bits = (q->dnssec_ok ? 1u : 0) | (q->flags & DNS_CD ? 2u : 0);
    uint64_t more = (uint64_t)q->qtype << 32 | (uint64_t)view << 8 | bits;
    return dns_mix(q->hash ^ more, 0x9e3779b97f4a7c15u);
}

/* Flights and waiters are numbered from 1; 0: there is none, or no room. */
uint32_t dns_forward_find(const dns_forward *f, uint64_t hash, const dns_query *q, uint16_t view);
uint32_t dns_forward_fly(dns_forward *f, uint64_t hash, const dns_query *q, uint16_t view, uint64_t now);
/* Out of every table; its ports are free of it. */
void dns_forward_end(dns_forward *f, uint32_t number);

static inline uint32_t dns_forward_take_waiter(dns_forward *f)
{
    uint32_t number = f->waiter_free;
    if (number)
        f->waiter_free = f->waiter[number - 1].next;
    else if (f->waiters < DNS_FORWARD_WAITERS)
        number = ++f->waiters; /* memory is touched when first needed */
    return number;
}

static inline void dns_forward_drop_waiter(dns_forward *f, uint32_t number)
{
    f->waiter[number - 1].next = f->waiter_free;
    f->waiter_free = number;
    if (f->turn)
        f->turn->held--;
}

void dns_forward_add_waiter(dns_forward *f, dns_flight *flight, uint32_t number, const tudp_slot *slot,
                            const dns_client *client, uint64_t now);

/* One more under this word; nothing without an endpoint. */
static inline void dns_forward_count(dns_forward *f, tudp_word word)
{
    if (f->turn)
        f->turn->counters[word]++;
}

/* The flight is over: everybody who waits is the owner's. */
void dns_forward_hand(dns_forward *f, uint32_t number, uint16_t reason, uint16_t upstream);
/* The flight is over: everybody who waits is answered from the message of an upstream. */
void dns_forward_land(dns_forward *f, tudp_turn *turn, uint32_t number, uint16_t upstream, const uint8_t *msg,
                      size_t len);

/* --- dns_forward.c --- */

/* A failure of an upstream; after some in a row it is not asked any more. */
void dns_forward_missed(dns_forward *f, uint16_t upstream);

/* --- dns_forward_reply.c --- */

/* One datagram on a port. */
void dns_forward_came(dns_forward *f, tudp_turn *turn, uint16_t port, const uint8_t *msg, size_t len);

#endif
