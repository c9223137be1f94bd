/* dns_tap.c: frames come out whole and in order, wherever the ring begins anew, and none when there is no room. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dns_tap.h"

#define RING 4096

/* The octets of one frame with every field, made by hand from dnstap.proto. */
static void a_frame_is_as_dnstap_proto_says(dns_tap *t)
{
    static const uint8_t want[] = {
        0, 0, 0, 66, 0x0a, 2, 'n', '1', 0x12, 1, 'v', 0x72, 55,
        0x08, 6, 0x10, 1, 0x18, 2, 0x22, 4, 192, 0, 2, 1, 0x2a, 4, 192, 0, 2, 2, 0x30, 0xe9, 0x29, 0x38, 53,
        0x40, 0xac, 0x02, 0x4d, 7, 0, 0, 0, 0x52, 3, 'q', 'r', 'y', 0x60, 0xac, 0x02, 0x6d, 0, 1, 0, 0,
        0x72, 9, 'r', 'e', 's', 'p', 'o', 'n', 's', 'e', '!', 0x78, 1};
    uint8_t out[RING];
    dns_tap_message m = {.type = DNS_TAP_CLIENT_QUERY + 1, .transport = 1, .ip_len = 4, .to_len = 4, .port = 5353,
                         .to_port = 53, .ip = (const uint8_t[]){192, 0, 2, 1}, .to = (const uint8_t[]){192, 0, 2, 2},
                         .asked = 300 * 1000000000ull + 7, .said = 300 * 1000000000ull + 256,
                         .query = (const uint8_t *)"qry", .query_len = 3,
                         .reply = (const uint8_t *)"response!", .reply_len = 9};
    dns_tap_name(t, (const uint8_t *)"n1", 2, (const uint8_t *)"v", 1);
    dns_tap_write(t, &m);
    assert(dns_tap_waiting(t) == sizeof want);
    dns_tap_take(t, out, sizeof want);
    assert(!memcmp(out, want, sizeof want) && !dns_tap_waiting(t));
}

/* Frames of every size, written and taken by turns: what is read is what was written. */
static void a_ring_that_begins_anew_loses_and_mixes_nothing(dns_tap *t)
{
    static uint8_t query[RING], out[RING];
    size_t sizes[64], n = 0;
    uint64_t lost = t->lost;
    for (unsigned round = 0; round < 2000; round++) {
        memset(query, (int)(round & 255), sizeof query);
        dns_tap_message m = {.type = 1, .query = query, .query_len = round * 7 % 600};
        size_t before = dns_tap_waiting(t);
        dns_tap_write(t, &m);
        if (dns_tap_waiting(t) == before) { /* no room: all of it is taken, then looked at */
            assert(t->lost == ++lost);
            size_t whole = dns_tap_waiting(t), at = 0;
            dns_tap_take(t, out, whole);
            for (size_t i = 0; i < n; i++) {
                size_t len = dns_get32(out + at);
                const uint8_t *content = out + at + 4 + len - 2 - sizes[i];
                for (size_t k = 1; k < sizes[i]; k++)
                    assert(content[k] == content[0]);
                at += 4 + len;
            }
            assert(at == whole);
            n = 0;
        } else {
            sizes[n++] = m.query_len;
        }
    }
    assert(lost > 10);
}

static void one_too_large_for_the_ring_is_lost(dns_tap *t)
{
    static uint8_t big[RING];
    uint64_t lost = t->lost;
    dns_tap_message m = {.type = 1, .query = big, .query_len = sizeof big};
    dns_tap_write(t, &m);
    m.query_len = SIZE_MAX / 2;
    dns_tap_write(t, &m);
    assert(t->lost == lost + 2);
}

static void who_offers_recursion_is_asked_by_clients(dns_tap *t)
{
    uint8_t out[RING], query[12] = {0}, reply[12] = {0};
    dns_client client = {.ip_len = 4};
    t->named_len = 0;
    dns_tap_take(t, out, dns_tap_waiting(t));
    for (int recursion = 0; recursion < 2; recursion++) {
        reply[3] = recursion ? 0x80 : 0;
        dns_tap_answer(t, &client, query, 12, reply, 12, 1, 2);
        size_t n = dns_tap_waiting(t), second = 4 + dns_get32(out + 0);
        dns_tap_take(t, out, n);
        second = 4 + dns_get32(out);
        assert(out[7] == (recursion ? DNS_TAP_CLIENT_QUERY : DNS_TAP_AUTH_QUERY));
        assert(out[second + 7] == out[7] + 1 && second + 4 + dns_get32(out + second) == n);
    }
    t->share = 0;
    dns_tap_answer(t, &client, query, 12, reply, 12, 1, 2);
    assert(!dns_tap_waiting(t));
}

int main(void)
{
    dns_tap *t = calloc(1, sizeof *t + RING);
    assert(t);
    t->mask = RING - 1;
    t->share = UINT32_MAX;
    t->random = 1;
    a_frame_is_as_dnstap_proto_says(t);
    a_ring_that_begins_anew_loses_and_mixes_nothing(t);
    one_too_large_for_the_ring_is_lost(t);
    who_offers_recursion_is_asked_by_clients(t);
    free(t);
    return 0;
}
