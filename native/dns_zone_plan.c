/* dns_zone_plan.c: the lookup of RFC 1034 4.3.2 with RFC 4592, 6672 and 9460,
 * for answers that are not ready-made, and for making those that are. */
#include "dns_zone.h"

static dns_item *add_item(dns_item *items, unsigned *count, unsigned most, const dns_plan *plan, const dns_node *node,
                          const dns_rrset *set, const uint8_t *owner)
{
    if (*count >= most)
        return NULL;
    dns_item *item = &items[(*count)++];
    memset(item, 0, sizeof *item);
    item->image = plan->image;
    item->node = node;
    item->set = set;
    item->owner = owner;
    item->ttl = set ? set->ttl : 0;
    return item;
}

static void add_additional(dns_plan *plan, const dns_node *node, uint16_t type, const uint8_t *owner, int required)
{
    const dns_rrset *set = dns_node_type(node, type);
    if (!set)
        return;
    for (unsigned i = 0; i < plan->additionals; i++)
        if (plan->additional[i].set == set)
            return;
    dns_item *item = add_item(plan->additional, &plan->additionals, DNS_EXTRAS, plan, node, set, owner);
    if (item)
        item->required = (uint8_t)required;
}

static const dns_node *find_target(const dns_image *image, const uint8_t *name, dns_query *q)
{
    dns_query_name(q, name, dns_wire_len(name), &image->key);
    return dns_image_find(image, q->hash, q->name, q->name_len);
}

/* Addresses of the targets of an NS RRset. `cut` is the delegation, or NULL:
 * with `inside`, only targets below it, which a referral requires (RFC 9471). */
static void add_servers(dns_plan *plan, const dns_rrset *ns, const dns_node *cut, int inside)
{
    const uint8_t *data = dns_at(plan->image, ns->data);
    dns_query q;
    for (unsigned i = 0; i < ns->count; i++) {
        uint16_t len;
        memcpy(&len, data, 2);
        const dns_node *node = find_target(plan->image, data + 2, &q);
        data += 2 + len;
        if (!node)
            continue;
        int below = cut && q.labels >= cut->labels && q.hashes[q.labels - cut->labels] == cut->hash;
        if (below != inside)
            continue;
        add_additional(plan, node, DNS_A, dns_node_name(node), inside);
        add_additional(plan, node, DNS_AAAA, dns_node_name(node), inside);
    }
}

/* RFC 9460 4.1: addresses of a service, following AliasMode inside the zone. */
static void add_service(dns_plan *plan, const dns_node *node, const dns_rrset *set, const uint8_t *owner)
{
    dns_query q;
    for (int step = 0; set && step < 8; step++) {
        const dns_rrset *alias = NULL;
        const dns_node *alias_node = NULL;
        const uint8_t *data = dns_at(plan->image, set->data);
        for (unsigned i = 0; i < set->count; i++) {
            uint16_t len;
            memcpy(&len, data, 2);
            const uint8_t *rdata = data + 2;
            data += 2 + len;
            int service = dns_get16(rdata) != 0, own = rdata[2] == 0;
            if (own && !service)
                continue;
            const dns_node *target = own ? node : find_target(plan->image, rdata + 2, &q);
            if (!target)
                continue;
            const uint8_t *name = own ? owner : dns_node_name(target);
            add_additional(plan, target, DNS_A, name, 0);
            add_additional(plan, target, DNS_AAAA, name, 0);
            const dns_rrset *next = service ? NULL : dns_node_type(target, set->type);
            if (next && !alias) {
                add_additional(plan, target, set->type, name, 0);
                alias = next;
                alias_node = target;
            }
        }
        set = alias;
        node = alias_node;
        owner = node ? dns_node_name(node) : NULL;
    }
}

void dns_plan_rrset(dns_plan *plan, const dns_node *node, const dns_rrset *set, const uint8_t *owner)
{
    add_item(plan->answer, &plan->answers, DNS_ITEMS, plan, node, set, owner);
    if (set->type == DNS_NS)
        add_servers(plan, set, NULL, 0);
    else if (set->type == DNS_SVCB || set->type == DNS_HTTPS)
        add_service(plan, node, set, owner);
}

void dns_plan_negative(dns_plan *plan)
{
    const dns_node *apex = dns_node_at(plan->image, plan->image->apex);
    const dns_rrset *soa = dns_at(plan->image, plan->image->soa);
    dns_item *item =
        add_item(plan->authority, &plan->authorities, DNS_ITEMS, plan, apex, soa, dns_node_name(apex));
    if (item)
        item->ttl = plan->image->negative_ttl;
}

void dns_plan_referral(dns_plan *plan, const dns_node *node)
{
    const dns_rrset *ns = dns_node_type(node, DNS_NS), *ds = dns_node_type(node, DNS_DS);
    add_item(plan->authority, &plan->authorities, DNS_ITEMS, plan, node, ns, dns_node_name(node));
    if (plan->dnssec && plan->image->flags & DNS_IMAGE_SIGNED) {
        if (ds)
            add_item(plan->authority, &plan->authorities, DNS_ITEMS, plan, node, ds, dns_node_name(node));
        else
            dns_prove_unsigned_cut(plan, node);
    }
    add_servers(plan, ns, node, 1);
    add_servers(plan, ns, node, 0);
}

typedef struct walk {
    dns_plan *plan;
    const dns_query *q;
    const uint8_t *owner;       /* of the current link; NULL: the question */
    uint64_t seen[DNS_LINKS_MAX + 1];
    const dns_node *dnames[DNS_LINKS_MAX];
    unsigned links, used;
    int first;
} walk;

enum { FOLLOW = -1 };

/* CNAME at `set`: goes on with its target, or ends. */
static int follow(walk *w, dns_query *next, const uint8_t *target, const dns_key *key)
{
    dns_query_name(next, target, dns_wire_len(target), key);
    next->qtype = w->q->qtype;
    w->q = next;
    w->owner = target;
    w->first = 0;
    w->links++;
    return FOLLOW;
}

static int rewrite(walk *w, const dns_node *node, dns_query *next)
{
    dns_plan *plan = w->plan;
    const dns_query *q = w->q;
    const dns_rrset *set = dns_node_type(node, DNS_DNAME);
    const uint8_t *target = (const uint8_t *)dns_at(plan->image, set->data) + 2;
    const uint8_t *owner = w->owner ? w->owner : plan->asked;
    size_t prefix = q->label_at[q->labels - node->labels], tail = dns_wire_len(target);
    int used = 0;
    for (unsigned i = 0; i < w->used; i++)
        used |= w->dnames[i] == node;
    if (used && tail >= node->name_len)
        return DNS_NOERROR; /* a loop that grows */
    if (!used) {
        add_item(plan->answer, &plan->answers, DNS_ITEMS, plan, node, set, dns_node_name(node));
        w->dnames[w->used++] = node;
    }
    if (prefix + tail > DNS_NAME_MAX)
        return DNS_YXDOMAIN;
    uint8_t *made = plan->name[plan->names++];
    memcpy(made, owner, prefix);
    memcpy(made + prefix, target, tail);
    dns_item *item = add_item(plan->answer, &plan->answers, DNS_ITEMS, plan, node, NULL, w->owner);
    if (item) {
        item->target = made;
        item->ttl = set->ttl;
    }
    if (q->qtype == DNS_CNAME)
        return DNS_NOERROR;
    return follow(w, next, made, &plan->image->key);
}

static void answer_signatures(dns_plan *plan, const dns_node *node, const uint8_t *owner)
{
    const dns_rrset *set = &node->set[node->any];
    for (unsigned i = 0; i < node->rrsets && !set->sig_count; i++)
        set = &node->set[i];
    dns_item *item = add_item(plan->answer, &plan->answers, DNS_ITEMS, plan, node, set, owner);
    if (item)
        item->sigs_only = 1;
}

static int has_signatures(const dns_node *node)
{
    for (unsigned i = 0; i < node->rrsets; i++)
        if (node->set[i].sig_count)
            return 1;
    return 0;
}

/* The data of `source`, found exactly (node) or by wildcard. */
static int answer_source(walk *w, const dns_node *node, const dns_node *encloser, const dns_node *source,
                         dns_query *next)
{
    dns_plan *plan = w->plan;
    const dns_query *q = w->q;
    uint16_t qtype = q->qtype;
    const dns_rrset *set = qtype == DNS_ANY && source->rrsets ? &source->set[source->any] : dns_node_type(source, qtype);
    const dns_rrset *cname = source->flags & DNS_NODE_CNAME ? dns_node_type(source, DNS_CNAME) : NULL;
    if (cname && qtype != DNS_CNAME && qtype != DNS_ANY && qtype != DNS_NSEC && qtype != DNS_RRSIG) {
        add_item(plan->answer, &plan->answers, DNS_ITEMS, plan, source, cname, w->owner);
        if (!node)
            dns_prove_wildcard(plan, encloser, q);
        return follow(w, next, (const uint8_t *)dns_at(plan->image, cname->data) + 2, &plan->image->key);
    }
    int signatures = qtype == DNS_RRSIG && has_signatures(source);
    if (set || signatures) {
        if (signatures)
            answer_signatures(plan, source, w->owner);
        else
            dns_plan_rrset(plan, source, set, w->owner);
        if (!node)
            dns_prove_wildcard(plan, encloser, q);
        return DNS_NOERROR;
    }
    dns_plan_negative(plan);
    if (node)
        dns_prove_nodata(plan, node, q);
    else
        dns_prove_wildcard_nodata(plan, encloser, source, q);
    return DNS_NOERROR;
}

/* One name of the chain in one zone. An RCODE, or FOLLOW. */
static int answer_name(walk *w, const dns_image *image, dns_query *next, int *aa)
{
    const dns_query *q = w->q;
    dns_plan *plan = w->plan;
    plan->image = image;
    const dns_node *node = dns_image_find(image, q->hash, q->name, q->name_len);
    const dns_node *last = node ? node : dns_image_encloser(image, q);
    const dns_node *stop = dns_node_at(image, last->above);
    if (!stop && last->flags & DNS_NODE_CUT && !(node && q->qtype == DNS_DS))
        stop = last;
    if (!stop && last->flags & DNS_NODE_DNAME && !node)
        stop = last;
    if (stop && stop->flags & DNS_NODE_CUT) {
        if (w->first)
            *aa = 0;
        dns_plan_referral(plan, stop);
        return DNS_NOERROR;
    }
    if (stop)
        return rewrite(w, stop, next);
    const dns_node *source = node ? node : dns_node_at(image, last->wildcard);
    if (source)
        return answer_source(w, node, last, source, next);
    dns_plan_negative(plan);
    dns_prove_nxdomain(plan, last, q);
    return DNS_NXDOMAIN;
}

int dns_plan_answer(dns_plan *plan, const dns_zones *zones, const dns_query *q, int *aa, uint16_t *ede)
{
    dns_query next;
    walk w = {.plan = plan, .q = q, .first = 1};
    plan->answers = plan->authorities = plan->additionals = plan->names = 0;
    *aa = 1;
    for (;;) {
        dns_zone_entry *entry = dns_zones_find(zones, w.q, 0);
        if (entry && w.q->qtype == DNS_DS && entry->labels == w.q->labels) {
            dns_zone_entry *parent = dns_zones_find(zones, w.q, 1);
            if (parent)
                entry = parent;
        }
        if (!entry || !entry->image) {
            if (!w.first)
                return DNS_NOERROR;
            *aa = 0;
            *ede = entry ? entry->ede : 20;
            return entry ? DNS_SERVFAIL : DNS_REFUSED;
        }
        for (unsigned i = 0; i < w.links; i++)
            if (w.seen[i] == w.q->hash) /* 64 bits, keyed */
                return DNS_NOERROR;
        if (w.links == DNS_LINKS_MAX)
            return DNS_NOERROR;
        w.seen[w.links] = w.q->hash;
        int rcode = answer_name(&w, entry->image, &next, aa);
        if (rcode != FOLLOW)
            return rcode;
    }
}

/* --- writing ------------------------------------------------------------ */

static int write_list(const dns_image *image, uint32_t offset, unsigned count, uint16_t type, uint32_t ttl,
                      const uint8_t *owner, dns_writer *w, uint16_t *written)
{
    const uint8_t *data = dns_at(image, offset);
    for (unsigned i = 0; i < count; i++) {
        uint16_t len;
        uint32_t at = w->at;
        memcpy(&len, data, 2);
        if (dns_writer_record(w, owner, type, DNS_IN, ttl, data + 2, len) < 0)
            return -1;
        if (owner) { /* the others of the set point to the first owner */
            uint32_t place = w->out[at] >= 0xc0 ? dns_get16(w->out + at) & 0x3fffu : at;
            if (place < 0x4000 && w->out[place]) {
                w->owner = (uint16_t)place;
                w->owner_moves = 1;
                owner = NULL;
            }
        }
        data += 2 + len;
        ++*written;
    }
    return 0;
}

static int write_item(const dns_plan *plan, const dns_item *item, dns_writer *w, uint16_t *written)
{
    uint32_t at = w->at, known = w->known, relocs = w->nrelocs;
    uint16_t before = *written;
    int result = 0;
    w->owner = DNS_HEADER;
    w->owner_moves = 0;
    if (!item->set) {
        result = dns_writer_record(w, item->owner, DNS_CNAME, DNS_IN, item->ttl, item->target,
                                   dns_wire_len(item->target));
        *written += result == 0;
    } else {
        const dns_rrset *set = item->set;
        const uint8_t *owner = item->owner;
        if (!item->sigs_only)
            result = write_list(item->image, set->data, set->count, set->type, item->ttl, owner, w, written);
        if (!result && set->sig_count && (plan->dnssec || item->sigs_only)) {
            if (w->owner_moves)
                owner = NULL;
            result = write_list(item->image, set->sigs, set->sig_count, DNS_RRSIG, item->ttl, owner, w, written);
        }
    }
    w->owner = DNS_HEADER;
    w->owner_moves = 0;
    if (result < 0) {
        w->at = at;
        w->known = known;
        w->nrelocs = relocs;
        *written = before;
    }
    return result;
}

int dns_plan_write(const dns_plan *plan, dns_writer *w, uint16_t counts[3])
{
    counts[0] = counts[1] = counts[2] = 0;
    for (unsigned i = 0; i < plan->answers; i++)
        if (write_item(plan, &plan->answer[i], w, &counts[0]) < 0)
            return -1;
    for (unsigned i = 0; i < plan->authorities; i++)
        if (write_item(plan, &plan->authority[i], w, &counts[1]) < 0)
            return -1;
    for (unsigned i = 0; i < plan->additionals; i++)
        if (write_item(plan, &plan->additional[i], w, &counts[2]) < 0) {
            return plan->additional[i].required ? -1 : 1;
        }
    return 0;
}
