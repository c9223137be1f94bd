/* dns_zone.h: zones compiled into read-only images, and answers from them.
 *
 * An image is one block of memory that holds offsets and no pointers: it may be
 * mapped at any address, sealed and shared by workers. A builder makes it; after
 * that nobody writes. Answering allocates nothing and takes no lock. Any thread
 * may read; replacing an image is the owner's business, between turns.
 *
 * Most answers are ready-made: an RRset, a referral and the negative answer
 * each have a template, the sections as they go on the wire behind a question
 * of the owner's length. For a longer name (a wildcard, a name below a cut, a
 * name that is not there) every pointer in it moves by the same distance.
 * Chains, DNAME, proofs and what does not fit go through dns_zone_plan.c.
 */
#ifndef DNS_ZONE_H
#define DNS_ZONE_H

#include "dns_writer.h"

#define DNS_IMAGE_MAGIC 0x31656e6f7a736e64u
#define DNS_IMAGE_SLACK 16      /* readable octets behind the last name */
#define DNS_TEMPLATE_MAX 4096   /* larger answers are composed when asked for */
#define DNS_LINKS_MAX 16        /* CNAME and DNAME steps in one answer */
#define DNS_NSEC3_ITERATIONS 150

/* A cut is an NS RRset below the apex. */
enum { DNS_NODE_CUT = 1, DNS_NODE_DNAME = 2, DNS_NODE_CNAME = 4, DNS_NODE_WILD = 8 };
enum { DNS_IMAGE_NSEC = 1, DNS_IMAGE_NSEC3 = 2, DNS_IMAGE_SIGNED = 4 };

typedef struct dns_image {
    uint64_t magic, size;
    uint32_t table, mask;       /* slots of {tag, node} */
    uint32_t apex;
    uint32_t max_labels;
    uint32_t flags;
    uint32_t negative[2];       /* templates: SOA alone; the same with RRSIG */
    uint32_t negative_ttl;
    uint32_t soa;               /* rrset of the apex */
    uint16_t iterations;
    uint8_t salt_len, origin_len, origin_labels; /* one cache line up to here */
    uint32_t nodes, rrsets, records, ignored;
    uint32_t first_node;        /* nodes stand one behind the other */
    uint32_t serial;
    uint32_t nsec, nsec_count;  /* {key offset, key length, node} in canonical order */
    uint32_t nsec3, nsec3_count;/* {hash[20], node} in order of hash */
    dns_key key;
    uint8_t salt[255];
    uint8_t origin[DNS_NAME_MAX + 9]; /* folded */
} dns_image;

typedef struct dns_slot {
    uint32_t tag, node;
} dns_slot;

typedef struct dns_rrset {
    uint16_t type, count;
    uint32_t ttl;
    uint32_t data;              /* `count` times: 16-bit length, rdata uncompressed */
    uint32_t sigs;              /* the RRSIGs that cover it, likewise */
    uint16_t sig_count, spare;
    uint32_t octets;            /* of data */
    uint32_t answer[2];         /* templates: plain; with RRSIG. 0: compose */
} dns_rrset;

typedef struct dns_node {
    uint64_t hash;
    uint32_t size;              /* of this node with all behind it, to the next */
    uint32_t self;              /* offset of this node: where the image begins */
    uint32_t above;             /* the topmost strict ancestor that is a cut or has DNAME; 0 */
    uint32_t wildcard;          /* the child "*" */
    uint32_t referral[2];       /* templates of a cut */
    uint16_t rrsets;
    uint8_t labels, name_len, flags;
    uint8_t any;                /* which RRset answers ANY (RFC 8482) */
    uint16_t spare;
    dns_rrset set[];            /* by type; then the name, case kept */
} dns_node;

typedef struct dns_template {
    uint16_t len, relocs;
    uint16_t counts[3];
    uint16_t reloc[];           /* places of pointers; then the octets */
} dns_template;

typedef struct dns_nsec_slot {
    uint32_t key, key_len, node;
} dns_nsec_slot;

typedef struct dns_nsec3_slot {
    uint8_t hash[20];
    uint32_t node;
} dns_nsec3_slot;

static inline const void *dns_at(const dns_image *image, uint32_t offset)
{
    return (const uint8_t *)image + offset;
}
static inline const dns_node *dns_node_at(const dns_image *image, uint32_t offset)
{
    return offset ? (const dns_node *)dns_at(image, offset) : NULL;
}
static inline const dns_image *dns_node_image(const dns_node *node)
{
    return (const dns_image *)((const uint8_t *)node - node->self);
}
static inline const uint8_t *dns_node_name(const dns_node *node)
{
    return (const uint8_t *)(node->set + node->rrsets);
}

/* Zeroed pages, huge ones where that pays; *size is rounded up. NULL without memory. */
void *dns_pages_take(size_t *size);
void dns_pages_give(void *at, size_t size);

/* --- building --------------------------------------------------------- */

enum { DNS_BUILD_OK = 0, DNS_BUILD_MEMORY = -1, DNS_BUILD_NO_SOA = -2, DNS_BUILD_TWO_SOA = -3, DNS_BUILD_RDATA = -4,
       DNS_BUILD_NAME = -5, DNS_BUILD_SIZE = -6 };

typedef struct dns_builder dns_builder;

/* NULL without memory, or when origin is not a name. Free with dns_builder_free. */
dns_builder *dns_builder_new(const uint8_t *origin, size_t len, const dns_key *key);
/* One record; octets are copied. 0; 1 when the owner lies outside the zone
 * (ignored, counted); DNS_BUILD_* below 0. */
int dns_builder_add(dns_builder *b, const uint8_t *owner, size_t owner_len, uint16_t type, uint32_t ttl,
                    const uint8_t *rdata, size_t rdlen);
/* Compiles the image. It is malloc'ed and the caller's to free. DNS_BUILD_*. */
int dns_builder_finish(dns_builder *b, dns_image **image);
void dns_builder_free(dns_builder *b);

/* --- looking up -------------------------------------------------------- */

/* Whether a name whose case was kept is the folded one. */
int dns_same_folded(const uint8_t *kept, const uint8_t *folded, size_t len);
/* The node of a folded name, or NULL. `name` has 8 readable octets behind it. */
const dns_node *dns_image_find(const dns_image *image, uint64_t hash, const uint8_t *name, size_t len);

static inline const dns_rrset *dns_node_type(const dns_node *node, uint16_t type)
{
    for (unsigned i = 0; i < node->rrsets; i++)
        if (node->set[i].type == type)
            return &node->set[i];
    return NULL;
}

/* The last node on the way from the apex to the name of `q`, which is not a
 * node itself. By halving: 127 labels cost seven probes. */
const dns_node *dns_image_encloser(const dns_image *image, const dns_query *q);

/* --- a set of zones ----------------------------------------------------- */

typedef struct dns_zone_entry {
    uint64_t hash;
    const dns_image *image;     /* NULL: not loaded, or expired */
    uint32_t expire;            /* seconds, for EXPIRE; 0: a primary */
    uint16_t ede;               /* without an image: 14 loading, 24 expired */
    uint8_t labels, origin_len;
    uint8_t origin[DNS_NAME_MAX + 9];
} dns_zone_entry;

/* Where a name of any of the zones stands, so that 10,000 zones cost one probe. */
typedef struct dns_place {
    uint64_t hash;
    const dns_node *node;       /* NULL: free */
} dns_place;

typedef struct dns_zones {
    dns_key key;
    uint64_t depths[2];         /* bit n: some zone has n labels */
    uint32_t count, mask;
    uint32_t *table;            /* index + 1 into entry */
    dns_zone_entry *entry;
    dns_place *place;           /* NULL before dns_zones_seal */
    uint64_t place_mask;
    uint8_t *arena;             /* copies of small images, close together */
    size_t arena_size, place_size;
} dns_zones;

/* Room for `count` zones; NULL without memory. */
dns_zones *dns_zones_new(uint32_t count, const dns_key *key);
/* The image is borrowed until dns_zones_free. 0, or -1 when full, twice the same, or of another key. */
int dns_zones_add(dns_zones *zones, const uint8_t *origin, size_t len, const dns_image *image, uint16_t ede,
                  uint32_t expire);
/* After the last add: gathers the small images and indexes all names. 0, or -1
 * without memory. */
int dns_zones_seal(dns_zones *zones);
/* Hints to memory that the name of `q` will be asked: first where its node is told, then the node. */
static inline void dns_zones_expect(const dns_zones *zones, const dns_query *q)
{
    if (zones->place)
        __builtin_prefetch(&zones->place[q->hash & zones->place_mask]);
}
static inline void dns_zones_fetch(const dns_zones *zones, const dns_query *q)
{
    if (zones->place && zones->place[q->hash & zones->place_mask].hash == q->hash) {
        const uint8_t *node = (const uint8_t *)zones->place[q->hash & zones->place_mask].node;
        for (int i = 0; i < 4; i++)
            __builtin_prefetch(node + 64 * i);
    }
}
void dns_zones_free(dns_zones *zones);
/* The longest zone that encloses the name of `q`; with `skip_apex` not one whose
 * apex is the name. NULL: none. */
dns_zone_entry *dns_zones_find(const dns_zones *zones, const dns_query *q, int skip_apex);

/* Answers a question of class IN, opcode QUERY, from the zones (spec section 3).
 * Returns the length of the reply in `out` (room for dns_reply_limit octets and
 * at least 1,232), or 0 when no zone encloses the name. `flags` are RA or 0.
 * The rcode given is left in *rcode. */
size_t dns_zones_answer(const dns_zones *zones, const dns_server *server, const dns_client *client,
                        const uint8_t *msg, const dns_query *q, uint16_t flags, uint8_t *out, uint16_t *rcode);

/* --- between the files of the zone image -------------------------------- */

typedef struct dns_item {
    const dns_rrset *set;       /* NULL: a synthesised CNAME to `target` */
    const uint8_t *owner;       /* NULL: the question's name */
    const uint8_t *target;
    const dns_node *node;       /* where the set stands */
    const dns_image *image;
    uint32_t ttl;
    uint8_t required;           /* of additional records */
    uint8_t sigs_only;
} dns_item;

#define DNS_ITEMS 64
#define DNS_EXTRAS 256

/* An answer being put together; on the stack. */
typedef struct dns_plan {
    const dns_image *image;
    const uint8_t *asked;       /* the question's name, case kept */
    int dnssec;
    unsigned answers, authorities, additionals, names;
    dns_item answer[DNS_ITEMS], authority[DNS_ITEMS], additional[DNS_EXTRAS];
    uint8_t name[DNS_LINKS_MAX + 2][DNS_NAME_MAX + 9];
} dns_plan;

/* The whole lookup of section 3.1; fills the plan. Returns the rcode; *aa set. */
int dns_plan_answer(dns_plan *plan, const dns_zones *zones, const dns_query *q, int *aa, uint16_t *ede);
/* The parts of a plan, also used to make templates. */
void dns_plan_rrset(dns_plan *plan, const dns_node *node, const dns_rrset *set, const uint8_t *owner);
void dns_plan_negative(dns_plan *plan);
void dns_plan_referral(dns_plan *plan, const dns_node *node);
/* Writes a plan. 0; 1 when optional records were left out; -1 when a required
 * part did not fit. */
int dns_plan_write(const dns_plan *plan, dns_writer *w, uint16_t counts[3]);

/* Proofs of absence (section 3.2), added to the authority of the plan. */
void dns_prove_nodata(dns_plan *plan, const dns_node *node, const dns_query *q);
void dns_prove_nxdomain(dns_plan *plan, const dns_node *encloser, const dns_query *q);
void dns_prove_wildcard(dns_plan *plan, const dns_node *encloser, const dns_query *q);
void dns_prove_wildcard_nodata(dns_plan *plan, const dns_node *encloser, const dns_node *wild, const dns_query *q);
void dns_prove_unsigned_cut(dns_plan *plan, const dns_node *cut);
/* The canonical order of a name as octets that memcmp sorts: at most 512. */
size_t dns_order_key(const uint8_t *name, uint8_t out[512]);
/* The 20 octets of an NSEC3 owner label; -1: not base32hex of SHA-1. */
int dns_nsec3_label(const uint8_t *label, uint8_t hash[20]);

#endif
