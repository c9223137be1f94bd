/* Replies of a server, as the load generator matches them: numbered payloads and DNS. */
#include "load_run.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t question[] = "\0\0\1\0\0\1\0\0\0\0\0\0\3www\7example\4test\0\0\1\0\1";
static const uint32_t at[] = {0, sizeof question - 1};

static load_report report;
static load_job plain = {.sockets = 1, .addresses = 1, .in_flight = 16, .size = 64, .seconds = 1, .timeout = 1};
static load_job dns;

static void reply(run *r, const load_job *job, const uint8_t *data, size_t size)
{
    line l = {.id = 0, .next = 70000};
    uint64_t number;
    if (!r->job) { /* once: the buffers of a run are large */
        r->job = job;
        r->report = &report;
        r->train = 1;
        r->window_open = true;
        if (load_buffers(r) != 0)
            abort();
    }
    size_t len = size < r->in_room ? size : r->in_room;
    uint8_t *exact = malloc(len ? len : 1); /* so that one byte too many is seen */
    memcpy(exact, data, len);
    r->in_iov[0].iov_base = exact;
    r->in_msgs[0].msg_len = (unsigned)len;
    if (load_numbered(r, &l, 0, l.next - 1, &number) && number < l.next)
        (void)load_fits(r, &l, 0, number);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static run runs[2];
    dns = plain;
    dns.questions = question;
    dns.at = at;
    dns.question_count = 1;
    reply(&runs[0], &plain, data, size);
    reply(&runs[1], &dns, data, size);
    return 0;
}
