/* dns_forward.c: see dns_forward.h. Whom to ask, and when to give up. */
#define _GNU_SOURCE 1
#include "dns_forward_parts.h"

#include <errno.h>
#include <stdlib.h>

#define SHARE 0.05           /* of questions that go to any upstream, and of those that are hedged */

/* --- life --------------------------------------------------------------------- */

dns_forward *dns_forward_new(const uint8_t *zone, size_t zone_len, const dns_server *server, dns_cache *cache,
                             const dns_forward_calls *calls)
{
    dns_forward *f = calloc(1, sizeof *f);
    if (!f || zone_len > DNS_NAME_MAX)
        return free(f), NULL;
    f->calls = calls;
    f->server = server;
    f->cache = cache;
    memcpy(f->zone, zone, zone_len);
    f->zone_len = (uint8_t)zone_len;
    f->due = TUDP_NEVER;
    f->patience = 1;
    for (unsigned i = 0; i < DNS_FORWARD_PORTS; i++)
        f->port[i].fd = -1;
    f->once = dns_cache_new(65536, 0, &cache->key);
    f->flight = calloc(DNS_FORWARD_FLIGHTS, sizeof *f->flight);
    f->waiter = calloc(DNS_FORWARD_WAITERS, sizeof *f->waiter);
    f->active = calloc(DNS_FORWARD_FLIGHTS, sizeof *f->active);
    f->bucket = calloc(DNS_FORWARD_BUCKETS, sizeof *f->bucket);
    if (!f->once || !f->flight || !f->waiter || !f->active || !f->bucket || dns_forward_random_new(f) < 0) {
        dns_forward_free(f);
        return NULL;
    }
    return f;
}

void dns_forward_free(dns_forward *f)
{
    if (!f)
        return;
    dns_forward_detach(f);
    dns_cache_free(f->once);
    free(f->flight);
    free(f->waiter);
    free(f->active);
    free(f->bucket);
    dns_forward_random_free(f);
    free(f);
}

int dns_forward_add(dns_forward *f, const tudp_sockaddr *to)
{
    if (f->upstreams == DNS_FORWARD_UPSTREAMS)
        return -1;
    f->upstream[f->upstreams].to = *to;
    return (int)f->upstreams++;
}

int dns_forward_takes(const dns_forward *f, const dns_query *q)
{
    if (q->qtype == DNS_ANY || q->qtype == DNS_RRSIG || q->qclass != DNS_IN || q->name_len < f->zone_len)
        return 0;
    size_t at = (size_t)q->name_len - f->zone_len, i = q->labels;
    while (i && q->label_at[i] > at)
        i--;
    return q->label_at[i] == at && !memcmp(q->name + at, f->zone, f->zone_len);
}

/* --- asking ----------------------------------------------------------------------- */

/* Whom to ask, or DNS_FORWARD_NONE: by policy, among those that are usable; not `but`. */
static uint16_t choose(dns_forward *f, uint64_t hash, uint16_t but)
{
    uint16_t usable[DNS_FORWARD_UPSTREAMS], n = 0, best = 0, dice = 0;
    for (uint16_t i = 0; i < f->upstreams; i++)
        if (f->upstream[i].usable && i != but)
            usable[n++] = i;
    if (n < 2)
        return n ? usable[0] : DNS_FORWARD_NONE;
    switch (f->policy) {
    case DNS_ORDERED:
        return usable[0];
    case DNS_ROUND_ROBIN:
        return usable[f->turns++ % n];
    case DNS_BY_HASH:
        return usable[(hash >> 32) % n];
    default:
        if (dns_forward_draw(f, &dice, sizeof dice) || dice < 65536 * SHARE)
            return usable[dice % n];
        for (uint16_t i = 1; i < n; i++)
            if (f->upstream[usable[i]].rtt < f->upstream[usable[best]].rtt)
                best = i;
        return usable[best];
    }
}

/* F3: two round trips and four variances, within bounds. */
static uint64_t timeout_of(const dns_forward *f, const dns_upstream *u)
{
    uint64_t t = u->rtt ? 2 * u->rtt + 4 * u->variance : DNS_FORWARD_FIRST_TIMEOUT;
    if (t < DNS_FORWARD_LEAST_TIMEOUT)
        t = DNS_FORWARD_LEAST_TIMEOUT;
    return (t > DNS_FORWARD_MOST_TIMEOUT ? DNS_FORWARD_MOST_TIMEOUT : t) * f->patience;
}

static int may_hedge(dns_forward *f, uint64_t now)
{
    uint32_t most = (uint32_t)(f->window_asked * SHARE);
    if (now - f->window >= 1000000000u)
        return 0;
    if (f->window_hedged >= (most ? most : 1))
        return 0;
    f->window_hedged++;
    return 1;
}

int dns_forward_ask(dns_forward *f, tudp_turn *turn, const tudp_slot *slot, const dns_client *client,
                    const dns_query *q, uint16_t view)
{
    uint64_t hash = dns_forward_key(q, view), now = turn->now;
    uint32_t number, waiter;
    uint16_t upstream = DNS_FORWARD_NONE;
    if (slot->len > DNS_FORWARD_PACKET)
        return 0;
    f->turn = turn;
    number = dns_forward_find(f, hash, q, view);
    if (!number && (upstream = choose(f, hash, DNS_FORWARD_NONE)) == DNS_FORWARD_NONE)
        return 0;
    waiter = dns_forward_take_waiter(f);
    if (!waiter) {
        f->count.full++;
        return TUDP_DROP(TUDP_QUEUE_FULL);
    }
    if (number) {
        dns_flight *x = &f->flight[number - 1];
        f->count.coalesced++;
        if (x->waiting == DNS_FORWARD_WAITERS_EACH) { /* the oldest has waited longest, and asks again first */
            uint32_t oldest = x->first;
            x->first = f->waiter[oldest - 1].next;
            x->waiting--;
            dns_forward_drop_waiter(f, oldest);
            dns_forward_count(f, TUDP_QUEUE_FULL);
        }
        dns_forward_add_waiter(f, x, waiter, slot, client, now);
        return TUDP_HELD;
    }
    number = dns_forward_fly(f, hash, q, view, now);
    if (!number || dns_forward_attempt(f, number, upstream, now) < 0) {
        if (number)
            dns_forward_end(f, number);
        f->waiter[waiter - 1].next = f->waiter_free;
        f->waiter_free = waiter;
        return 0;
    }
    dns_flight *x = &f->flight[number - 1];
    dns_forward_add_waiter(f, x, waiter, slot, client, now);
    if (now - f->window >= 1000000000u) {
        f->window = now;
        f->window_asked = f->window_hedged = 0;
    }
    f->window_asked++;
    f->count.questions++;
    x->timeout_at = now + timeout_of(f, &f->upstream[upstream]);
    uint64_t hedge = f->upstream[upstream].hedge;
    if (hedge < DNS_FORWARD_LEAST_HEDGE)
        hedge = DNS_FORWARD_LEAST_HEDGE;
    x->hedge_at = f->upstreams < 2 ? TUDP_NEVER : now + hedge;
    uint64_t next = x->hedge_at < x->timeout_at ? x->hedge_at : x->timeout_at;
    if (next < f->due)
        f->due = next;
    return TUDP_HELD;
}

void dns_forward_missed(dns_forward *f, uint16_t upstream)
{
    dns_upstream *u = &f->upstream[upstream];
    u->missed++;
    if (++u->failures >= DNS_FORWARD_DOWN_AFTER)
        u->usable = 0;
}

/* --- time --------------------------------------------------------------------------- */

/* The socket's error: an ICMP message said that nobody listens there. */
static void refused(dns_forward *f, uint16_t port)
{
    dns_port *p = &f->port[port];
    p->refused = 0;
    dns_forward_missed(f, p->upstream);
    f->upstream[p->upstream].closed++;
    for (unsigned i = 0; i < p->used && p->waiting; i++)
        if (p->flight[i])
            dns_forward_hand(f, p->flight[i], DNS_HANDED_REFUSED, p->upstream);
}

static void tick(dns_forward *f, uint64_t now)
{
    for (uint16_t i = 0; i < DNS_FORWARD_PORTS; i++)
        if (f->port[i].fd >= 0 && f->port[i].refused)
            refused(f, i);
    f->due = TUDP_NEVER;
    for (uint32_t i = f->flights; i--;) { /* backwards: one that ends is replaced by one that was looked at */
        uint32_t number = f->active[i];
        dns_flight *x = &f->flight[number - 1];
        if (now >= x->timeout_at) {
            for (unsigned k = 0; k < x->attempts; k++)
                dns_forward_missed(f, x->attempt[k].upstream);
            dns_forward_hand(f, number, DNS_HANDED_TIMEOUT, x->attempt[0].upstream);
            continue;
        }
        if (now >= x->hedge_at) {
            uint16_t other = choose(f, x->hash, x->attempt[0].upstream);
            x->hedge_at = TUDP_NEVER;
            if (other != DNS_FORWARD_NONE && may_hedge(f, now) && !dns_forward_attempt(f, number, other, now)) {
                uint64_t until = now + timeout_of(f, &f->upstream[other]);
                f->upstream[other].hedged++;
                x->timeout_at = until > x->timeout_at ? until : x->timeout_at;
            }
        }
        uint64_t next = x->hedge_at < x->timeout_at ? x->hedge_at : x->timeout_at;
        f->due = next < f->due ? next : f->due;
    }
}

static void receive(dns_forward *f, tudp_turn *turn, uint16_t port)
{
    struct mmsghdr msgs[DNS_FORWARD_IN];
    struct iovec iov[DNS_FORWARD_IN];
    int got = DNS_FORWARD_IN;
    memset(msgs, 0, sizeof msgs);
    for (int i = 0; i < DNS_FORWARD_IN; i++) {
        iov[i] = (struct iovec){f->in[i], DNS_FORWARD_SLOT};
        msgs[i].msg_hdr.msg_iov = &iov[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
    }
    for (int round = 0; round < 4 && got == DNS_FORWARD_IN && f->port[port].fd >= 0; round++) {
        got = f->calls->receive(f->calls->ctx, f->port[port].fd, msgs, DNS_FORWARD_IN);
        if (got < 0 && got != -EAGAIN && got != -EINTR)
            refused(f, port);
        for (int i = 0; i < got && f->port[port].fd >= 0; i++) {
            /* of one that is longer the beginning is enough: it is asked again by TCP */
            dns_forward_came(f, turn, port, f->in[i],
                             msgs[i].msg_len < DNS_FORWARD_SLOT ? msgs[i].msg_len : DNS_FORWARD_SLOT);
        }
    }
}

void dns_forward_due(dns_forward *f, tudp_turn *turn)
{
    uint32_t numbers[64];
    f->turn = turn;
    for (int round = 0, n = 64; f->ready && round < 4 && n == 64; round++) {
        n = f->calls->ready(f->calls->ctx, numbers, 64);
        for (int i = 0; i < n; i++)
            if (numbers[i] < DNS_FORWARD_PORTS && f->port[numbers[i]].fd >= 0)
                receive(f, turn, (uint16_t)numbers[i]);
    }
    f->ready = 0;
    if (turn->now >= f->due)
        tick(f, turn->now);
}

void dns_forward_flush(dns_forward *f, tudp_turn *turn)
{
    if (f->outs)
        dns_forward_send_out(f);
}

void dns_forward_detach(dns_forward *f)
{
    while (f->flights)
        dns_forward_hand(f, f->active[0], DNS_HANDED_TIMEOUT, 0);
    while (dns_forward_handed(f))
        dns_forward_count(f, TUDP_STOPPING);
    f->turn = NULL;
    f->outs = 0;
    f->due = TUDP_NEVER;
    for (uint32_t i = 0; i < f->upstreams; i++)
        f->upstream[i].pools = 0;
    for (uint16_t i = 0; i < DNS_FORWARD_PORTS; i++)
        if (f->port[i].fd >= 0)
            dns_forward_close_port(f, i);
}
