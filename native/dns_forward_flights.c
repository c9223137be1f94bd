/* dns_forward_flights.c: questions on their way, and the clients that wait for each. */
#include "dns_forward_parts.h"

uint32_t dns_forward_find(const dns_forward *f, uint64_t hash, const dns_query *q, uint16_t view)
{
    uint32_t number = f->bucket[hash % DNS_FORWARD_BUCKETS];
    for (; number; number = f->flight[number - 1].next) {
        const dns_flight *x = &f->flight[number - 1];
        if (x->hash == hash && x->qtype == q->qtype && x->view == view && x->dnssec_ok == q->dnssec_ok &&
            x->checking_disabled == !!(q->flags & DNS_CD) && x->name_len == q->name_len &&
            !memcmp(x->name, q->name, q->name_len))
            return number;
    }
    return 0;
}

uint32_t dns_forward_fly(dns_forward *f, uint64_t hash, const dns_query *q, uint16_t view, uint64_t now)
{
    uint32_t number = f->flight_free;
    if (f->flights == DNS_FORWARD_FLIGHTS)
        return 0;
    if (number)
        f->flight_free = f->flight[number - 1].next;
    else
        number = f->flights + 1; /* none was ever given back while these were less */
    dns_flight *x = &f->flight[number - 1];
    memset(x, 0, offsetof(dns_flight, attempt));
    x->hash = hash;
    x->began = now;
    x->qtype = q->qtype;
    x->view = view;
    x->dnssec_ok = q->dnssec_ok;
    x->checking_disabled = !!(q->flags & DNS_CD);
    x->name_len = q->name_len;
    memcpy(x->name, q->name, q->name_len);
    x->next = f->bucket[hash % DNS_FORWARD_BUCKETS];
    f->bucket[hash % DNS_FORWARD_BUCKETS] = number;
    x->place = f->flights;
    f->active[f->flights++] = number;
    return number;
}

/* Out of every table; its ports are free of it. */
void dns_forward_end(dns_forward *f, uint32_t number)
{
    dns_flight *x = &f->flight[number - 1];
    uint32_t *link = &f->bucket[x->hash % DNS_FORWARD_BUCKETS];
    for (unsigned i = 0; i < x->attempts; i++)
        dns_forward_done_with(f, x->attempt[i].port, x->attempt[i].use);
    while (*link != number)
        link = &f->flight[*link - 1].next;
    *link = x->next;
    uint32_t last = f->active[--f->flights];
    f->active[x->place] = last;
    f->flight[last - 1].place = x->place;
    x->next = f->flight_free;
    f->flight_free = number;
}

/* --- who waits ------------------------------------------------------------------ */

void dns_forward_add_waiter(dns_forward *f, dns_flight *flight, uint32_t number, const tudp_slot *slot,
                       const dns_client *client, uint64_t now)
{
    dns_waiter *w = &f->waiter[number - 1];
    w->came = now;
    w->from = slot->from;
    w->local = slot->local;
    w->client = *client;
    w->next = 0;
    w->len = (uint16_t)slot->len;
    memcpy(w->packet, slot->data, slot->len);
    if (flight->last)
        f->waiter[flight->last - 1].next = number;
    else
        flight->first = number;
    flight->last = number;
    flight->waiting++;
    f->turn->held++;
}

/* --- ends --------------------------------------------------------------------------- */

void dns_forward_hand(dns_forward *f, uint32_t number, uint16_t reason, uint16_t upstream)
{
    dns_flight *x = &f->flight[number - 1];
    for (uint32_t w = x->first; w; w = f->waiter[w - 1].next) {
        f->waiter[w - 1].reason = reason;
        f->waiter[w - 1].upstream = upstream;
        f->count.handed[reason & 7]++;
    }
    if (f->handed_last)
        f->waiter[f->handed_last - 1].next = x->first;
    else
        f->handed_first = x->first;
    f->handed_last = x->last;
    dns_forward_end(f, number);
}

const dns_waiter *dns_forward_handed(dns_forward *f)
{
    uint32_t number = f->handed_first;
    if (!number)
        return NULL;
    f->handed_first = f->waiter[number - 1].next;
    if (!f->handed_first)
        f->handed_last = 0;
    dns_forward_drop_waiter(f, number);
    return &f->waiter[number - 1];
}

/* Answers one client from the cache that has just got the message. */
static void answer(dns_forward *f, tudp_turn *turn, const dns_waiter *w, dns_cache *cache, uint16_t view)
{
    dns_query q;
    dns_cache_found found;
    dns_client client = w->client;
    if (turn->now - w->came > DNS_FORWARD_TOO_LATE) {
        dns_forward_count(f, TUDP_STALE);
        return;
    }
    dns_forward_count(f, TUDP_HANDLED);
    uint8_t *out = turn->ops->room(turn, f->server->udp_max);
    if (!out) {
        turn->ops->drain(turn);
        out = turn->ops->room(turn, f->server->udp_max);
    }
    if (!out || dns_query_parse(w->packet, w->len, &f->server->key, &q))
        return;
    if (q.cookie_at && f->server->secrets)
        dns_cookie_check(f->server, &client, w->packet, &q);
    size_t n = dns_cache_answer(cache, f->server, &client, w->packet, &q, view, turn->now / 1000000,
                                DNS_CACHE_JUST_STORED, DNS_RA, out, &found);
    if (!n)
        return;
    if (f->said)
        f->said(f->self, f, turn, &client, &q, turn->now - w->came,
                &(dns_told){w->packet, out, w->len, n, found.rcode});
    f->count.answered++;
    dns_forward_count(f, TUDP_NATIVE_ANSWERS);
    turn->ops->send(turn, (uint32_t)n, NULL, 0, &w->from, &w->local);
}

void dns_forward_land(dns_forward *f, tudp_turn *turn, uint32_t number, uint16_t upstream, const uint8_t *msg,
                      size_t len)
{
    dns_flight *x = &f->flight[number - 1];
    dns_cache *cache = f->cache;
    dns_cache_put put = {.now = turn->now / 1000000, .view = x->view};
    dns_query q;
    memset(&q, 0, offsetof(dns_query, hash));
    dns_query_name(&q, x->name, x->name_len, &f->server->key);
    q.qtype = x->qtype;
    q.qclass = DNS_IN;
    q.dnssec_ok = x->dnssec_ok;
    q.flags = x->checking_disabled ? DNS_CD : 0;
    if (dns_cache_store(cache, &q, msg, len, &put) < 0) {
        put.least = 1; /* for those who wait now (C2) */
        cache = f->once;
        if (dns_cache_store(cache, &q, msg, len, &put) < 0) {
            dns_forward_hand(f, number, DNS_HANDED_ODD, x->attempt[0].upstream);
            return;
        }
    }
    uint32_t w = x->first;
    uint16_t view = x->view;
    f->answering = upstream;
    f->count.landed[x->attempts]++;
    dns_forward_end(f, number);
    while (w) {
        uint32_t next = f->waiter[w - 1].next;
        answer(f, turn, &f->waiter[w - 1], cache, view);
        dns_forward_drop_waiter(f, w);
        w = next;
    }
}
