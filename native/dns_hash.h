/* dns_hash.h: the hashes of the DNS house.
 *
 * dns_mix: a fast keyed hash of folded names, one step per eight octets, made
 * label by label from the root, so that one pass yields the hash of every
 * suffix. The key is random per process: a stranger cannot aim at collisions.
 * dns_siphash: SipHash-2-4 for cookies (RFC 9018), where a forger must fail.
 */
#ifndef DNS_HASH_H
#define DNS_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct dns_key {
    uint64_t k[2];
} dns_key;

static inline uint64_t dns_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Hash of `label` (its length octet and text, folded) put before a suffix with
 * hash `h`. Reads up to 7 octets past the label: the buffer must have them. */
static inline uint64_t dns_hash_label(uint64_t h, const uint8_t *label, const dns_key *key)
{
    uint32_t left = (uint32_t)label[0] + 1;
    uint64_t w;
    while (left > 8) {
        memcpy(&w, label, 8);
        h = dns_mix(h ^ w, key->k[1]);
        label += 8;
        left -= 8;
    }
    memcpy(&w, label, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w >>= 64 - 8 * left;
#else
    w &= ~(uint64_t)0 >> (64 - 8 * left);
#endif
    return dns_mix(h ^ w, key->k[1]) + left;
}

/* ASCII letters of eight octets to lower case, others untouched (RFC 4343). */
static inline uint64_t dns_fold8(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t seven = w & (0x7f * ones);
    uint64_t from_a = seven + (0x80 - 'A') * ones;
    uint64_t past_z = seven + (0x80 - 'Z' - 1) * ones;
    uint64_t upper = (from_a ^ past_z) & ~w & (0x80 * ones);
    return w | (upper >> 2);
}

static inline uint8_t dns_fold1(uint8_t c)
{
    return (uint8_t)(c - 'A') < 26 ? (uint8_t)(c | 0x20) : c;
}

/* Copies `len` octets folded. `to` needs no room beyond `len`. Length octets of
 * labels are below 'A', so whole names may be folded at once. */
static inline void dns_fold(uint8_t *to, const uint8_t *from, size_t len)
{
    uint64_t w;
    if (len < 8) {
        for (size_t i = 0; i < len; i++)
            to[i] = dns_fold1(from[i]);
        return;
    }
    for (size_t i = 0; i + 8 <= len; i += 8) {
        memcpy(&w, from + i, 8);
        w = dns_fold8(w);
        memcpy(to + i, &w, 8);
    }
    memcpy(&w, from + len - 8, 8);
    w = dns_fold8(w);
    memcpy(to + len - 8, &w, 8);
}

#define DNS_ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static inline void dns_sipround(uint64_t v[4])
{
    v[0] += v[1]; v[1] = DNS_ROTL(v[1], 13); v[1] ^= v[0]; v[0] = DNS_ROTL(v[0], 32);
    v[2] += v[3]; v[3] = DNS_ROTL(v[3], 16); v[3] ^= v[2];
    v[0] += v[3]; v[3] = DNS_ROTL(v[3], 21); v[3] ^= v[0];
    v[2] += v[1]; v[1] = DNS_ROTL(v[1], 17); v[1] ^= v[2]; v[2] = DNS_ROTL(v[2], 32);
}

static inline uint64_t dns_le64(const uint8_t *p, size_t n)
{
    uint64_t w = 0;
    for (size_t i = 0; i < n; i++)
        w |= (uint64_t)p[i] << (8 * i);
    return w;
}

static inline uint64_t dns_siphash(const uint8_t secret[16], const uint8_t *data, size_t len)
{
    uint64_t k0 = dns_le64(secret, 8), k1 = dns_le64(secret + 8, 8);
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                     k1 ^ 0x7465646279746573u};
    size_t i = 0;
    for (; len - i >= 8; i += 8) {
        uint64_t m = dns_le64(data + i, 8);
        v[3] ^= m;
        dns_sipround(v);
        dns_sipround(v);
        v[0] ^= m;
    }
    uint64_t last = dns_le64(data + i, len - i) | (uint64_t)(len & 0xff) << 56;
    v[3] ^= last;
    dns_sipround(v);
    dns_sipround(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int r = 0; r < 4; r++)
        dns_sipround(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
