/* dns_zone_build.c: compiles records into a zone image. Allocates; not for turns. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* qsort_r */
#endif
#include "dns_zone.h"

#include <stdlib.h>

typedef struct raw {            /* a record in the arena; its rdata follows */
    uint32_t next;              /* in the list of its node; arena offset + 1 */
    uint32_t ttl;
    uint16_t type, len;
    uint32_t order;             /* of arrival: keeps the sort stable */
} raw;

typedef struct growing {
    uint64_t hash;
    uint32_t name;              /* in the arena, case kept */
    uint32_t parent;            /* index + 1 */
    uint32_t first;             /* raw + 1 */
    uint32_t place;             /* in the image */
    uint16_t sets;
    uint8_t labels, name_len;
} growing;

struct dns_builder {
    dns_key key;
    dns_query q;                /* the owner at hand */
    uint8_t origin[DNS_NAME_MAX];
    size_t origin_len;
    uint64_t origin_hash;
    unsigned origin_labels;
    uint8_t *arena;
    size_t arena_len, arena_room;
    growing *node;
    uint32_t nodes, node_room;
    uint32_t *table, mask;
    uint32_t last;              /* node of the last owner, index + 1 */
    uint32_t records, ignored, sets;
    raw **list;                 /* the records of one node, sorted */
    size_t list_room;
    uint8_t *image;             /* while compiling */
    size_t image_len, image_room;
};

static int grow(void **block, size_t *room, size_t need, size_t unit)
{
    if (need <= *room)
        return 0;
    size_t more = *room ? *room : 64;
    while (more < need)
        more += more / 2 + 1;
    if (more > UINT32_MAX) /* not reached: by a test that has less than 4 GiB */
        return DNS_BUILD_SIZE;
    void *bigger = realloc(*block, more * unit);
    if (!bigger)
        return DNS_BUILD_MEMORY;
    *block = bigger;
    *room = more;
    return 0;
}

/* Room in the arena, aligned to 8. The offset, or a negative DNS_BUILD_*. */
static int64_t arena_take(dns_builder *b, size_t len)
{
    size_t at = b->arena_len, padded = (len + 7) & ~(size_t)7;
    int failed = grow((void **)&b->arena, &b->arena_room, at + padded, 1);
    if (failed)
        return failed;
    b->arena_len = at + padded;
    return (int64_t)at;
}

dns_builder *dns_builder_new(const uint8_t *origin, size_t len, const dns_key *key)
{
    if (dns_name_check(origin, len) < 0)
        return NULL;
    dns_builder *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->key = *key;
    b->mask = 1023;
    b->table = calloc(1024, sizeof *b->table);
    if (!b->table) {
        free(b);
        return NULL;
    }
    dns_query_name(&b->q, origin, len, key);
    memcpy(b->origin, b->q.name, len);
    b->origin_len = len;
    b->origin_hash = b->q.hash;
    b->origin_labels = b->q.labels;
    return b;
}

void dns_builder_free(dns_builder *b)
{
    if (!b)
        return;
    free(b->arena);
    free(b->node);
    free(b->table);
    free(b->list);
    free(b->image);
    free(b);
}

static uint32_t find_node(const dns_builder *b, uint64_t hash, const uint8_t *folded, size_t len)
{
    for (uint32_t i = (uint32_t)hash & b->mask; b->table[i]; i = (i + 1) & b->mask) {
        const growing *node = &b->node[b->table[i] - 1];
        if (node->hash == hash && node->name_len == len && dns_same_folded(b->arena + node->name, folded, len))
            return b->table[i];
    }
    return 0;
}

static int rehash(dns_builder *b)
{
    uint32_t size = (b->mask + 1) * 4;
    uint32_t *table = calloc(size, sizeof *table);
    if (!table)
        return DNS_BUILD_MEMORY;
    for (uint32_t n = 0; n < b->nodes; n++) {
        uint32_t i = (uint32_t)b->node[n].hash & (size - 1);
        while (table[i])
            i = (i + 1) & (size - 1);
        table[i] = n + 1;
    }
    free(b->table);
    b->table = table;
    b->mask = size - 1;
    return 0;
}

/* A new node for the owner at hand without its first `skip` labels. */
static int make_node(dns_builder *b, const uint8_t *owner, unsigned skip, uint32_t parent)
{
    const dns_query *q = &b->q;
    size_t at = q->label_at[skip], len = q->name_len - at, room = b->node_room;
    int failed = grow((void **)&b->node, &room, (size_t)b->nodes + 1, sizeof *b->node);
    if (failed)
        return failed;
    b->node_room = (uint32_t)room;
    if (b->nodes > b->mask / 2 && (failed = rehash(b)))
        return failed;
    int64_t name = arena_take(b, len + 8);
    if (name < 0)
        return (int)name;
    memcpy(b->arena + name, owner + at, len);
    memset(b->arena + name + len, 0, 8);
    growing *node = &b->node[b->nodes++];
    memset(node, 0, sizeof *node);
    node->hash = q->hashes[skip];
    node->name = (uint32_t)name;
    node->parent = parent;
    node->labels = (uint8_t)(q->labels - skip);
    node->name_len = (uint8_t)len;
    uint32_t i = (uint32_t)node->hash & b->mask;
    while (b->table[i])
        i = (i + 1) & b->mask;
    b->table[i] = b->nodes;
    return 0;
}

/* The node of the owner at hand, made with its ancestors if need be. */
static int64_t reach_node(dns_builder *b, const uint8_t *owner)
{
    const dns_query *q = &b->q;
    unsigned deepest = q->labels - b->origin_labels, skip = 0;
    uint32_t found = 0;
    for (; skip <= deepest; skip++) {
        size_t at = q->label_at[skip];
        found = find_node(b, q->hashes[skip], q->name + at, q->name_len - at);
        if (found)
            break;
    }
    while (skip-- > 0) {
        int failed = make_node(b, owner, skip, found);
        if (failed)
            return failed;
        found = b->nodes;
    }
    return found;
}

int dns_builder_add(dns_builder *b, const uint8_t *owner, size_t owner_len, uint16_t type, uint32_t ttl,
                    const uint8_t *rdata, size_t rdlen)
{
    if (!b->last || b->q.name_len != owner_len || !dns_same_folded(owner, b->q.name, owner_len)) {
        if (dns_name_check(owner, owner_len) < 0)
            return DNS_BUILD_NAME;
        dns_query_name(&b->q, owner, owner_len, &b->key);
        b->last = 0;
        unsigned skip = b->q.labels - b->origin_labels;
        if (b->q.labels < b->origin_labels || b->q.hashes[skip] != b->origin_hash ||
            memcmp(b->q.name + b->q.label_at[skip], b->origin, b->origin_len)) {
            b->ignored++;
            return 1;
        }
        int64_t node = reach_node(b, owner);
        if (node < 0)
            return (int)node;
        b->last = (uint32_t)node;
    }
    if (rdlen > 65535 || !dns_rdata_ok(type, rdata, rdlen) || (type == DNS_RRSIG && rdlen < 18) ||
        (type == DNS_NSEC3 && rdlen < 6) || (type == DNS_NSEC3PARAM && rdlen < 5))
        return DNS_BUILD_RDATA;
    int64_t at = arena_take(b, sizeof(raw) + rdlen);
    if (at < 0)
        return (int)at;
    raw *record = (raw *)(b->arena + at);
    growing *node = &b->node[b->last - 1];
    record->next = node->first;
    record->ttl = ttl > 0x7fffffff ? 0x7fffffff : ttl;
    record->type = type;
    record->len = (uint16_t)rdlen;
    record->order = b->records++;
    memcpy(record + 1, rdata, rdlen);
    node->first = (uint32_t)at + 1;
    return 0;
}

static int compare(const void *left, const void *right)
{
    const raw *a = *(raw *const *)left, *b = *(raw *const *)right;
    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    size_t n = a->len < b->len ? a->len : b->len;
    int order = memcmp(a + 1, b + 1, n);
    if (order)
        return order;
    return a->len != b->len ? (a->len < b->len ? -1 : 1) : a->order < b->order ? -1 : 1;
}

static uint16_t covered(const raw *sig) { return dns_get16((const uint8_t *)(sig + 1)); }

/* The records of a node into b->list, sorted, each once. Their number, or DNS_BUILD_*. */
static int64_t sort_node(dns_builder *b, const growing *node)
{
    size_t n = 0, kept = 0;
    for (uint32_t at = node->first; at; n++) {
        raw *record = (raw *)(b->arena + at - 1);
        int failed = grow((void **)&b->list, &b->list_room, n + 1, sizeof *b->list);
        if (failed)
            return failed;
        b->list[n] = record;
        at = record->next;
    }
    if (n > 1)
        qsort(b->list, n, sizeof *b->list, compare);
    for (size_t i = 0; i < n; i++) {
        raw *a = b->list[i], *last = kept ? b->list[kept - 1] : NULL;
        if (last && last->type == a->type && last->len == a->len && !memcmp(last + 1, a + 1, a->len)) {
            last->ttl = a->ttl < last->ttl ? a->ttl : last->ttl;
            ((dns_image *)b->image)->ignored++;
            continue;
        }
        b->list[kept++] = b->list[i];
    }
    return (int64_t)kept;
}

static int64_t image_take(dns_builder *b, size_t len, size_t align)
{
    size_t at = (b->image_len + align - 1) & ~(align - 1);
    int failed = grow((void **)&b->image, &b->image_room, at + len + DNS_IMAGE_SLACK, 1);
    if (failed)
        return failed;
    memset(b->image + b->image_len, 0, at + len + DNS_IMAGE_SLACK - b->image_len);
    b->image_len = at + len;
    return (int64_t)at;
}

static void put_rdata(dns_builder *b, uint32_t *at, const raw *record)
{
    memcpy(b->image + *at, &record->len, 2);
    memcpy(b->image + *at + 2, record + 1, record->len);
    *at += 2u + record->len;
}

/* Chooses the RRset for ANY: the CNAME, else the smallest that is not about denial. */
static uint8_t choose_any(const dns_node *node)
{
    uint32_t best = 0, octets = UINT32_MAX;
    for (unsigned i = 0; i < node->rrsets; i++) {
        const dns_rrset *set = &node->set[i];
        uint32_t weight = set->octets + (set->type == DNS_NSEC || set->type == DNS_NSEC3 ? 1u << 30 : 0);
        if (set->type == DNS_CNAME)
            weight = 0;
        if (weight < octets) {
            octets = weight;
            best = i;
        }
    }
    return (uint8_t)(best < 255 ? best : 0);
}

/* Writes one node with its RRsets. 0 or DNS_BUILD_*. */
static int emit_node(dns_builder *b, uint32_t index)
{
    int64_t n = sort_node(b, &b->node[index]);
    if (n < 0)
        return (int)n;
    growing *from = &b->node[index];
    size_t octets = 0, sets = 0;
    for (int64_t i = 0; i < n; i++) {
        octets += 2u + b->list[i]->len;
        sets += b->list[i]->type != DNS_RRSIG && (i == 0 || b->list[i]->type != b->list[i - 1]->type);
    }
    if (sets > 65535 || octets > UINT32_MAX / 2) /* not reached: by a test that has less than 2 GiB */
        return DNS_BUILD_SIZE;
    size_t size = sizeof(dns_node) + sets * sizeof(dns_rrset) + from->name_len + octets;
    int64_t place = image_take(b, size, 8);
    if (place < 0)
        return (int)place;
    from->place = (uint32_t)place;
    dns_node *node = (dns_node *)(b->image + place);
    node->hash = from->hash;
    node->self = (uint32_t)place;
    node->labels = from->labels;
    node->name_len = from->name_len;
    node->rrsets = (uint16_t)sets;
    memcpy((uint8_t *)(node->set + sets), b->arena + from->name, from->name_len);
    uint32_t at = (uint32_t)((uint8_t *)(node->set + sets) + from->name_len - b->image);
    dns_rrset *set = node->set - 1;
    uint32_t used = 0;
    for (int64_t i = 0; i < n; i++) {
        const raw *record = b->list[i];
        if (record->type == DNS_RRSIG)
            continue;
        if (i == 0 || record->type != b->list[i - 1]->type) {
            set++;
            set->type = record->type;
            set->ttl = record->ttl;
            set->data = at;
        }
        if (set->count == 65535)
            return DNS_BUILD_SIZE;
        set->count++;
        set->ttl = record->ttl < set->ttl ? record->ttl : set->ttl;
        set->octets += record->len;
        put_rdata(b, &at, record);
        used++;
    }
    for (set = node->set; set < node->set + sets; set++) {
        set->sigs = at;
        for (int64_t i = 0; i < n; i++)
            if (b->list[i]->type == DNS_RRSIG && covered(b->list[i]) == set->type && set->sig_count < 65535) {
                put_rdata(b, &at, b->list[i]);
                set->sig_count++;
                used++;
            }
        if (set->type == DNS_CNAME)
            node->flags |= DNS_NODE_CNAME;
        if (set->type == DNS_NS && index)
            node->flags |= DNS_NODE_CUT;
        if (set->type == DNS_DNAME)
            node->flags |= DNS_NODE_DNAME;
    }
    const uint8_t *name = dns_node_name(node);
    if (name[0] == 1 && name[1] == '*')
        node->flags |= DNS_NODE_WILD;
    node->any = choose_any(node);
    b->image_len = at; /* signatures that cover nothing took no room */
    node->size = (uint32_t)((b->image_len + 7) / 8 * 8 - (size_t)place);
    dns_image *image = (dns_image *)b->image;
    image->records += used;
    image->ignored += (uint32_t)(n - used);
    image->rrsets += (uint32_t)sets;
    if (node->labels > image->max_labels)
        image->max_labels = node->labels;
    return 0;
}

/* Parents stand before their children, so one pass sees all above a node. */
static void link_nodes(dns_builder *b)
{
    for (uint32_t i = 1; i < b->nodes; i++) {
        dns_node *node = (dns_node *)(b->image + b->node[i].place);
        dns_node *parent = (dns_node *)(b->image + b->node[b->node[i].parent - 1].place);
        if (node->flags & DNS_NODE_WILD)
            parent->wildcard = node->self;
        if (parent->above)
            node->above = parent->above;
        else if (parent->flags & (DNS_NODE_CUT | DNS_NODE_DNAME))
            node->above = parent->self;
    }
}

static int emit_table(dns_builder *b)
{
    uint32_t size = 4;
    while (size < 2 * (uint64_t)b->nodes)
        size *= 2;
    int64_t at = image_take(b, (size_t)size * sizeof(dns_slot), 64);
    if (at < 0)
        return (int)at;
    dns_image *image = (dns_image *)b->image;
    dns_slot *table = (dns_slot *)(b->image + at);
    image->table = (uint32_t)at;
    image->mask = size - 1;
    for (uint32_t n = 0; n < b->nodes; n++) {
        uint32_t i = (uint32_t)b->node[n].hash & image->mask;
        while (table[i].node)
            i = (i + 1) & image->mask;
        table[i].tag = (uint32_t)(b->node[n].hash >> 32);
        table[i].node = b->node[n].place;
    }
    return 0;
}

static int compare_nsec(const void *left, const void *right, void *base)
{
    const dns_nsec_slot *a = left, *b = right;
    uint32_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = memcmp((const uint8_t *)base + a->key, (const uint8_t *)base + b->key, n);
    return order ? order : a->key_len < b->key_len ? -1 : a->key_len > b->key_len;
}

static int compare_nsec3(const void *left, const void *right) { return memcmp(left, right, 20); }

static uint32_t count_type(const dns_builder *b, uint16_t type)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->nodes; i++)
        n += dns_node_type((const dns_node *)(b->image + b->node[i].place), type) != NULL;
    return n;
}

static int emit_nsec(dns_builder *b)
{
    uint32_t count = count_type(b, DNS_NSEC), n = 0;
    int64_t at = image_take(b, (size_t)count * sizeof(dns_nsec_slot), 8);
    if (at < 0)
        return (int)at;
    for (uint32_t i = 0; i < b->nodes; i++) {
        const dns_node *node = (const dns_node *)(b->image + b->node[i].place);
        uint8_t key[512];
        if (!dns_node_type(node, DNS_NSEC) || node->above)
            continue;
        size_t len = dns_order_key(dns_node_name(node), key);
        int64_t place = image_take(b, len, 1);
        if (place < 0)
            return (int)place;
        memcpy(b->image + place, key, len);
        dns_nsec_slot *slot = (dns_nsec_slot *)(b->image + at) + n++;
        slot->key = (uint32_t)place;
        slot->key_len = (uint32_t)len;
        slot->node = b->node[i].place;
    }
    dns_image *image = (dns_image *)b->image;
    image->nsec = (uint32_t)at;
    image->nsec_count = n;
    if (n) {
        qsort_r(b->image + at, n, sizeof(dns_nsec_slot), compare_nsec, b->image);
        image->flags |= DNS_IMAGE_NSEC;
    }
    return 0;
}

static int emit_nsec3(dns_builder *b)
{
    dns_image *image = (dns_image *)b->image;
    const dns_node *apex = (const dns_node *)(b->image + image->apex);
    const dns_rrset *param = dns_node_type(apex, DNS_NSEC3PARAM);
    if (!param)
        return 0;
    const uint8_t *rdata = b->image + param->data + 2;
    uint16_t len;
    memcpy(&len, rdata - 2, 2);
    if (rdata[0] != 1 || rdata[4] > len - 5 || dns_get16(rdata + 2) > DNS_NSEC3_ITERATIONS)
        return 0;
    image->iterations = dns_get16(rdata + 2);
    image->salt_len = rdata[4];
    memcpy(image->salt, rdata + 5, rdata[4]);
    uint32_t n = 0;
    int64_t at = image_take(b, (size_t)count_type(b, DNS_NSEC3) * sizeof(dns_nsec3_slot), 8);
    if (at < 0)
        return (int)at;
    image = (dns_image *)b->image;
    for (uint32_t i = 0; i < b->nodes; i++) {
        const dns_node *node = (const dns_node *)(b->image + b->node[i].place);
        dns_nsec3_slot *slot = (dns_nsec3_slot *)(b->image + at) + n;
        if (node->labels != image->origin_labels + 1 || !dns_node_type(node, DNS_NSEC3) ||
            dns_nsec3_label(dns_node_name(node), slot->hash) < 0)
            continue;
        slot->node = b->node[i].place;
        n++;
    }
    image->nsec3 = (uint32_t)at;
    image->nsec3_count = n;
    if (n) {
        qsort(b->image + at, n, sizeof(dns_nsec3_slot), compare_nsec3);
        image->flags |= DNS_IMAGE_NSEC3;
        image->flags &= ~(uint32_t)DNS_IMAGE_NSEC;
    }
    return 0;
}

/* --- templates ---------------------------------------------------------- */

#define QUESTION_ROOM (DNS_HEADER + DNS_NAME_MAX + 4)
#define RELOCS_MAX 1024

typedef struct press {
    dns_plan plan;
    dns_writer w;
    uint8_t out[QUESTION_ROOM + DNS_TEMPLATE_MAX];
    uint16_t relocs[RELOCS_MAX];
} press;

static void press_begin(press *p, const dns_builder *b, int dnssec)
{
    p->plan.image = (const dns_image *)b->image;
    p->plan.dnssec = dnssec;
    p->plan.answers = p->plan.authorities = p->plan.additionals = p->plan.names = 0;
}

/* Writes the plan as behind a question for `name` and keeps it. The offset, 0
 * when it is too large for a template, or a negative DNS_BUILD_*. */
static int64_t press_keep(press *p, dns_builder *b, const uint8_t *name, size_t len, int skip, int moves)
{
    uint16_t counts[3];
    size_t start = DNS_HEADER + len + 4;
    memcpy(p->out + DNS_HEADER, name, len);
    dns_writer_begin(&p->w, p->out, start, sizeof p->out);
    p->w.relocs = p->relocs;
    p->w.max_relocs = RELOCS_MAX;
    dns_writer_know(&p->w, p->out + DNS_HEADER, DNS_HEADER, (unsigned)skip);
    if (dns_plan_write(&p->plan, &p->w, counts) != 0 || p->w.nrelocs == RELOCS_MAX)
        return 0;
    uint32_t relocs = moves ? p->w.nrelocs : 0;
    size_t body = p->w.at - start;
    int64_t at = image_take(b, sizeof(dns_template) + 2u * relocs + body, 2);
    if (at < 0)
        return at;
    dns_template *t = (dns_template *)(b->image + at);
    t->len = (uint16_t)body;
    t->relocs = (uint16_t)relocs;
    memcpy(t->counts, counts, sizeof counts);
    for (uint32_t i = 0; i < relocs; i++)
        t->reloc[i] = (uint16_t)(p->relocs[i] - start);
    memcpy(t->reloc + relocs, p->out + start, body);
    return at;
}

/* Both templates of one RRset, as answer to a question for its owner. */
static int press_rrset(press *p, dns_builder *b, uint32_t place, unsigned which)
{
    int kinds = ((dns_image *)b->image)->flags & DNS_IMAGE_SIGNED ? 2 : 1;
    uint32_t made[2] = {0, 0};
    for (int dnssec = 0; dnssec < kinds; dnssec++) {
        const dns_node *node = (const dns_node *)(b->image + place);
        int wild = node->flags & DNS_NODE_WILD ? 1 : 0;
        if (dnssec && !node->set[which].sig_count && node->set[which].type != DNS_NS) {
            made[1] = made[0];
            break;
        }
        press_begin(p, b, dnssec);
        dns_plan_rrset(&p->plan, node, &node->set[which], NULL);
        int64_t at = press_keep(p, b, dns_node_name(node), node->name_len, wild, wild);
        if (at < 0)
            return (int)at;
        made[dnssec] = (uint32_t)at;
    }
    dns_rrset *set = &((dns_node *)(b->image + place))->set[which];
    set->answer[0] = made[0];
    set->answer[1] = kinds == 2 ? made[1] : made[0];
    return 0;
}

static int press_referral(press *p, dns_builder *b, uint32_t place)
{
    for (int dnssec = 0; dnssec < 2; dnssec++) {
        const dns_node *node = (const dns_node *)(b->image + place);
        press_begin(p, b, dnssec);
        dns_plan_referral(&p->plan, node);
        int64_t at = press_keep(p, b, dns_node_name(node), node->name_len, 0, 1);
        if (at < 0)
            return (int)at;
        ((dns_node *)(b->image + place))->referral[dnssec] = (uint32_t)at;
    }
    return 0;
}

static int press_all(dns_builder *b)
{
    press *p = malloc(sizeof *p);
    int failed = p ? 0 : DNS_BUILD_MEMORY;
    for (int dnssec = 0; !failed && dnssec < 2; dnssec++) {
        const dns_node *apex = (const dns_node *)(b->image + b->node[0].place);
        press_begin(p, b, dnssec);
        dns_plan_negative(&p->plan);
        int64_t at = press_keep(p, b, dns_node_name(apex), apex->name_len, 0, 1);
        if (at < 0)
            failed = (int)at;
        else
            ((dns_image *)b->image)->negative[dnssec] = (uint32_t)at;
    }
    for (uint32_t i = 0; !failed && i < b->nodes; i++) {
        uint32_t place = b->node[i].place;
        const dns_node *node = (const dns_node *)(b->image + place);
        unsigned sets = node->rrsets;
        if (node->above)
            continue; /* occluded: never an answer */
        if (node->flags & DNS_NODE_CUT)
            failed = press_referral(p, b, place);
        else
            for (unsigned n = 0; !failed && n < sets; n++)
                failed = press_rrset(p, b, place, n);
    }
    free(p);
    return failed;
}

/* The apex: exactly one SOA. */
static int take_soa(dns_builder *b)
{
    dns_image *image = (dns_image *)b->image;
    image->apex = b->node[0].place;
    const dns_node *apex = (const dns_node *)(b->image + image->apex);
    const dns_rrset *soa = dns_node_type(apex, DNS_SOA);
    if (!soa)
        return DNS_BUILD_NO_SOA;
    if (soa->count != 1)
        return DNS_BUILD_TWO_SOA;
    uint16_t len;
    memcpy(&len, b->image + soa->data, 2);
    const uint8_t *fixed = b->image + soa->data + 2 + len - 20;
    uint32_t minimum = dns_get32(fixed + 16);
    image->serial = dns_get32(fixed);
    image->negative_ttl = soa->ttl < minimum ? soa->ttl : minimum;
    image->soa = (uint32_t)((const uint8_t *)soa - b->image);
    if (soa->sig_count)
        image->flags |= DNS_IMAGE_SIGNED;
    return 0;
}

static int emit_indexes(dns_builder *b)
{
    int failed = emit_table(b);
    if (!failed)
        failed = emit_nsec(b);
    return failed ? failed : emit_nsec3(b);
}

/* Copies a template behind what is there. Its new place goes to *at. */
static int move_template(dns_builder *b, const uint8_t *old, uint32_t *at)
{
    if (!*at)
        return 0;
    const dns_template *t = (const dns_template *)(old + *at);
    size_t size = sizeof *t + 2u * t->relocs + t->len;
    int64_t place = image_take(b, size, 2);
    if (place < 0)
        return (int)place;
    memcpy(b->image + place, t, size);
    *at = (uint32_t)place;
    return 0;
}

static int move_pair(dns_builder *b, const uint8_t *old, uint32_t pair[2])
{
    int same = pair[0] == pair[1], failed = move_template(b, old, &pair[0]);
    if (!failed && !same)
        failed = move_template(b, old, &pair[1]);
    if (same)
        pair[1] = pair[0];
    return failed;
}

/* Copies a node, its templates directly behind it: an answer is then made from
 * two or three neighbouring cache lines. */
static int move_node(dns_builder *b, const uint8_t *old, uint32_t index)
{
    const dns_node *from = (const dns_node *)(old + b->node[index].place);
    int64_t place = image_take(b, from->size, 32);
    if (place < 0)
        return (int)place;
    memcpy(b->image + place, from, from->size);
    for (unsigned i = 0; i < from->rrsets; i++) {
        uint32_t pair[2] = {from->set[i].answer[0], from->set[i].answer[1]};
        int failed = move_pair(b, old, pair);
        if (failed)
            return failed;
        dns_rrset *set = &((dns_node *)(b->image + place))->set[i];
        memcpy(set->answer, pair, sizeof pair);
        set->data += (uint32_t)place - from->self;
        set->sigs += (uint32_t)place - from->self;
    }
    uint32_t pair[2] = {from->referral[0], from->referral[1]};
    int failed = move_pair(b, old, pair);
    if (failed)
        return failed;
    dns_node *node = (dns_node *)(b->image + place);
    memcpy(node->referral, pair, sizeof pair);
    node->self = (uint32_t)place;
    b->node[index].place = (uint32_t)place;
    return 0;
}

/* The image anew, each node with its templates. */
static int settle(dns_builder *b)
{
    uint8_t *old = b->image;
    dns_image head = *(const dns_image *)old;
    uint32_t soa = head.soa - head.apex, before = 0;
    b->image = NULL;
    b->image_len = b->image_room = 0;
    int failed = image_take(b, sizeof head, 8) < 0 ? DNS_BUILD_MEMORY : move_pair(b, old, head.negative);
    for (uint32_t i = 0; !failed && i < b->nodes; i++) {
        failed = move_node(b, old, i);
        if (!failed && i)
            ((dns_node *)(b->image + before))->size = b->node[i].place - before;
        before = b->node[i].place;
    }
    free(old);
    if (failed)
        return failed;
    ((dns_node *)(b->image + before))->size = (uint32_t)b->image_len - before;
    for (uint32_t i = 0; i < b->nodes; i++) {
        dns_node *node = (dns_node *)(b->image + b->node[i].place);
        node->above = node->wildcard = 0;
    }
    link_nodes(b);
    head.apex = head.first_node = b->node[0].place;
    head.soa = head.apex + soa;
    memcpy(b->image, &head, sizeof head);
    return emit_indexes(b);
}

int dns_builder_finish(dns_builder *b, dns_image **out)
{
    *out = NULL;
    b->image_len = 0; /* what an attempt that failed has left */
    if (!b->nodes)
        return DNS_BUILD_NO_SOA;
    int64_t at = image_take(b, sizeof(dns_image), 8);
    if (at < 0)
        return (int)at;
    dns_image *image = (dns_image *)b->image;
    image->magic = DNS_IMAGE_MAGIC;
    image->key = b->key;
    image->nodes = b->nodes;
    image->ignored = b->ignored;
    image->origin_len = (uint8_t)b->origin_len;
    image->origin_labels = (uint8_t)b->origin_labels;
    memcpy(image->origin, b->origin, b->origin_len);
    int failed = 0;
    for (uint32_t i = 0; !failed && i < b->nodes; i++)
        failed = emit_node(b, i);
    if (!failed) {
        link_nodes(b);
        failed = take_soa(b);
    }
    if (!failed)
        failed = emit_indexes(b);
    if (!failed)
        failed = press_all(b);
    if (!failed)
        failed = settle(b);
    if (failed)
        return failed;
    image = (dns_image *)b->image;
    image->size = b->image_len + DNS_IMAGE_SLACK;
    memset(b->image + b->image_len, 0, DNS_IMAGE_SLACK);
    dns_image *fit = realloc(b->image, image->size);
    *out = fit ? fit : image;
    b->image = NULL;
    b->image_len = b->image_room = 0;
    return DNS_BUILD_OK;
}
