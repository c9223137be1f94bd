/* The answer cache: stores, asks, flushes and lets time pass as the input says; every reply is read back.
 *
 * Items: an octet for what to do, an octet for the name, an octet for size or time; at
 * most 128, which go round both rings. */
#include <assert.h>
#include <stdlib.h>

#include "../dns_cache.h"

static size_t question(uint8_t *msg, unsigned code, unsigned how)
{
    memset(msg, 0, DNS_HEADER);
    msg[2] = 1;
    msg[5] = 1;
    msg[12] = 2;
    msg[13] = (uint8_t)('a' + code % 16);
    msg[14] = (uint8_t)('a' + code / 16);
    memcpy(msg + 15, "\4test\0\0\x10\0\1", 10);
    if (!(how & 1))
        return 25;
    msg[11] = 1;
    memcpy(msg + 25, "\0\0\x29\4\xd0\0\0\0\0\0\0", 11);
    msg[32] = how & 2 ? 0x80 : 0;
    return 36;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const dns_server server = {.key = {{3, 5}}, .udp_max = 1232};
    static uint8_t out[65535 + 512], msg[20000];
    dns_cache *cache = dns_cache_new(65536, 60, &server.key);
    dns_client client = {.ip_len = 4, .stream = size & 1};
    uint64_t now = 1;
    uint8_t head[40];
    for (size_t i = 0; i + 3 <= size && i < 3 * 128; i += 3) {
        unsigned what = data[i], code = data[i + 1], amount = data[i + 2];
        dns_query q;
        size_t n = question(head, code, what >> 4);
        assert(dns_query_parse(head, n, &server.key, &q) == 0);
        dns_cache_put put = {.now = now, .view = what >> 6, .scope = what & 3};
        dns_cache_found found;
        switch (what % 6) {
        case 0: case 1:
            memcpy(msg, head, 25);
            memset(msg + 6, 0, 6);
            msg[2] |= 0x84;
            n = 25;
            for (unsigned r = 0; r <= amount % (code % 16 ? 5 : 60); r++) { /* few are large */
                memcpy(msg + n, "\xc0\x0c\0\x10\0\1\0\0\0\0\0\0", 12);
                msg[n + 9] = (uint8_t)(amount + r);
                dns_put16(msg + n + 10, amount + 1);
                msg[n + 12] = (uint8_t)amount;
                memset(msg + n + 13, 'x', amount);
                n += 13 + amount;
                msg[7]++;
            }
            dns_cache_store(cache, &q, msg, n, &put);
            break;
        case 2: case 3: {
            size_t got = dns_cache_answer(cache, &server, &client, head, &q, put.view, now, what & 1, 0x80, out, &found);
            assert(!got == (found.state == DNS_CACHE_MISS || (found.state == DNS_CACHE_STALE && !(what & 1))));
            if (got) {
                dns_walk walk;
                dns_record record;
                int more;
                assert(got <= dns_reply_limit(&server, &client, &q) && dns_walk_begin(&walk, out, got) == 0);
                while ((more = dns_walk_next(&walk, &record)) == 1)
                    ;
                assert(more == 0 && !memcmp(out + 12, head + 12, 13));
            }
            break;
        }
        case 4:
            now += (uint64_t)amount * amount * 10;
            break;
        default:
            if (amount & 1)
                dns_cache_fail(cache, &q, &put);
            else if (amount & 2)
                dns_cache_flush_name(cache, q.name, q.name_len, 1, 0);
            else
                dns_cache_flush_scope(cache, put.scope);
        }
    }
    uint64_t at = 0, live = 0;
    while (dns_cache_walk(cache, &at))
        live++;
    assert(live <= cache->entries);
    dns_cache_free(cache);
    return 0;
}
