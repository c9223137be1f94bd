/* dns_forward.c: see dns_forward.h. Flights, ports, who waits, and time. */
#define _GNU_SOURCE 1
#include "dns_forward.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BUCKETS 16384u
#define NONE 0xffffu
#define TRIES 16             /* to find a free port, or an id that the port has not had */
#define SHARE 0.05           /* of questions that go to any upstream, and of those that are hedged */
#define RANDOM 256           /* octets from the system at once */

/* In a page of its own, which a forked child finds wiped: it does not repeat its parent's numbers. */
struct dns_forward_random {
    uint32_t left;
    uint8_t octets[RANDOM];
};

static int draw(dns_forward *f, void *out, size_t len)
{
    struct dns_forward_random *r = f->random;
    if (r->left < len) {
        int failed = f->calls->random(f->calls->ctx, r->octets, RANDOM);
        if (failed)
            return failed;
        r->left = RANDOM;
    }
    r->left -= (uint32_t)len;
    memcpy(out, r->octets + r->left, len);
    memset(r->octets + r->left, 0, len);
    return 0;
}

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
    f->bucket = calloc(BUCKETS, sizeof *f->bucket);
    void *page = mmap(NULL, sizeof *f->random, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    f->random = page == MAP_FAILED ? NULL : page;
    if (!f->once || !f->flight || !f->waiter || !f->active || !f->bucket || !f->random ||
        madvise(f->random, sizeof *f->random, MADV_WIPEONFORK) < 0) {
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
    if (f->random)
        munmap(f->random, sizeof *f->random);
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

/* --- who waits ------------------------------------------------------------------ */

static uint32_t take_waiter(dns_forward *f)
{
    uint32_t number = f->waiter_free;
    if (number)
        f->waiter_free = f->waiter[number - 1].next;
    else if (f->waiters < DNS_FORWARD_WAITERS)
        number = ++f->waiters; /* memory is touched when first needed */
    return number;
}

static void drop_waiter(dns_forward *f, uint32_t number)
{
    f->waiter[number - 1].next = f->waiter_free;
    f->waiter_free = number;
    if (f->turn)
        f->turn->held--;
}

static void count(dns_forward *f, tudp_word word)
{
    if (f->turn)
        f->turn->counters[word]++;
}

static void add_waiter(dns_forward *f, dns_flight *flight, uint32_t number, const tudp_slot *slot,
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

/* --- ports ------------------------------------------------------------------------ */

static void close_port(dns_forward *f, uint16_t number)
{
    f->calls->close(f->calls->ctx, f->port[number].fd);
    f->port[number].fd = -1;
    f->open_ports--;
}

static void retire(dns_forward *f, dns_upstream *u, unsigned at)
{
    uint16_t number = u->pool[at];
    u->pool[at] = u->pool[--u->pools];
    f->port[number].retired = 1;
    if (!f->port[number].waiting)
        close_port(f, number);
}

/* RFC 5452: any port but the system's, and those whose replies are filtered or mean something else. */
static int denied(uint16_t port)
{
    return port < 1024 || port == 1900 || port == 5353 || port == 5355 || port == 11211;
}

static int open_port(dns_forward *f, uint16_t upstream, uint64_t now)
{
    uint16_t number = 0, wanted;
    dns_upstream *u = &f->upstream[upstream];
    while (number < DNS_FORWARD_PORTS && f->port[number].fd >= 0)
        number++;
    if (number == DNS_FORWARD_PORTS)
        return -EMFILE;
    int fd = -EADDRINUSE;
    for (int i = 0; i < TRIES && fd == -EADDRINUSE; i++) {
        if (draw(f, &wanted, sizeof wanted))
            return -EIO;
        if (!denied(wanted))
            fd = f->calls->open(f->calls->ctx, &u->to, wanted, number);
    }
    if (fd < 0)
        return fd;
    dns_port *p = &f->port[number];
    p->fd = fd;
    p->upstream = upstream;
    p->used = p->waiting = p->retired = p->refused = 0;
    p->born = now;
    u->pool[u->pools++] = number;
    f->open_ports++;
    return number;
}

/* A port for one question to this upstream, or a negative errno. */
static int choose_port(dns_forward *f, uint16_t upstream, uint64_t now)
{
    dns_upstream *u = &f->upstream[upstream];
    uint16_t dice;
    for (unsigned i = u->pools; i--;) {
        const dns_port *p = &f->port[u->pool[i]];
        if (p->used == DNS_FORWARD_USES || now - p->born > DNS_FORWARD_AGE)
            retire(f, u, i);
    }
    if (u->pools < DNS_FORWARD_POOL) {
        int made = open_port(f, upstream, now);
        if (made < 0 && !u->pools)
            return made;
    }
    if (draw(f, &dice, sizeof dice))
        return -EIO;
    return u->pool[dice % u->pools];
}

void dns_forward_done_with(dns_forward *f, uint16_t port, uint16_t use)
{
    dns_port *p = &f->port[port];
    if (!p->flight[use])
        return;
    p->flight[use] = 0;
    p->waiting--;
    if (p->retired && !p->waiting)
        close_port(f, port);
}

/* --- questions --------------------------------------------------------------------- */

void dns_forward_letters(const dns_flight *flight, const dns_attempt *attempt, uint8_t *out)
{
    for (unsigned i = 0; i < flight->name_len; i++) {
        uint8_t c = flight->name[i];
        int capital = c >= 'a' && c <= 'z' && attempt->letters[i >> 3] >> (i & 7) & 1;
        out[i] = capital ? c & 0xdf : c;
    }
}

static size_t write_question(const dns_upstream *u, const dns_flight *flight, const dns_attempt *attempt, uint16_t id,
                             uint8_t *out)
{
    size_t at = DNS_HEADER + flight->name_len;
    memset(out, 0, DNS_HEADER);
    dns_put16(out, id);
    dns_put16(out + 2, DNS_RD | (flight->checking_disabled ? DNS_CD : 0));
    out[5] = out[11] = 1;
    dns_forward_letters(flight, attempt, out + DNS_HEADER);
    dns_put16(out + at, flight->qtype);
    dns_put16(out + at + 2, DNS_IN);
    memcpy(out + at + 4, "\0\0\x29\4\xd0\0\0\0\0\0", 11);
    out[at + 11] = flight->dnssec_ok ? 0x80 : 0;
    at += 15;
    if (u->cookie_len) {
        dns_put16(out + at - 2, u->cookie_len + 4u);
        dns_put16(out + at, DNS_OPT_COOKIE);
        dns_put16(out + at + 2, u->cookie_len);
        memcpy(out + at + 4, u->cookie, u->cookie_len);
        at += 4u + u->cookie_len;
    }
    return at;
}

static int known_id(const dns_port *p, uint16_t id)
{
    for (unsigned i = 0; i < p->used; i++)
        if (p->id[i] == id)
            return 1;
    return 0;
}

static void send_out(dns_forward *f);

/* One more question of a flight. 0, or a negative errno. */
static int attempt(dns_forward *f, uint32_t number, uint16_t upstream, uint64_t now)
{
    dns_flight *flight = &f->flight[number - 1];
    dns_upstream *u = &f->upstream[upstream];
    dns_attempt *a = &flight->attempt[flight->attempts];
    uint16_t id;
    int port = choose_port(f, upstream, now), tries = TRIES;
    if (port < 0)
        return port;
    dns_port *p = &f->port[port];
    do
        if (!tries-- || draw(f, &id, sizeof id))
            return -EIO;
    while (known_id(p, id));
    memset(a->letters, 0, sizeof a->letters);
    if (u->mixed && draw(f, a->letters, (flight->name_len + 7u) / 8))
        return -EIO;
    a->upstream = upstream;
    a->port = (uint16_t)port;
    a->use = p->used++;
    p->id[a->use] = id;
    p->flight[a->use] = number;
    p->sent[a->use] = now;
    p->waiting++;
    flight->attempts++;
    u->asked++;
    if (f->outs == DNS_FORWARD_OUT)
        send_out(f);
    dns_forward_out *out = &f->out[f->outs++];
    out->port = (uint16_t)port;
    out->len = (uint16_t)write_question(u, flight, a, id, out->packet);
    if (f->tap && f->turn)
        dns_tap_upstream(f->tap, &u->to, out->packet, out->len, f->turn->wall, 0);
    return 0;
}

/* Sends what is queued, all of one port together. A port that cannot send fails as one that got no reply. */
static void send_out(dns_forward *f)
{
    struct mmsghdr msgs[DNS_FORWARD_OUT];
    struct iovec iov[DNS_FORWARD_OUT];
    unsigned n = 0;
    uint32_t outs = f->outs;
    f->outs = 0;
    memset(msgs, 0, outs * sizeof msgs[0]);
    for (uint32_t i = 0; i < outs; i++) {
        uint16_t port = f->out[i].port;
        if (port == NONE)
            continue;
        n = 0;
        for (uint32_t k = i; k < outs; k++) {
            if (f->out[k].port != port)
                continue;
            f->out[k].port = NONE;
            iov[n] = (struct iovec){f->out[k].packet, f->out[k].len};
            msgs[n].msg_hdr.msg_iov = &iov[n];
            msgs[n++].msg_hdr.msg_iovlen = 1;
        }
        if (f->port[port].fd < 0)
            continue;
        for (unsigned done = 0; done < n;) {
            int sent = f->calls->send(f->calls->ctx, f->port[port].fd, msgs + done, n - done);
            if (sent <= 0 && sent != -EINTR) {
                if (sent == -ECONNREFUSED) { /* what an earlier question met */
                    f->port[port].refused = 1;
                    f->due = 1;
                }
                break; /* lost, as on the wire: its timeout tells */
            }
            done += sent > 0 ? (unsigned)sent : 0;
        }
    }
}

/* Whom to ask, or NONE: by policy, among those that are usable; not `but`. */
static uint16_t choose(dns_forward *f, uint64_t hash, uint16_t but)
{
    uint16_t usable[DNS_FORWARD_UPSTREAMS], n = 0, best = 0, dice = 0;
    for (uint16_t i = 0; i < f->upstreams; i++)
        if (f->upstream[i].usable && i != but)
            usable[n++] = i;
    if (n < 2)
        return n ? usable[0] : NONE;
    switch (f->policy) {
    case DNS_ORDERED:
        return usable[0];
    case DNS_ROUND_ROBIN:
        return usable[f->turns++ % n];
    case DNS_BY_HASH:
        return usable[(hash >> 32) % n];
    default:
        if (draw(f, &dice, sizeof dice) || dice < 65536 * SHARE)
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

static uint64_t key_of(const dns_query *q, uint16_t view)
{
    unsigned bits = (q->dnssec_ok ? 1u : 0) | (q->flags & DNS_CD ? 2u : 0);
    uint64_t more = (uint64_t)q->qtype << 32 | (uint64_t)view << 8 | bits;
    return dns_mix(q->hash ^ more, 0x9e3779b97f4a7c15u);
}

static uint32_t find_flight(const dns_forward *f, uint64_t hash, const dns_query *q, uint16_t view)
{
    uint32_t number = f->bucket[hash % BUCKETS];
    for (; number; number = f->flight[number - 1].next) {
        const dns_flight *x = &f->flight[number - 1];
        if (x->hash == hash && x->qtype == q->qtype && x->view == view && x->dnssec_ok == q->dnssec_ok &&
            x->checking_disabled == !!(q->flags & DNS_CD) && x->name_len == q->name_len &&
            !memcmp(x->name, q->name, q->name_len))
            return number;
    }
    return 0;
}

static uint32_t new_flight(dns_forward *f, uint64_t hash, const dns_query *q, uint16_t view, uint64_t now)
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
    x->next = f->bucket[hash % BUCKETS];
    f->bucket[hash % BUCKETS] = number;
    x->place = f->flights;
    f->active[f->flights++] = number;
    return number;
}

/* Out of every table; its ports are free of it. */
static void end_flight(dns_forward *f, uint32_t number)
{
    dns_flight *x = &f->flight[number - 1];
    uint32_t *link = &f->bucket[x->hash % BUCKETS];
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
    uint64_t hash = key_of(q, view), now = turn->now;
    uint32_t number, waiter;
    uint16_t upstream = NONE;
    if (slot->len > DNS_FORWARD_PACKET)
        return 0;
    f->turn = turn;
    number = find_flight(f, hash, q, view);
    if (!number && (upstream = choose(f, hash, NONE)) == NONE)
        return 0;
    waiter = take_waiter(f);
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
            drop_waiter(f, oldest);
            count(f, TUDP_QUEUE_FULL);
        }
        add_waiter(f, x, waiter, slot, client, now);
        return TUDP_HELD;
    }
    number = new_flight(f, hash, q, view, now);
    if (!number || attempt(f, number, upstream, now) < 0) {
        if (number)
            end_flight(f, number);
        f->waiter[waiter - 1].next = f->waiter_free;
        f->waiter_free = waiter;
        return 0;
    }
    dns_flight *x = &f->flight[number - 1];
    add_waiter(f, x, waiter, slot, client, now);
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

/* --- ends --------------------------------------------------------------------------- */

void dns_forward_missed(dns_forward *f, uint16_t upstream)
{
    dns_upstream *u = &f->upstream[upstream];
    u->missed++;
    if (++u->failures >= DNS_FORWARD_DOWN_AFTER)
        u->usable = 0;
}

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
    end_flight(f, number);
}

const dns_waiter *dns_forward_handed(dns_forward *f)
{
    uint32_t number = f->handed_first;
    if (!number)
        return NULL;
    f->handed_first = f->waiter[number - 1].next;
    if (!f->handed_first)
        f->handed_last = 0;
    drop_waiter(f, number);
    return &f->waiter[number - 1];
}

/* Answers one client from the cache that has just got the message. */
static void answer(dns_forward *f, tudp_turn *turn, const dns_waiter *w, dns_cache *cache, uint16_t view)
{
    dns_query q;
    dns_cache_found found;
    dns_client client = w->client;
    if (turn->now - w->came > DNS_FORWARD_TOO_LATE) {
        count(f, TUDP_STALE);
        return;
    }
    count(f, TUDP_HANDLED);
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
    count(f, TUDP_NATIVE_ANSWERS);
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
    end_flight(f, number);
    while (w) {
        uint32_t next = f->waiter[w - 1].next;
        answer(f, turn, &f->waiter[w - 1], cache, view);
        drop_waiter(f, w);
        w = next;
    }
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
            if (other != NONE && may_hedge(f, now) && !attempt(f, number, other, now)) {
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
        send_out(f);
}

void dns_forward_detach(dns_forward *f)
{
    while (f->flights)
        dns_forward_hand(f, f->active[0], DNS_HANDED_TIMEOUT, 0);
    while (dns_forward_handed(f))
        count(f, TUDP_STOPPING);
    f->turn = NULL;
    f->outs = 0;
    f->due = TUDP_NEVER;
    for (uint32_t i = 0; i < f->upstreams; i++)
        f->upstream[i].pools = 0;
    for (uint16_t i = 0; i < DNS_FORWARD_PORTS; i++)
        if (f->port[i].fd >= 0)
            close_port(f, i);
}
