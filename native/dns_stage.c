/* dns_stage.c: see dns_stage.h. */
#include "dns_stage.h"
#include "dns_proxied.h"

uint32_t dns_range_find(const dns_range *range, uint32_t count, const uint8_t ip[16])
{
    uint32_t low = 0, high = count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (memcmp(range[middle].from, ip, 16) <= 0)
            low = middle;
        else
            high = middle;
    }
    return range[low].value;
}

/* Counts an answer and keeps what the log wants of it. */
static void count(dns_stage *s, unsigned source, uint16_t rcode, uint16_t ede)
{
    s->answers[source][rcode & 31]++;
    s->said_source = (uint8_t)source;
    s->said_rcode = rcode;
    s->said_ede = ede;
}

void dns_log_note(dns_log *log, const dns_client *client, const dns_query *q, uint64_t wall, uint64_t waited,
                  unsigned source, unsigned rcode, unsigned ede, unsigned upstream)
{
    if (log->share != UINT32_MAX) {
        log->random ^= log->random << 13;
        log->random ^= log->random >> 17;
        log->random ^= log->random << 5;
        if (log->random >= log->share)
            return;
    }
    if (log->head - __atomic_load_n(&log->tail, __ATOMIC_ACQUIRE) > log->mask) {
        __atomic_fetch_add(&log->lost, 1, __ATOMIC_RELAXED);
        return;
    }
    dns_log_entry *e = &log->entry[log->head & log->mask];
    e->wall = wall;
    e->waited = waited;
    memcpy(e->ip, client->ip, 16);
    e->ip_len = client->ip_len;
    e->port = client->port;
    e->transport = client->transport;
    e->qtype = q->qtype;
    e->qclass = q->qclass;
    e->flags = q->flags;
    e->dnssec_ok = q->dnssec_ok;
    e->rcode = (uint16_t)rcode;
    e->ede = (uint16_t)ede;
    e->source = (uint8_t)source;
    e->upstream = (uint16_t)upstream;
    e->name_len = q->name_len;
    memcpy(e->name, q->name, q->name_len);
    __atomic_store_n(&log->head, log->head + 1, __ATOMIC_RELEASE);
}

static size_t say(dns_stage *s, const dns_client *client, const uint8_t *msg, const dns_query *q, uint16_t flags,
                  uint16_t rcode, uint16_t ede, uint8_t *out)
{
    dns_extra extra = {.ede = ede};
    count(s, DNS_FROM_SERVER, rcode, ede);
    return dns_error_write(out, &s->server, client, msg, q, flags, rcode, &extra);
}

/* TXT id.server in CH, RFC 4892. */
static size_t say_id(dns_stage *s, const dns_client *client, const uint8_t *msg, const dns_query *q, uint8_t *out)
{
    uint16_t counts[3] = {1, 0, 0};
    size_t at = q->question_end;
    uint8_t n = s->server.id_len;
    if (!n)
        return say(s, client, msg, q, 0, DNS_REFUSED, DNS_EDE_NONE, out);
    memcpy(out + DNS_HEADER, msg + DNS_HEADER, at - DNS_HEADER);
    dns_put16(out + at, DNS_POINTER | DNS_HEADER);
    dns_put16(out + at + 2, DNS_TXT);
    dns_put16(out + at + 4, DNS_CH);
    dns_put32(out + at + 6, 0);
    dns_put16(out + at + 10, n + 1u);
    out[at + 12] = n;
    memcpy(out + at + 13, s->server.id, n);
    count(s, DNS_FROM_SERVER, DNS_NOERROR, DNS_EDE_NONE);
    return dns_reply_finish(out, at + 13 + n, &s->server, client, msg, q, DNS_AA, DNS_NOERROR, counts, NULL);
}

/* Rate limit of clients that have not shown who they are: 0 to go on. */
static int limit(dns_stage *s, dns_client *client, const uint8_t *msg, size_t len, const dns_query *q, uint64_t now,
                 uint32_t weight, uint8_t *out)
{
    int verdict = dns_rrl_take(s->rrl, client->ip, client->ip_len, now, weight);
    if (verdict == DNS_RRL_SMALL)
        client->most = (uint16_t)(len < 65535 / DNS_RRL_RATIO ? DNS_RRL_RATIO * len : 65535);
    if (verdict == DNS_RRL_PASS || verdict == DNS_RRL_SMALL)
        return 0;
    s->limited++;
    memcpy(s->limited_ip, client->ip, 16);
    s->limited_len = client->ip_len;
    if (q->cookie_at && s->server.secrets && q->name_len)
        return (int)say(s, client, msg, q, 0, DNS_BADCOOKIE, DNS_EDE_NONE, out);
    if (verdict == DNS_RRL_DROP || !q->name_len)
        return TUDP_DROP(TUDP_LIMITED);
    s->slipped++;
    return (int)say(s, client, msg, q, DNS_TC, DNS_NOERROR, DNS_EDE_NONE, out);
}

static void want_prefetch(dns_stage *s, const uint8_t *msg, const dns_query *q)
{
    if (s->prefetches == DNS_PREFETCHES)
        return;
    dns_prefetch *p = &s->prefetch[s->prefetches++];
    memcpy(p->octets, msg, q->question_end);
    memset(p->octets + 4, 0, 8);
    p->octets[5] = 1;
    p->len = q->question_end;
    if (q->dnssec_ok) {
        memcpy(p->octets + p->len, "\0\0\x29\4\xd0\0\0\x80\0\0", 11);
        p->len += 11;
        p->octets[11] = 1;
    }
    s->stage.held = 1;
}

enum { GO_ON = -1000 };

/* The lists of a view: a reply's length, 0 to pass, a drop, or GO_ON. */
static int ask_lists(dns_stage *s, const dns_view *view, const dns_client *client, const uint8_t *msg,
                     const dns_query *q, uint16_t flags, uint8_t *out)
{
    const dns_listing *blocked = NULL;
    unsigned labels, how = 0, allowed = 0;
    uint16_t number;
    for (uint32_t i = 0; i < view->lists; i++) {
        const dns_listing *list = &view->list[i];
        unsigned action = dns_rules_find(list->rules, q, &labels, &number);
        if (action == DNS_RULE_PYTHON)
            return 0;
        if (action == DNS_RULE_TCP && client->stream)
            action = DNS_RULE_NONE;
        allowed |= action == DNS_RULE_ALLOW;
        if (action && action != DNS_RULE_ALLOW && !blocked) {
            blocked = list;
            how = action == DNS_RULE_NXDOMAIN ? list->action : action;
        }
        if (!list->ends)
            continue;
        if (blocked && !allowed) {
            if (view->note_blocked || how == DNS_RULE_PYTHON)
                return 0;
            blocked->rules->hits++;
            if (how == DNS_RULE_DROP)
                return TUDP_DROP(TUDP_DENIED);
            size_t n = dns_rule_reply(how, &s->server, client, msg, q, flags, blocked->ede, out);
            count(s, DNS_FROM_POLICY, out[3] & 15, blocked->ede);
            return (int)n;
        }
        blocked = NULL;
        allowed = 0;
    }
    return GO_ON;
}

static int ask_zones(dns_stage *s, const dns_view *view, const dns_client *client, const uint8_t *msg,
                     const dns_query *q, uint16_t flags, uint8_t *out)
{
    uint16_t rcode;
    size_t n = dns_zones_answer(view->zones, &s->server, client, msg, q, flags, out, &rcode);
    if (!n)
        return GO_ON;
    count(s, DNS_FROM_ZONE, rcode, DNS_EDE_NONE);
    return (int)n;
}

/* Lists, zones and cache of a view. The length of a reply, 0 to pass, or a drop. */
static int ask_view(dns_stage *s, dns_view *view, const dns_client *client, const uint8_t *msg, const dns_query *q,
                    uint16_t flags, uint64_t now, uint8_t *out, dns_notes *notes)
{
    unsigned labels;
    uint16_t number;
    dns_cache_found found;
    int n = GO_ON;
    if (view->python && dns_rules_find(view->python, q, &labels, &number)) {
        if (view->sharing && view->sharing[number]) {
            size_t len = dns_cache_answer(view->shared, &s->server, client, msg, q, view->id + DNS_SHARED,
                                          now / 1000000, 0, flags | DNS_AA, out, &found);
            if (len) {
                count(s, DNS_FROM_CACHE, found.rcode, DNS_EDE_NONE);
                return (int)len;
            }
        }
        notes->python = (uint16_t)(number + 1);
        return 0;
    }
    if (view->whole_any | view->generous && view->zones && dns_zones_find(view->zones, q, 0)) {
        if (view->whole_any && (q->qtype == DNS_ANY || q->qtype == DNS_RRSIG))
            return client->stream ? 0 : (int)say(s, client, msg, q, DNS_TC | DNS_AA, DNS_NOERROR, DNS_EDE_NONE, out);
        if (view->generous && (q->qtype == DNS_MX || q->qtype == DNS_SRV))
            return 0;
    }
    if (view->zones && view->zones_first)
        n = ask_zones(s, view, client, msg, q, flags, out);
    if (n == GO_ON && view->lists)
        n = ask_lists(s, view, client, msg, q, flags, out);
    if (n == GO_ON && view->zones && !view->zones_first)
        n = ask_zones(s, view, client, msg, q, flags, out);
    if (n != GO_ON)
        return n;
    if (view->cache && q->flags & DNS_RD && flags & DNS_RA) {
        size_t len = dns_cache_answer(view->cache, &s->server, client, msg, q, view->id, now / 1000000, 0, flags, out,
                                      &found);
        if (found.prefetch)
            want_prefetch(s, msg, q);
        if (len) {
            count(s, DNS_FROM_CACHE, found.rcode, DNS_EDE_NONE);
            return (int)len;
        }
    }
    if (q->flags & DNS_RD && flags & DNS_RA)
        for (uint32_t i = 0; i < view->forwards; i++) {
            dns_forward *f = view->forward[i];
            if (!f)
                break;
            if (dns_forward_takes(f, q)) {
                notes->forward = f;
                break;
            }
        }
    return view->final ? (int)say(s, client, msg, q, flags, DNS_REFUSED, 20, out) : 0;
}

/* `rcode`: what dns_query_parse said of `q`. */
static int answer(dns_stage *s, const uint8_t *msg, size_t len, int rcode, dns_client *client, const uint8_t ip[16], uint64_t now,
                  uint8_t *out, dns_notes *notes, dns_query *q)
{
    if (rcode == DNS_DROP)
        return TUDP_DROP(TUDP_MALFORMED);
    s->queries[client->transport & 3][q->opcode]++;
    if (s->server.ecs && q->ecs_at && !dns_ecs_ok(msg, q)) {
        q->ecs_at = 0; /* not to be given back */
        rcode = rcode ? rcode : DNS_FORMERR;
    }
    if (q->cookie_at && s->server.secrets) {
        dns_cookie_check(&s->server, client, msg, q);
        s->cookies[q->cookie]++;
    }
    uint32_t meaning = dns_range_find(s->range, s->ranges, ip);
    notes->meaning = meaning;
    notes->python = 0;
    notes->forward = NULL;
    notes->verified = client->stream || q->cookie >= DNS_COOKIE_GOOD;
    if (s->rrl && !notes->verified && !(meaning & DNS_TRUSTED)) {
        int n = limit(s, client, msg, len, q, now, meaning & DNS_MAY_RECURSE ? 1 : s->weight, out);
        if (n)
            return n;
    }
    if (rcode == DNS_COOKIE_ONLY)
        return (int)say(s, client, msg, q, 0, DNS_NOERROR, DNS_EDE_NONE, out);
    if (rcode)
        return (int)say(s, client, msg, q, 0, (uint16_t)rcode, q->ede, out);
    if (!(meaning & DNS_MAY_QUERY))
        return meaning & DNS_SILENT ? TUDP_DROP(TUDP_DENIED)
                                    : (int)say(s, client, msg, q, 0, DNS_REFUSED, 18, out);
    if (q->qclass == DNS_CH)
        return (int)say_id(s, client, msg, q, out);
    unsigned number = meaning & (DNS_VIEWS - 1);
    if (q->opcode != DNS_QUERY || q->tsig_at || q->expire || q->qtype == DNS_AXFR || q->qtype == DNS_IXFR || number >= s->views ||
        s->view[number].closed) {
        s->passed++;
        return 0;
    }
    dns_view *view = &s->view[number];
    s->view_ahead = number;
    uint16_t flags = view->recursive && meaning & DNS_MAY_RECURSE ? DNS_RA : 0;
    int n = ask_view(s, view, client, msg, q, flags, now, out, notes);
    s->passed += n == 0;
    return n;
}

static int answer_parsed(dns_stage *s, const uint8_t *msg, size_t len, int rcode, dns_client *client, const uint8_t ip[16],
                         uint64_t now, uint64_t wall, uint8_t *out, dns_notes *notes, dns_query *q)
{
    int n = answer(s, msg, len, rcode, client, ip, now, out, notes, q);
    if (client->most && n > client->most) { /* not reached: a list's answer knows no limit, and is shorter than that */
        s->answers[s->said_source][s->said_rcode & 31]--; /* not reached: as above */
        n = (int)say(s, client, msg, q, DNS_TC, DNS_NOERROR, DNS_EDE_NONE, out); /* not reached: as above */
    }
    if (s->noting && n > 0) {
        if (s->log)
            dns_log_note(s->log, client, q, wall, s->waited, s->said_source, s->said_rcode, s->said_ede, 0);
        if (s->tap)
            dns_tap_answer(s->tap, client, msg, len, out, (size_t)n, wall - s->waited, wall);
    }
    return n;
}

int dns_stage_answer(dns_stage *s, const uint8_t *msg, size_t len, dns_client *client, const uint8_t ip[16],
                     uint64_t now, uint64_t wall, uint8_t *out, dns_notes *notes, dns_query *q)
{
    int rcode = dns_query_parse(msg, len, &s->server.key, q);
    return answer_parsed(s, msg, len, rcode, client, ip, now, wall, out, notes, q);
}

/* The question of `slot`, parsed. Then the next one of the batch is parsed too: what
 * either will read of zones and cache is on its way from memory meanwhile. */
static dns_query *look_ahead(dns_stage *s, const tudp_turn *turn, const tudp_slot *slot, int *rcode)
{
    const dns_view *view = s->view_ahead < s->views ? &s->view[s->view_ahead] : NULL;
    dns_query *q = &s->ahead[s->at ^= 1], *next = &s->ahead[s->at ^ 1];
    if (s->parsed_slot == slot && s->parsed_batch == turn->batch) {
        *rcode = s->parsed;
        if (!*rcode && view && view->zones)
            dns_zones_fetch(view->zones, q);
        if (!*rcode && view && view->cache)
            dns_cache_fetch(view->cache, q, view->id);
    } else {
        *rcode = dns_query_parse(slot->data, slot->len, &s->server.key, q);
    }
    s->parsed_slot = turn->next;
    if (!turn->next)
        return q;
    s->parsed_batch = turn->batch;
    s->parsed = dns_query_parse(turn->next->data, turn->next->len, &s->server.key, next);
    if (!s->parsed && view && view->zones)
        dns_zones_expect(view->zones, next);
    if (!s->parsed && view && view->cache)
        dns_cache_expect(view->cache, next, view->id);
    return q;
}

/* Room for a reply; NULL when the turn's memory is full even after what waits was sent. */
static uint8_t *room_for_reply(const dns_stage *s, tudp_turn *turn)
{
    uint8_t *out = turn->ops->room(turn, s->server.udp_max);
    if (out)
        return out;
    turn->ops->drain(turn);
    return turn->ops->room(turn, s->server.udp_max);
}

static void client_is(dns_client *client, const uint8_t ip[16], uint16_t port, const tudp_turn *turn)
{
    int six = ip[10] != 0xff || ip[11] != 0xff || memcmp(ip, "\0\0\0\0\0\0\0\0\0", 10) != 0;
    memset(client, 0, sizeof *client);
    client->ip_len = six ? 16 : 4;
    memcpy(client->ip, six ? ip : ip + 12, client->ip_len);
    client->now = (uint32_t)(turn->wall / 1000000000u);
    client->port = port;
}

static inline int take(dns_stage *s, tudp_turn *turn, tudp_slot *slot, const uint8_t ip[16], uint16_t port, int ahead)
{
    int rcode;
    dns_notes *notes = dns_stage_notes(s, slot);
    client_is(&notes->client, ip, port, turn);
    s->waited = slot->stamp && slot->stamp < turn->wall ? turn->wall - slot->stamp : 0;
    uint8_t *out = room_for_reply(s, turn);
    if (!out)
        return TUDP_DROP(TUDP_SHED);
    dns_query *q = &s->ahead[0];
    if (ahead)
        q = look_ahead(s, turn, slot, &rcode);
    else
        rcode = dns_query_parse(slot->data, slot->len, &s->server.key, q);
    int n = answer_parsed(s, slot->data, slot->len, rcode, &notes->client, ip, turn->now, turn->wall, out, notes, q);
    s->transports[0] += n > 0;
    if (n > 0)
        return tudp_reply(turn, slot, (uint32_t)n), TUDP_ANSWERED;
    if (n == 0 && notes->forward) {
        n = dns_forward_ask(notes->forward, turn, slot, &notes->client, q, s->view[notes->meaning & (DNS_VIEWS - 1)].id);
        s->passed -= n != 0;
    }
    if (n == 0)
        memcpy(&notes->q, q, offsetof(dns_query, hashes) + (q->labels + 1u) * sizeof q->hashes[0]);
    return n;
}

int dns_stage_take(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot)
{
    tudp_key key;
    tudp_key_of(&slot->from, &key);
    return take(stage->self, turn, slot, key.ip, key.port, 1);
}

int dns_stage_take_proxied(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot)
{
    dns_stage *s = stage->self;
    dns_proxied from;
    tudp_key key;
    tudp_key_of(&slot->from, &key);
    if (!(dns_range_find(s->range, s->ranges, key.ip) & DNS_PROXY))
        return take(s, turn, slot, key.ip, key.port, 0);
    size_t header = dns_proxied_read(slot->data, slot->len, &from);
    if (!header)
        return TUDP_DROP(TUDP_MALFORMED);
    slot->len -= (uint32_t)header;
    memmove(slot->data, slot->data + header, slot->len);
    return from.told ? take(s, turn, slot, from.ip, from.port, 0) : take(s, turn, slot, key.ip, key.port, 0);
}

/* --- what was asked of others ------------------------------------------------------ */

static int listed(void *self, uint16_t id, const dns_query *q)
{
    const dns_stage *s = self;
    unsigned labels;
    uint16_t number;
    for (uint32_t v = 0; v < s->views; v++)
        for (uint32_t i = 0; s->view[v].id == id && i < s->view[v].lists; i++)
            if (dns_rules_find(s->view[v].list[i].rules, q, &labels, &number))
                return 1;
    return 0;
}

static void said(void *self, const dns_forward *f, const tudp_turn *turn, const dns_client *client, const dns_query *q,
                 uint64_t waited, const dns_told *told)
{
    dns_stage *s = self;
    count(s, DNS_FROM_FORWARD, told->rcode, DNS_EDE_NONE);
    s->transports[0]++;
    if (s->log)
        dns_log_note(s->log, client, q, turn->wall, waited, DNS_FROM_FORWARD, told->rcode, DNS_EDE_NONE,
                     1u + f->number * DNS_FORWARD_UPSTREAMS + f->answering);
    if (s->tap)
        dns_tap_answer(s->tap, client, told->query, told->query_len, told->reply, told->reply_len, turn->wall - waited,
                       turn->wall);
}

static void due(tudp_stage *stage, tudp_turn *turn)
{
    dns_stage *s = stage->self;
    for (uint32_t i = 0; i < s->forwards; i++) {
        dns_forward *f = s->forward[i];
        if (dns_forward_deadline(f) <= turn->now)
            dns_forward_due(f, turn);
        stage->held |= f->handed_first != 0;
    }
}

static void flush(tudp_stage *stage, tudp_turn *turn)
{
    dns_stage *s = stage->self;
    for (uint32_t i = 0; i < s->forwards; i++)
        dns_forward_flush(s->forward[i], turn);
}

static uint64_t deadline(tudp_stage *stage)
{
    const dns_stage *s = stage->self;
    uint64_t next = TUDP_NEVER;
    for (uint32_t i = 0; i < s->forwards; i++) {
        uint64_t one = dns_forward_deadline(s->forward[i]);
        next = one < next ? one : next;
    }
    return next;
}

static void detach(tudp_stage *stage)
{
    const dns_stage *s = stage->self;
    for (uint32_t i = 0; i < s->forwards; i++)
        dns_forward_detach(s->forward[i]);
}

int dns_stage_asks(dns_stage *s, dns_forward *f)
{
    if (s->forwards == DNS_FORWARDS)
        return -1;
    f->self = s;
    f->number = (uint16_t)s->forwards;
    f->listed = listed;
    f->server = &s->server;
    f->said = said;
    f->tap = s->tap;
    s->stage.due = due;
    s->stage.flush = flush;
    s->stage.deadline = deadline;
    s->stage.detach = detach;
    s->forward[s->forwards++] = f;
    return 0;
}

void dns_stage_notes_to(dns_stage *s, dns_log *log, dns_tap *tap)
{
    s->log = log;
    s->tap = tap;
    s->noting = log || tap;
    for (uint32_t i = 0; i < s->forwards; i++)
        s->forward[i]->tap = tap;
}

void dns_stage_init(dns_stage *s)
{
    s->weight = 1;
    s->stage.abi = TUDP_ABI;
    s->stage.scratch = sizeof(dns_notes);
    s->stage.name = "dns";
    s->stage.self = s;
    s->stage.take = dns_stage_take;
}
