/* dns_writer.c: see dns_writer.h. */
#include "dns_writer.h"

static const dns_key writer_key = {{0x9e3779b97f4a7c15u, 0xd6e8feb86659fd93u}};

typedef struct parts {
    unsigned labels, len;
    uint8_t at[DNS_LABELS_MAX + 1];
    uint8_t folded[DNS_NAME_MAX + 9];
    uint32_t hash[DNS_LABELS_MAX + 1];
} parts;

static void take_apart(parts *p, const uint8_t *name)
{
    unsigned at = 0, n = 0;
    while (name[at]) {
        p->at[n++] = (uint8_t)at;
        at += name[at] + 1u;
    }
    p->labels = n;
    p->at[n] = (uint8_t)at;
    p->len = at + 1;
    dns_fold(p->folded, name, p->len);
    memset(p->folded + p->len, 0, 8);
    uint64_t h = writer_key.k[0];
    while (n--) {
        h = dns_hash_label(h, p->folded + p->at[n], &writer_key);
        p->hash[n] = (uint32_t)h;
    }
}

/* Whether the name at `pos` of our own message equals a folded one. */
static int same_name(const uint8_t *out, size_t pos, const uint8_t *folded)
{
    for (;;) {
        uint8_t n = out[pos];
        while (n >= 0xc0) {
            pos = dns_get16(out + pos) & 0x3fff;
            n = out[pos];
        }
        if (n != *folded)
            return 0;
        if (!n)
            return 1;
        for (unsigned i = 1; i <= n; i++)
            if (dns_fold1(out[pos + i]) != folded[i])
                return 0;
        pos += n + 1u;
        folded += n + 1u;
    }
}

static void remember(dns_writer *w, uint32_t hash, size_t pos)
{
    if (w->known < DNS_WRITER_NAMES && pos < 0x4000) {
        w->hash[w->known] = hash;
        w->pos[w->known++] = (uint16_t)pos;
    }
}

void dns_writer_know(dns_writer *w, const uint8_t *name, size_t pos, unsigned skip)
{
    parts p;
    take_apart(&p, name);
    for (unsigned i = skip; i < p.labels; i++)
        remember(w, p.hash[i], pos + p.at[i]);
}

int dns_writer_name(dns_writer *w, const uint8_t *name, int compress)
{
    parts p;
    unsigned plain;
    int target = -1;
    take_apart(&p, name);
    for (plain = 0; compress && plain < p.labels && w->lookups > 0 && target < 0; plain++) {
        w->lookups--;
        for (uint32_t k = 0; k < w->known && target < 0; k++)
            if (w->hash[k] == p.hash[plain] && same_name(w->out, w->pos[k], p.folded + p.at[plain]))
                target = w->pos[k];
    }
    if (target >= 0)
        plain--;
    else
        plain = p.labels;
    uint32_t n = p.at[plain], need = n + (target >= 0 ? 2 : 1);
    if (need > w->room - w->at)
        return -1;
    memcpy(w->out + w->at, name, n);
    for (unsigned i = 0; i < plain; i++)
        remember(w, p.hash[i], w->at + p.at[i]);
    if (target < 0) {
        w->out[w->at + n] = 0;
    } else {
        dns_put16(w->out + w->at + n, DNS_POINTER | (uint32_t)target);
        if (w->relocs && w->nrelocs < w->max_relocs)
            w->relocs[w->nrelocs++] = (uint16_t)(w->at + n);
    }
    w->at += need;
    return 0;
}

static int put_rdata(dns_writer *w, const uint8_t *rdata, size_t rdlen, const char *layout)
{
    size_t at = 0;
    for (; layout && *layout && layout[0] != '*'; layout++) {
        size_t n;
        if (*layout == 'n') {
            size_t len;
            int no_pointers = 0;
            size_t behind = dns_name_read(rdata, rdlen, at, NULL, &len, &no_pointers);
            if (!behind || dns_writer_name(w, rdata + at, 1) < 0)
                return -1;
            at = behind;
            continue;
        }
        if (*layout < '0' || *layout > '9')
            break; /* nothing behind is compressed */
        n = (size_t)(*layout - '0');
        if (n > rdlen - at || n > w->room - w->at)
            return -1;
        memcpy(w->out + w->at, rdata + at, n);
        w->at += (uint32_t)n;
        at += n;
    }
    if (rdlen - at > w->room - w->at)
        return -1;
    memcpy(w->out + w->at, rdata + at, rdlen - at);
    w->at += (uint32_t)(rdlen - at);
    return 0;
}

int dns_writer_record(dns_writer *w, const uint8_t *owner, uint16_t type, uint16_t klass, uint32_t ttl,
                      const uint8_t *rdata, size_t rdlen)
{
    uint32_t start = w->at, known = w->known, relocs = w->nrelocs;
    if (owner) {
        if (dns_writer_name(w, owner, 1) < 0)
            goto full;
    } else {
        if (w->room - w->at < 2)
            goto full;
        dns_put16(w->out + w->at, DNS_POINTER | w->owner);
        if (w->owner_moves && w->relocs && w->nrelocs < w->max_relocs)
            w->relocs[w->nrelocs++] = (uint16_t)w->at;
        w->at += 2;
    }
    if (w->room - w->at < 10)
        goto full;
    uint8_t *fixed = w->out + w->at;
    dns_put16(fixed, type);
    dns_put16(fixed + 2, klass);
    dns_put32(fixed + 4, ttl);
    w->at += 10;
    if (put_rdata(w, rdata, rdlen, dns_rdata_layout(type)) < 0)
        goto full;
    dns_put16(fixed + 8, (uint32_t)(w->out + w->at - fixed) - 10);
    return 0;
full:
    w->at = start;
    w->known = known;
    w->nrelocs = relocs;
    return -1;
}
