/* dns_policy.h: lists of names with an action each, and the rate limit of replies.
 *
 * A list is built once and then only read: a new one is built beside it and
 * swapped in between turns. A question costs one look at a Bloom filter per
 * label, and a probe where that says yes. About 50 octets for a rule.
 */
#ifndef DNS_POLICY_H
#define DNS_POLICY_H

#include "dns_message.h"

/* What a rule says (GONE: NXDOMAIN, whatever the list's own answer is). Of two rules for one name the higher number wins, so that an
 * allow rule beats a block rule and an important one beats both. */
enum { DNS_RULE_NONE = 0, DNS_RULE_NXDOMAIN, DNS_RULE_NODATA, DNS_RULE_ZERO, DNS_RULE_REFUSED, DNS_RULE_DROP,
       DNS_RULE_TCP, DNS_RULE_PYTHON, DNS_RULE_GONE, DNS_RULE_ALLOW = 15, DNS_RULE_IMPORTANT = 16 };
enum { DNS_RULE_EXACT = 1, DNS_RULE_BELOW = 2 };

typedef struct dns_rule {
    uint64_t hash;
    uint32_t name;           /* in `octets`; 0: free */
    uint8_t exact, below;    /* actions for the name itself, for names below it */
    uint16_t list;           /* which list said so */
} dns_rule;

typedef struct dns_rules {
    dns_key key;
    uint64_t depths[2];      /* bit n: some rule has n labels */
    uint64_t mask, bloom_mask;
    uint32_t count, room;
    uint64_t hits;           /* answers given by it; one writer */
    dns_rule *rule;
    uint64_t *bloom;
    uint8_t *octets;
    uint64_t octets_used, octets_room;
} dns_rules;

/* Room for `most` rules whose names have `octets` octets in all, to begin with. NULL without memory. */
dns_rules *dns_rules_new(uint32_t most, uint64_t octets, const dns_key *key);
void dns_rules_free(dns_rules *rules);
/* One rule; the table grows as it must. 0; 1 when the name had one already; -1: no
 * name; -2: no memory. */
int dns_rules_add(dns_rules *rules, const uint8_t *name, size_t len, unsigned scope, unsigned action, uint16_t list);
/* The same for the name of `q`, which dns_query_name filled with the key of the rules. */
int dns_rules_enter(dns_rules *rules, const dns_query *q, unsigned scope, unsigned action, uint16_t list);
/* Hints to memory that `q` will be entered. */
void dns_rules_expect(const dns_rules *rules, const dns_query *q);
/* The rule for the name of `q`, from the most specific name up. The action, or
 * DNS_RULE_NONE; the rule's label count and list go to *labels and *list. */
unsigned dns_rules_find(const dns_rules *rules, const dns_query *q, unsigned *labels, uint16_t *list);
/* Octets of memory. */
size_t dns_rules_size(const dns_rules *rules);

/* The reply of an action (not ALLOW, DROP, PYTHON). `flags`: RA or 0; `ede` 15..17. Returns its length. */
size_t dns_rule_reply(unsigned action, const dns_server *server, const dns_client *client,
                      const uint8_t *msg, const dns_query *q, uint16_t flags, uint16_t ede, uint8_t *out);

/* --- response rate limiting (spec 7.2) ------------------------------------ */

#define DNS_RRL_LEVELS 9

/* Each slot is the time at which a bucket will be empty (ITU-T I.371), shared by
 * hash: collisions only make the limit stricter. Fixed memory. */
typedef struct dns_rrl {
    uint64_t *slot;
    uint64_t mask;
    dns_key key;
    uint64_t cost, burst;    /* ns at the base rate */
    uint32_t slip;           /* every n-th limited reply is TC=1; 0: none */
    uint32_t turn;
} dns_rrl;

/* SMALL: answer, but with at most DNS_RRL_RATIO times the octets of the question. A bucket that is nearly full
 * is that of somebody who asks at the limit or above. */
enum { DNS_RRL_PASS = 0, DNS_RRL_DROP, DNS_RRL_SLIP, DNS_RRL_SMALL };
#define DNS_RRL_RATIO 3

/* `rate` replies per second and address, `burst` more at once; slots: a power of 2. 0 or -1. */
int dns_rrl_init(dns_rrl *rrl, uint64_t slots, double rate, double burst, uint32_t slip, const dns_key *key);
void dns_rrl_free(dns_rrl *rrl);
/* Charges `weight` replies to every prefix of the address. DNS_RRL_*. */
int dns_rrl_take(dns_rrl *rrl, const uint8_t *ip, size_t ip_len, uint64_t now, uint32_t weight);

#endif
