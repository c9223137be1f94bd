/* dns_list.h: block and allow lists, read from text.
 *
 * The common lines of hosts files, lists of plain names and adblock lists go
 * straight into rules and into sets that remember the line; every other line is
 * handed back, for Python to judge. What is read here is read as Python would.
 */
#ifndef DNS_LIST_H
#define DNS_LIST_H

#include "dns_policy.h"

typedef struct dns_named {
    uint64_t hash;           /* of the folded name */
    uint32_t line;
    uint32_t spare;
} dns_named;

/* Names with the line each came from: filled, sealed, then only read. */
typedef struct dns_names {
    dns_named *at;
    size_t count, room, sealed; /* the first `sealed` are sorted and differ */
} dns_names;

/* 0 or -1 without memory. */
int dns_names_add(dns_names *names, uint64_t hash, uint32_t line);
/* Sorts; of equal names the one of the first line stays. */
void dns_names_seal(dns_names *names);
/* The line of a name, 0 when it is not there. */
uint32_t dns_names_find(const dns_names *names, uint64_t hash);
void dns_names_free(dns_names *names);

enum { DNS_LIST_HOSTS, DNS_LIST_PLAIN, DNS_LIST_ADBLOCK };
/* The sets of a list: names blocked, blocked with all below, allowed, allowed with all below. */
enum { DNS_LIST_EXACT, DNS_LIST_BELOW, DNS_LIST_ALLOW_EXACT, DNS_LIST_ALLOW_BELOW, DNS_LIST_SETS };

typedef struct dns_list_line {
    size_t start, end;       /* in the text, without its end of line */
    uint32_t number;
} dns_list_line;

#define DNS_LIST_WAITING 16

/* A rule that is read, and not in the tables yet. */
typedef struct dns_list_rule {
    dns_query q;
    uint32_t line;
    uint8_t set;
} dns_list_rule;

typedef struct dns_list {
    dns_rules *rules;
    dns_names *set[DNS_LIST_SETS];
    uint64_t count;          /* rules read */
    dns_list_line *left;     /* lines for Python; free() it */
    size_t lefts, left_room;
    unsigned waiting;
    dns_list_rule wait[DNS_LIST_WAITING];
} dns_list;

/* How many lines `len` octets have, at most. */
uint32_t dns_list_lines(const uint8_t *text, size_t len);
/* Reads `len` octets of a list of `kind`. 0, or -1 without memory: what was read then is not whole. */
int dns_list_read(dns_list *list, int kind, const uint8_t *text, size_t len);

#endif
