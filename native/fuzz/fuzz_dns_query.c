/* Client messages: parse, judge the cookie, write the error reply, read it back. */
#include <assert.h>

#include "../dns_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const dns_server server = {.key = {{3, 5}}, .udp_max = 1232, .secrets = 2, .id_len = 3, .id = "ns1"};
    dns_client client = {.ip_len = 4, .now = 77};
    dns_extra extra = {.ede = DNS_EDE_NONE};
    dns_query q;
    uint8_t out[2048];
    int rcode = dns_query_parse(data, size, &server.key, &q);
    if (rcode == DNS_DROP)
        return 0;
    assert(rcode >= DNS_COOKIE_ONLY && rcode <= DNS_BADVERS && q.question_end <= size);
    if (q.cookie_at) {
        assert(q.cookie_at + q.cookie_len <= (int)size);
        dns_cookie_check(&server, &client, data, &q);
    }
    extra.ede = q.ede;
    size_t n = dns_error_write(out, &server, &client, data, &q, 0, rcode < 0 ? 0 : (uint16_t)rcode, &extra);
    assert(n <= 271 + dns_opt_size(&server, &client, &q, &extra) && n >= DNS_HEADER);
    dns_walk walk;
    dns_record record;
    int more;
    assert(dns_walk_begin(&walk, out, n) == 0);
    while ((more = dns_walk_next(&walk, &record)) == 1)
        assert(record.type == DNS_OPT);
    assert(more == 0);
    return 0;
}
