/* dns_policy.c: see dns_policy.h. */
#include "dns_policy.h"

#include <stdlib.h>

#include "dns_zone.h" /* dns_pages_take */

#define BLOCKED_TTL 60

static uint64_t power_above(uint64_t n)
{
    uint64_t size = 16;
    while (size < n)
        size *= 2;
    return size;
}

static size_t pages(size_t size)
{
    size_t unit = size >= (2u << 20) ? 2u << 20 : 4096;
    return (size + unit - 1) / unit * unit;
}

/* Empty tables for `most` rules. 0 or -1. */
static int take_tables(dns_rules *rules, uint64_t most)
{
    size_t size = power_above(most + most / 3 + 1) * sizeof(dns_rule);
    rules->room = most > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)most;
    rules->mask = size / sizeof(dns_rule) - 1;
    rules->rule = dns_pages_take(&size);
    rules->bloom_mask = power_above(most * 12 / 64 + 1) - 1;
    size = (rules->bloom_mask + 1) * 8;
    rules->bloom = dns_pages_take(&size);
    return rules->rule && rules->bloom ? 0 : -1;
}

static void give_tables(dns_rules *rules)
{
    dns_pages_give(rules->rule, pages((rules->mask + 1) * sizeof(dns_rule)));
    dns_pages_give(rules->bloom, pages((rules->bloom_mask + 1) * 8));
}

dns_rules *dns_rules_new(uint32_t most, uint64_t octets, const dns_key *key)
{
    dns_rules *rules = calloc(1, sizeof *rules);
    if (!rules)
        return NULL;
    rules->key = *key;
    int failed = take_tables(rules, most < 64 ? 64 : most);
    rules->octets_room = octets + 1024;
    size_t size = rules->octets_room + 8;
    rules->octets = dns_pages_take(&size);
    rules->octets_used = 1;
    if (failed || !rules->octets || rules->octets_room > UINT32_MAX) {
        dns_rules_free(rules);
        return NULL;
    }
    return rules;
}

size_t dns_rules_size(const dns_rules *rules)
{
    return pages((rules->mask + 1) * sizeof(dns_rule)) + pages((rules->bloom_mask + 1) * 8) +
           pages(rules->octets_room + 8) + sizeof *rules;
}

void dns_rules_free(dns_rules *rules)
{
    if (!rules)
        return;
    give_tables(rules);
    dns_pages_give(rules->octets, pages(rules->octets_room + 8));
    free(rules);
}

/* Four bits of one word: a name that has no rule costs one memory access. */
static uint64_t bloom_bits(uint64_t hash)
{
    return (uint64_t)1 << (hash >> 58) | (uint64_t)1 << (hash >> 52 & 63) | (uint64_t)1 << (hash >> 46 & 63) |
           (uint64_t)1 << (hash >> 40 & 63);
}

static dns_rule *seek(const dns_rules *rules, uint64_t hash, const uint8_t *name, size_t len)
{
    for (uint64_t i = hash & rules->mask;; i = (i + 1) & rules->mask) {
        dns_rule *rule = &rules->rule[i];
        if (!rule->name || (rule->hash == hash && !memcmp(rules->octets + rule->name, name, len)))
            return rule;
    }
}

static void enter(dns_rules *rules, dns_rule *rule)
{
    uint64_t i = rule->hash & rules->mask;
    while (rules->rule[i].name)
        i = (i + 1) & rules->mask;
    rules->rule[i] = *rule;
    rules->bloom[rule->hash >> 4 & rules->bloom_mask] |= bloom_bits(rule->hash);
}

/* Room for one more rule whose name has `len` octets. 0 or -2. */
static int make_room(dns_rules *rules, size_t len)
{
    if (len > rules->octets_room - rules->octets_used) {
        uint64_t room = 2 * rules->octets_room + len;
        size_t size = room + 8;
        uint8_t *octets = room <= UINT32_MAX ? dns_pages_take(&size) : NULL;
        if (!octets)
            return -2;
        memcpy(octets, rules->octets, rules->octets_used);
        dns_pages_give(rules->octets, pages(rules->octets_room + 8));
        rules->octets = octets;
        rules->octets_room = room;
    }
    if (rules->count < rules->room)
        return 0;
    dns_rules old = *rules;
    if (take_tables(rules, 2 * (uint64_t)old.room) < 0) {
        give_tables(rules);
        *rules = old;
        return -2;
    }
    for (uint64_t i = 0; i <= old.mask; i++)
        if (old.rule[i].name)
            enter(rules, &old.rule[i]);
    give_tables(&old);
    return 0;
}

void dns_rules_expect(const dns_rules *rules, const dns_query *q)
{
    __builtin_prefetch(&rules->rule[q->hash & rules->mask], 1);
    __builtin_prefetch(&rules->bloom[q->hash >> 4 & rules->bloom_mask], 1);
}

int dns_rules_enter(dns_rules *rules, const dns_query *q, unsigned scope, unsigned action, uint16_t list)
{
    size_t len = q->name_len;
    if (make_room(rules, len) < 0)
        return -2;
    dns_rule *rule = seek(rules, q->hash, q->name, len);
    int known = rule->name != 0;
    if (!known) {
        rule->hash = q->hash;
        rule->name = (uint32_t)rules->octets_used;
        memcpy(rules->octets + rules->octets_used, q->name, len);
        rules->octets_used += len;
        rules->count++;
        rules->bloom[q->hash >> 4 & rules->bloom_mask] |= bloom_bits(q->hash);
        rules->depths[q->labels >> 6] |= (uint64_t)1 << (q->labels & 63);
    }
    if (scope & DNS_RULE_EXACT && action > rule->exact) {
        rule->exact = (uint8_t)action;
        rule->list = list;
    }
    if (scope & DNS_RULE_BELOW && action > rule->below) {
        rule->below = (uint8_t)action;
        rule->list = list;
    }
    return known;
}

int dns_rules_add(dns_rules *rules, const uint8_t *name, size_t len, unsigned scope, unsigned action, uint16_t list)
{
    dns_query q;
    if (dns_name_check(name, len) < 0)
        return -1;
    dns_query_name(&q, name, len, &rules->key);
    return dns_rules_enter(rules, &q, scope, action, list);
}

unsigned dns_rules_find(const dns_rules *rules, const dns_query *q, unsigned *labels, uint16_t *list)
{
    for (unsigned skip = 0; skip <= q->labels; skip++) {
        unsigned depth = q->labels - skip;
        uint64_t hash = q->hashes[skip], bits = bloom_bits(hash);
        if (!(rules->depths[depth >> 6] >> (depth & 63) & 1) ||
            (rules->bloom[hash >> 4 & rules->bloom_mask] & bits) != bits)
            continue;
        size_t at = q->label_at[skip];
        const dns_rule *rule = seek(rules, hash, q->name + at, q->name_len - at);
        unsigned action = rule->name ? (skip ? rule->below : rule->exact) : DNS_RULE_NONE;
        if (action) {
            *labels = depth;
            *list = rule->list;
            return action >= DNS_RULE_IMPORTANT ? action - DNS_RULE_IMPORTANT : action;
        }
    }
    return DNS_RULE_NONE;
}

/* A SOA of nobody's, so that clients keep the refusal for a minute. */
static size_t put_soa(uint8_t *p)
{
    static const uint8_t rdata[] = {0, 0, 0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 2, 88, 0, 1, 81, 128, 0, 0, 0, BLOCKED_TTL};
    p[0] = 0;
    dns_put16(p + 1, DNS_SOA);
    dns_put16(p + 3, DNS_IN);
    dns_put32(p + 5, BLOCKED_TTL);
    dns_put16(p + 9, sizeof rdata);
    memcpy(p + 11, rdata, sizeof rdata);
    return 11 + sizeof rdata;
}

size_t dns_rule_reply(unsigned action, const dns_server *server, const dns_client *client,
                      const uint8_t *msg, const dns_query *q, uint16_t flags, uint16_t ede, uint8_t *out)
{
    dns_extra extra = {.ede = ede};
    uint16_t counts[3] = {0, 0, 0};
    if (action == DNS_RULE_REFUSED)
        return dns_error_write(out, server, client, msg, q, flags, DNS_REFUSED, &extra);
    if (action == DNS_RULE_TCP)
        return dns_error_write(out, server, client, msg, q, flags | DNS_TC, DNS_NOERROR, NULL);
    size_t at = q->question_end;
    memcpy(out + DNS_HEADER, msg + DNS_HEADER, at - DNS_HEADER);
    if (action == DNS_RULE_ZERO && (q->qtype == DNS_A || q->qtype == DNS_AAAA)) {
        size_t n = q->qtype == DNS_A ? 4 : 16;
        dns_put16(out + at, DNS_POINTER | DNS_HEADER);
        dns_put16(out + at + 2, q->qtype);
        dns_put16(out + at + 4, DNS_IN);
        dns_put32(out + at + 6, BLOCKED_TTL);
        dns_put16(out + at + 10, (uint32_t)n);
        memset(out + at + 12, 0, n);
        at += 12 + n;
        counts[0] = 1;
    } else {
        at += put_soa(out + at);
        counts[1] = 1;
    }
    uint16_t rcode = action == DNS_RULE_NXDOMAIN || action == DNS_RULE_GONE ? DNS_NXDOMAIN : DNS_NOERROR;
    return dns_reply_finish(out, at, server, client, msg, q, flags, rcode, counts, &extra);
}

/* --- response rate limiting ------------------------------------------------ */

static const struct {
    uint8_t four, bits;
    uint16_t times;
} levels[DNS_RRL_LEVELS] = {{1, 32, 1},   {1, 24, 32}, {1, 20, 256}, {1, 18, 768}, {0, 128, 1},
                            {0, 64, 2},   {0, 56, 3},  {0, 48, 4},   {0, 32, 64}};

int dns_rrl_init(dns_rrl *rrl, uint64_t slots, double rate, double burst, uint32_t slip, const dns_key *key)
{
    size_t size = slots * sizeof *rrl->slot;
    memset(rrl, 0, sizeof *rrl);
    if (!slots || slots & (slots - 1) || !(rate > 0) || !(burst >= 1))
        return -1;
    rrl->slot = dns_pages_take(&size);
    if (!rrl->slot)
        return -1;
    rrl->mask = slots - 1;
    rrl->key = *key;
    rrl->cost = (uint64_t)(1e9 / rate);
    rrl->burst = (uint64_t)(1e9 / rate * burst);
    rrl->slip = slip;
    return 0;
}

void dns_rrl_free(dns_rrl *rrl)
{
    if (rrl->slot)
        dns_pages_give(rrl->slot, pages((rrl->mask + 1) * sizeof *rrl->slot));
    rrl->slot = NULL;
}

static uint64_t *bucket(dns_rrl *rrl, const uint8_t *ip, unsigned level)
{
    uint64_t half[2] = {0, 0};
    unsigned bits = levels[level].bits;
    memcpy(half, ip, (bits + 7) / 8);
    if (bits % 8)
        ((uint8_t *)half)[bits / 8] &= (uint8_t)(0xff << (8 - bits % 8));
    uint64_t h = dns_mix(dns_mix(rrl->key.k[0] ^ level ^ half[0], rrl->key.k[1]) ^ half[1], rrl->key.k[1]);
    return &rrl->slot[h & rrl->mask];
}

int dns_rrl_take(dns_rrl *rrl, const uint8_t *ip, size_t ip_len, uint64_t now, uint32_t weight)
{
    uint64_t *found[DNS_RRL_LEVELS], cost[DNS_RRL_LEVELS];
    unsigned n = 0;
    int over = 0, small = 0;
    for (unsigned i = 0; i < DNS_RRL_LEVELS; i++) {
        if (levels[i].four != (ip_len == 4))
            continue;
        found[n] = bucket(rrl, ip, i);
        cost[n] = rrl->cost * weight / levels[i].times;
        uint64_t at = *found[n] > now ? *found[n] : now;
        over |= at + cost[n] - now > rrl->burst;
        small |= at + cost[n] - now > rrl->burst - rrl->burst / 16;
        n++;
    }
    if (over)
        return rrl->slip && ++rrl->turn % rrl->slip == 0 ? DNS_RRL_SLIP : DNS_RRL_DROP;
    for (unsigned i = 0; i < n; i++)
        *found[i] = (*found[i] > now ? *found[i] : now) + cost[i];
    return small ? DNS_RRL_SMALL : DNS_RRL_PASS;
}
