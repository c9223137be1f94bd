/* Upstream messages: walk, expand, write again with compression, walk that. */
#include <assert.h>

#include "../dns_writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[65536], rdata[65536];
    uint8_t owner[DNS_NAME_MAX];
    dns_walk walk;
    dns_record record;
    dns_writer w;
    uint16_t counts[3] = {0, 0, 0};
    if (dns_walk_begin(&walk, data, size) < 0)
        return 0;
    memset(out, 0, DNS_HEADER);
    dns_writer_begin(&w, out, DNS_HEADER, sizeof out - 1);
    while (dns_walk_next(&walk, &record) == 1) {
        size_t len;
        int budget = 1 << 20;
        assert(record.end <= size && record.rdata_at <= record.end);
        assert(dns_name_read(data, size, record.at, owner, &len, &budget));
        assert(dns_name_check(owner, len) >= 0);
        if (record.type == DNS_OPT)
            continue;
        int n = dns_rdata_expand(data, record.rdata_at, record.end, record.type, rdata, sizeof rdata, &budget);
        assert(n >= 0 && dns_rdata_ok(record.type, rdata, (size_t)n));
        if (dns_writer_record(&w, owner, record.type, record.klass, record.ttl, rdata, (size_t)n) < 0)
            break;
        counts[2]++;
    }
    dns_put16(out + 10, counts[2]);
    assert(dns_walk_begin(&walk, out, w.at) == 0);
    walk.budget = 1 << 20;
    int more;
    while ((more = dns_walk_next(&walk, &record)) == 1)
        ;
    assert(more == 0);
    return 0;
}
