/* dns_zone.c: finding nodes and zones, and the answers that are ready-made. */
#include "dns_zone.h"

#include <stdlib.h>
#include <sys/mman.h>

#define SMALL_IMAGE (1u << 20)
#define HUGE_PAGE (2u << 20)

int dns_same_folded(const uint8_t *kept, const uint8_t *folded, size_t len)
{
    uint64_t a, b;
    for (; len >= 8; len -= 8, kept += 8, folded += 8) {
        memcpy(&a, kept, 8);
        memcpy(&b, folded, 8);
        if (dns_fold8(a) != b)
            return 0;
    }
    while (len--)
        if (dns_fold1(kept[len]) != folded[len])
            return 0;
    return 1;
}

const dns_node *dns_image_find(const dns_image *image, uint64_t hash, const uint8_t *name, size_t len)
{
    const dns_slot *table = dns_at(image, image->table);
    uint32_t tag = (uint32_t)(hash >> 32);
    for (uint32_t i = (uint32_t)hash & image->mask;; i = (i + 1) & image->mask) {
        if (!table[i].node)
            return NULL;
        if (table[i].tag != tag)
            continue;
        const dns_node *node = dns_node_at(image, table[i].node);
        if (node->hash == hash && node->name_len == len && dns_same_folded(dns_node_name(node), name, len))
            return node;
    }
}

static const dns_node *find_suffix(const dns_image *image, const dns_query *q, unsigned labels)
{
    unsigned skip = q->labels - labels, at = q->label_at[skip];
    return dns_image_find(image, q->hashes[skip], q->name + at, q->name_len - (size_t)at);
}

const dns_node *dns_image_encloser(const dns_image *image, const dns_query *q)
{
    /* Every ancestor of a node is a node: depths that exist are all above those that do not. */
    unsigned low = image->origin_labels, high = q->labels - 1u;
    if (high > image->max_labels)
        high = image->max_labels;
    const dns_node *best = NULL;
    while (low < high) {
        unsigned middle = (low + high + 1) / 2;
        const dns_node *node = find_suffix(image, q, middle);
        if (node) {
            best = node;
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return best ? best : dns_node_at(image, image->apex);
}

void *dns_pages_take(size_t *size)
{
    int huge = *size >= HUGE_PAGE;
    size_t unit = huge ? HUGE_PAGE : 4096, whole = (*size + unit - 1) / unit * unit, extra = huge ? unit : 0;
    uint8_t *at = mmap(NULL, whole + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    if (huge) {
        size_t skip = (unit - (uintptr_t)at % unit) % unit;
        if (skip)
            munmap(at, skip);
        if (extra - skip)
            munmap(at + skip + whole, extra - skip);
        at += skip;
#ifdef MADV_HUGEPAGE
        madvise(at, whole, MADV_HUGEPAGE);
#endif
    }
    *size = whole;
    return at;
}

void dns_pages_give(void *at, size_t size)
{
    if (at)
        munmap(at, size);
}

dns_zones *dns_zones_new(uint32_t count, const dns_key *key)
{
    uint32_t size = 4;
    while (size < 2 * (uint64_t)count)
        size *= 2;
    dns_zones *zones = calloc(1, sizeof *zones);
    if (!zones)
        return NULL;
    zones->key = *key;
    zones->mask = size - 1;
    zones->table = calloc(size, sizeof *zones->table);
    zones->entry = calloc(size / 2, sizeof *zones->entry); /* as many as dns_zones_add lets in, `count` or more */
    if (!zones->table || !zones->entry) {
        dns_zones_free(zones);
        return NULL;
    }
    return zones;
}

void dns_zones_free(dns_zones *zones)
{
    if (!zones)
        return;
    dns_pages_give(zones->place, zones->place_size);
    dns_pages_give(zones->arena, zones->arena_size);
    free(zones->table);
    free(zones->entry);
    free(zones);
}

static dns_zone_entry *probe(const dns_zones *zones, uint64_t hash, const uint8_t *name, size_t len)
{
    for (uint32_t i = (uint32_t)hash & zones->mask; zones->table[i]; i = (i + 1) & zones->mask) {
        dns_zone_entry *entry = &zones->entry[zones->table[i] - 1];
        if (entry->hash == hash && entry->origin_len == len && !memcmp(entry->origin, name, len))
            return entry;
    }
    return NULL;
}

int dns_zones_add(dns_zones *zones, const uint8_t *origin, size_t len, const dns_image *image, uint16_t ede,
                  uint32_t expire)
{
    dns_query q;
    if (zones->count * 2 > zones->mask || dns_name_check(origin, len) < 0)
        return -1;
    if (image && memcmp(&image->key, &zones->key, sizeof image->key))
        return -1;
    dns_query_name(&q, origin, len, &zones->key);
    if (probe(zones, q.hash, q.name, q.name_len))
        return -1;
    dns_zone_entry *entry = &zones->entry[zones->count++];
    entry->hash = q.hash;
    entry->image = image;
    entry->ede = ede;
    entry->expire = expire;
    entry->labels = q.labels;
    entry->origin_len = q.name_len;
    memcpy(entry->origin, q.name, q.name_len);
    zones->depths[q.labels >> 6] |= (uint64_t)1 << (q.labels & 63);
    uint32_t i = (uint32_t)q.hash & zones->mask;
    while (zones->table[i])
        i = (i + 1) & zones->mask;
    zones->table[i] = zones->count;
    return 0;
}

/* Small images move together: they share pages, and a set of 10,000 zones has few of them. */
static int gather(dns_zones *zones)
{
    size_t need = 0;
    for (uint32_t i = 0; i < zones->count; i++)
        if (zones->entry[i].image && zones->entry[i].image->size < SMALL_IMAGE)
            need += (zones->entry[i].image->size + 63) & ~(size_t)63;
    if (!need || zones->count == 1)
        return 0;
    zones->arena_size = need;
    zones->arena = dns_pages_take(&zones->arena_size);
    if (!zones->arena)
        return -1;
    uint8_t *at = zones->arena;
    for (uint32_t i = 0; i < zones->count; i++) {
        const dns_image *image = zones->entry[i].image;
        if (!image || image->size >= SMALL_IMAGE)
            continue;
        memcpy(at, image, image->size);
        zones->entry[i].image = (const dns_image *)at;
        at += (image->size + 63) & ~(size_t)63;
    }
    return 0;
}

static void index_node(dns_zones *zones, uint32_t entry, const dns_node *node)
{
    dns_query q;
    dns_query_name(&q, dns_node_name(node), node->name_len, &zones->key);
    if (zones->count > 1 && dns_zones_find(zones, &q, 0) != &zones->entry[entry])
        return; /* below the apex of another zone of ours: that one answers */
    uint64_t i = node->hash & zones->place_mask;
    while (zones->place[i].node)
        i = (i + 1) & zones->place_mask;
    zones->place[i] = (dns_place){node->hash, node};
}

int dns_zones_seal(dns_zones *zones)
{
    uint64_t nodes = 0, size = 16;
    for (uint32_t i = 0; i < zones->count; i++)
        nodes += zones->entry[i].image ? zones->entry[i].image->nodes : 0;
    while (size < 2 * nodes)
        size *= 2;
    if (gather(zones) < 0)
        return -1;
    zones->place_size = size * sizeof(dns_place);
    zones->place = dns_pages_take(&zones->place_size);
    if (!zones->place)
        return -1;
    zones->place_mask = size - 1;
    for (uint32_t i = 0; i < zones->count; i++) {
        const dns_image *image = zones->entry[i].image;
        if (!image)
            continue;
        uint32_t at = image->first_node;
        for (uint32_t n = 0; n < image->nodes; n++) {
            const dns_node *node = dns_node_at(image, at);
            index_node(zones, i, node);
            at += node->size;
        }
    }
    return 0;
}

static const dns_node *find_place(const dns_zones *zones, const dns_query *q)
{
    for (uint64_t i = q->hash & zones->place_mask; zones->place[i].node; i = (i + 1) & zones->place_mask) {
        const dns_node *node = zones->place[i].node;
        if (zones->place[i].hash == q->hash && node->name_len == q->name_len &&
            dns_same_folded(dns_node_name(node), q->name, q->name_len))
            return node;
    }
    return NULL;
}

dns_zone_entry *dns_zones_find(const dns_zones *zones, const dns_query *q, int skip_apex)
{
    for (int depth = q->labels - (skip_apex ? 1 : 0); depth >= 0; depth--) {
        if (!(zones->depths[depth >> 6] >> (depth & 63) & 1))
            continue;
        unsigned skip = q->labels - (unsigned)depth, at = q->label_at[skip];
        dns_zone_entry *entry = probe(zones, q->hashes[skip], q->name + at, q->name_len - (size_t)at);
        if (entry)
            return entry;
    }
    return NULL;
}

/* Copies a template behind the question; its pointers move by `delta`. */
static size_t put_template(const dns_template *t, uint8_t *out, const uint8_t *msg, const dns_query *q, unsigned delta)
{
    size_t at = q->question_end;
    memcpy(out + DNS_HEADER, msg + DNS_HEADER, at - DNS_HEADER);
    uint8_t *body = out + at;
    memcpy(body, (const uint8_t *)(t->reloc + t->relocs), t->len);
    if (delta)
        for (unsigned i = 0; i < t->relocs; i++) {
            uint8_t *pointer = body + t->reloc[i];
            dns_put16(pointer, dns_get16(pointer) + delta);
        }
    return at + t->len;
}

/* Which template answers, or 0: compose. */
static uint32_t choose(const dns_image *image, const dns_node *node, const dns_query *q, unsigned *anchor,
                       uint16_t *rcode, int *aa)
{
    int dnssec = q->dnssec_ok, proofs = dnssec && image->flags & DNS_IMAGE_SIGNED;
    const dns_node *source = node;
    if (!node)
        source = dns_image_encloser(image, q);
    const dns_node *stop = dns_node_at(image, source->above);
    if (!stop && source->flags & (DNS_NODE_CUT | DNS_NODE_DNAME)) {
        if (source->flags & DNS_NODE_CUT && !(node && q->qtype == DNS_DS))
            stop = source;
        else if (source->flags & DNS_NODE_DNAME && !node)
            stop = source;
    }
    if (stop) {
        if (!(stop->flags & DNS_NODE_CUT))
            return 0; /* DNAME */
        *aa = 0;
        *anchor = stop->name_len;
        return stop->referral[dnssec];
    }
    *aa = 1;
    if (!node) {
        source = dns_node_at(image, source->wildcard);
        if (proofs && source)
            return 0;
        if (!source) {
            if (proofs)
                return 0;
            *rcode = DNS_NXDOMAIN;
            *anchor = image->origin_len;
            return image->negative[0];
        }
    }
    *anchor = source->name_len;
    const dns_rrset *set = dns_node_type(source, q->qtype);
    if (set)
        return set->answer[dnssec];
    if (q->qtype == DNS_ANY && source->rrsets)
        return source->set[source->any].answer[dnssec];
    if (source->flags & DNS_NODE_CNAME || proofs || q->qtype == DNS_RRSIG)
        return 0;
    *anchor = image->origin_len;
    return image->negative[0];
}

static size_t compose(const dns_zones *zones, const dns_zone_entry *entry, const dns_server *server, const dns_client *client, const uint8_t *msg,
                      const dns_query *q, uint16_t flags, uint8_t *out, uint16_t *rcode)
{
    dns_plan plan;
    dns_writer w;
    dns_extra extra = {.ede = DNS_EDE_NONE};
    uint16_t counts[3];
    int aa = 1;
    plan.dnssec = q->dnssec_ok;
    plan.asked = msg + DNS_HEADER;
    if (entry && entry->expire && entry->image) {
        extra.has_expire = 1;
        extra.expire = entry->expire;
    }
    *rcode = (uint16_t)dns_plan_answer(&plan, zones, q, &aa, &extra.ede);
    if (aa)
        flags |= DNS_AA;
    size_t limit = dns_reply_limit(server, client, q) - dns_opt_size(server, client, q, &extra);
    memcpy(out + DNS_HEADER, msg + DNS_HEADER, q->question_end - (size_t)DNS_HEADER);
    dns_writer_begin(&w, out, q->question_end, limit);
    dns_writer_know(&w, msg + DNS_HEADER, DNS_HEADER, 0);
    if (dns_plan_write(&plan, &w, counts) < 0) {
        if (client->stream) {
            *rcode = DNS_SERVFAIL;
            return dns_error_write(out, server, client, msg, q, flags & (uint16_t)~DNS_AA, DNS_SERVFAIL, NULL);
        }
        return dns_error_write(out, server, client, msg, q, flags | DNS_TC, *rcode, &extra);
    }
    return dns_reply_finish(out, w.at, server, client, msg, q, flags, *rcode, counts, &extra);
}

size_t dns_zones_answer(const dns_zones *zones, const dns_server *server, const dns_client *client,
                        const uint8_t *msg, const dns_query *q, uint16_t flags, uint8_t *out, uint16_t *rcode)
{
    const dns_zone_entry *entry = NULL;
    const dns_node *node = find_place(zones, q);
    if (!node || q->qtype == DNS_DS || q->expire) {
        entry = dns_zones_find(zones, q, 0);
        if (!entry)
            return 0;
        if (!entry->image || q->qtype == DNS_DS || q->expire)
            return compose(zones, entry, server, client, msg, q, flags, out, rcode);
    }
    const dns_image *image = node ? dns_node_image(node) : entry->image;
    unsigned anchor = 0;
    int aa = 1;
    *rcode = DNS_NOERROR;
    uint32_t found = choose(image, node, q, &anchor, rcode, &aa);
    if (found) {
        const dns_template *t = dns_at(image, found);
        size_t limit = dns_reply_limit(server, client, q);
        if (q->question_end + (size_t)t->len + dns_opt_size(server, client, q, NULL) <= limit) {
            size_t at = put_template(t, out, msg, q, q->name_len - anchor);
            return dns_reply_finish(out, at, server, client, msg, q, flags | (aa ? DNS_AA : 0), *rcode, t->counts,
                                    NULL);
        }
    }
    return compose(zones, entry, server, client, msg, q, flags, out, rcode);
}
