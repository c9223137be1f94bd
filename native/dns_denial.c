/* dns_denial.c: proofs of absence from a pre-signed zone (RFC 4035 3.1.3, RFC 5155 7.2). */
#include "dns_zone.h"

static uint32_t rotl(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t h[5], const uint8_t *block)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
        w[i] = dns_get32(block + 4 * i);
    for (int i = 16; i < 80; i++)
        w[i] = rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) {
            f = (b & c) | (~b & d);
            k = 0x5a827999;
        } else if (i < 40) {
            f = b ^ c ^ d;
            k = 0x6ed9eba1;
        } else if (i < 60) {
            f = (b & c) | (b & d) | (c & d);
            k = 0x8f1bbcdc;
        } else {
            f = b ^ c ^ d;
            k = 0xca62c1d6;
        }
        uint32_t t = rotl(a, 5) + f + e + k + w[i];
        e = d;
        d = c;
        c = rotl(b, 30);
        b = a;
        a = t;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

static void sha1(const uint8_t *data, size_t len, uint8_t out[20])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t tail[128];
    size_t whole = len / 64 * 64, left = len - whole, padded = left < 56 ? 64 : 128;
    for (size_t i = 0; i < whole; i += 64)
        sha1_block(h, data + i);
    memset(tail, 0, sizeof tail);
    memcpy(tail, data + whole, left);
    tail[left] = 0x80;
    dns_put32(tail + padded - 8, (uint32_t)((uint64_t)len >> 29));
    dns_put32(tail + padded - 4, (uint32_t)(len << 3));
    for (size_t i = 0; i < padded; i += 64)
        sha1_block(h, tail + i);
    for (int i = 0; i < 5; i++)
        dns_put32(out + 4 * i, h[i]);
}

static void nsec3_hash(const dns_image *image, const uint8_t *name, size_t len, uint8_t hash[20])
{
    uint8_t input[DNS_NAME_MAX + 255];
    memcpy(input, name, len);
    memcpy(input + len, image->salt, image->salt_len);
    sha1(input, len + image->salt_len, hash);
    for (unsigned i = 0; i < image->iterations; i++) {
        memcpy(input, hash, 20);
        memcpy(input + 20, image->salt, image->salt_len);
        sha1(input, 20u + image->salt_len, hash);
    }
}

int dns_nsec3_label(const uint8_t *label, uint8_t hash[20])
{
    uint64_t bits = 0;
    int have = 0, at = 0;
    if (label[0] != 32)
        return -1;
    for (int i = 1; i <= 32; i++) {
        uint8_t c = dns_fold1(label[i]);
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'v' ? c - 'a' + 10 : -1;
        if (v < 0)
            return -1;
        bits = bits << 5 | (unsigned)v;
        have += 5;
        if (have >= 8) {
            have -= 8;
            hash[at++] = (uint8_t)(bits >> have);
        }
    }
    return 0;
}

size_t dns_order_key(const uint8_t *name, uint8_t out[512])
{
    uint8_t at[DNS_LABELS_MAX + 1];
    unsigned n = 0, pos = 0;
    size_t len = 0;
    for (; name[pos]; pos += name[pos] + 1u)
        at[n++] = (uint8_t)pos;
    while (n--) {
        const uint8_t *label = name + at[n];
        for (unsigned i = 1; i <= label[0]; i++) {
            uint8_t c = dns_fold1(label[i]);
            if (c < 2) { /* 0 ends a label, so 0 and 1 are spelled with two octets */
                out[len++] = 1;
                out[len++] = (uint8_t)(c + 1);
            } else {
                out[len++] = c;
            }
        }
        out[len++] = 0;
    }
    return len;
}

static void add_proof(dns_plan *plan, const dns_node *node, uint16_t type)
{
    const dns_rrset *set = dns_node_type(node, type);
    if (!set || plan->authorities == DNS_ITEMS)
        return;
    for (unsigned i = 0; i < plan->authorities; i++)
        if (plan->authority[i].set == set)
            return;
    dns_item *item = &plan->authority[plan->authorities++];
    memset(item, 0, sizeof *item);
    item->image = plan->image;
    item->node = node;
    item->set = set;
    item->owner = dns_node_name(node);
    item->ttl = set->ttl < plan->image->negative_ttl ? set->ttl : plan->image->negative_ttl;
}

static int wanted(const dns_plan *plan, uint32_t kind)
{
    return plan->dnssec && plan->image->flags & kind;
}

/* The NSEC whose span holds `name`. */
static void nsec_cover(dns_plan *plan, const uint8_t *name)
{
    const dns_image *image = plan->image;
    const dns_nsec_slot *slot = dns_at(image, image->nsec);
    uint8_t key[512];
    size_t len = dns_order_key(name, key);
    uint32_t low = 0, high = image->nsec_count; /* the first slot above the name */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        size_t n = slot[middle].key_len < len ? slot[middle].key_len : len;
        int order = memcmp(dns_at(image, slot[middle].key), key, n);
        if (order < 0 || (order == 0 && slot[middle].key_len <= len))
            low = middle + 1;
        else
            high = middle;
    }
    add_proof(plan, dns_node_at(image, slot[low ? low - 1 : image->nsec_count - 1].node), DNS_NSEC);
}

/* The NSEC3 that matches, else the one that covers. Returns whether it matched. */
static int nsec3_seek(const dns_image *image, const uint8_t *name, size_t len, const dns_node **found)
{
    const dns_nsec3_slot *slot = dns_at(image, image->nsec3);
    uint8_t hash[20];
    nsec3_hash(image, name, len, hash);
    uint32_t low = 0, high = image->nsec3_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memcmp(slot[middle].hash, hash, 20) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    const dns_nsec3_slot *at = &slot[low ? low - 1 : image->nsec3_count - 1];
    *found = dns_node_at(image, at->node);
    return low && !memcmp(at->hash, hash, 20);
}

static void nsec3_add(dns_plan *plan, const uint8_t *name, size_t len)
{
    const dns_node *node;
    nsec3_seek(plan->image, name, len, &node);
    add_proof(plan, node, DNS_NSEC3);
}

static const uint8_t *suffix(const dns_query *q, unsigned labels, size_t *len)
{
    unsigned at = q->label_at[q->labels - labels];
    *len = q->name_len - (size_t)at;
    return q->name + at;
}

/* Matches the closest provable encloser, at most `labels` deep, and covers the
 * next closer name. Under opt-out that may lie above the closest encloser. */
static void nsec3_closest(dns_plan *plan, const dns_query *q, unsigned labels)
{
    size_t len;
    const dns_node *node;
    const uint8_t *name;
    for (;; labels--) {
        name = suffix(q, labels, &len);
        if (nsec3_seek(plan->image, name, len, &node)) {
            add_proof(plan, node, DNS_NSEC3);
            break;
        }
        if (labels <= plan->image->origin_labels)
            break;
    }
    if (labels < q->labels) {
        name = suffix(q, labels + 1, &len);
        nsec3_add(plan, name, len);
    }
}

static size_t star_name(const dns_node *encloser, uint8_t out[DNS_NAME_MAX + 9])
{
    if (encloser->name_len > DNS_NAME_MAX - 2) /* not reached: a name below it has two octets more, and 255 at most */
        return 0;
    out[0] = 1;
    out[1] = '*';
    dns_fold(out + 2, dns_node_name(encloser), encloser->name_len);
    return encloser->name_len + 2u;
}

void dns_prove_nodata(dns_plan *plan, const dns_node *node, const dns_query *q)
{
    if (wanted(plan, DNS_IMAGE_NSEC3)) {
        const dns_node *found;
        if (nsec3_seek(plan->image, q->name, q->name_len, &found))
            add_proof(plan, found, DNS_NSEC3);
        else if (q->labels > plan->image->origin_labels)
            nsec3_closest(plan, q, q->labels - 1u);
    } else if (wanted(plan, DNS_IMAGE_NSEC)) {
        if (dns_node_type(node, DNS_NSEC))
            add_proof(plan, node, DNS_NSEC);
        else
            nsec_cover(plan, q->name);
    }
}

void dns_prove_nxdomain(dns_plan *plan, const dns_node *encloser, const dns_query *q)
{
    uint8_t star[DNS_NAME_MAX + 9];
    size_t len = star_name(encloser, star);
    if (wanted(plan, DNS_IMAGE_NSEC3)) {
        nsec3_closest(plan, q, encloser->labels);
        if (len)
            nsec3_add(plan, star, len);
    } else if (wanted(plan, DNS_IMAGE_NSEC)) {
        nsec_cover(plan, q->name);
        if (len)
            nsec_cover(plan, star);
    }
}

void dns_prove_wildcard(dns_plan *plan, const dns_node *encloser, const dns_query *q)
{
    if (wanted(plan, DNS_IMAGE_NSEC3)) {
        size_t len;
        const uint8_t *name = suffix(q, encloser->labels + 1u, &len);
        nsec3_add(plan, name, len);
    } else if (wanted(plan, DNS_IMAGE_NSEC)) {
        nsec_cover(plan, q->name);
    }
}

void dns_prove_wildcard_nodata(dns_plan *plan, const dns_node *encloser, const dns_node *wild, const dns_query *q)
{
    if (wanted(plan, DNS_IMAGE_NSEC3)) {
        uint8_t star[DNS_NAME_MAX + 9];
        size_t len = star_name(encloser, star);
        nsec3_closest(plan, q, encloser->labels);
        if (len)
            nsec3_add(plan, star, len);
    } else if (wanted(plan, DNS_IMAGE_NSEC)) {
        nsec_cover(plan, q->name);
        add_proof(plan, wild, DNS_NSEC);
    }
}

void dns_prove_unsigned_cut(dns_plan *plan, const dns_node *cut)
{
    dns_query q;
    if (!wanted(plan, DNS_IMAGE_NSEC | DNS_IMAGE_NSEC3))
        return;
    dns_query_name(&q, dns_node_name(cut), cut->name_len, &plan->image->key);
    dns_prove_nodata(plan, cut, &q);
}
