/* load_message.c: the load generator's messages: what is sent, and which reply answers what.
 *
 * The matching reads bytes from the wire: length first, then content. It is
 * fuzzed by fuzz/fuzz_load.c.
 */
#include "load_run.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define MAGIC 0x4c445554u /* "TUDL" */

/* Datagrams of one train are of one size and source, so they ask the same. */
static uint32_t question_of(const run *r, const line *l, uint64_t number)
{
    uint64_t mixed = (number / r->train + 1) * 0x9e3779b97f4a7c15u + l->id;
    return (uint32_t)((mixed >> 32) % r->job->question_count);
}

static in_addr_t source_of(const run *r, uint64_t number)
{
    return htonl(0x7f010000u + (uint32_t)(number / r->train % r->job->addresses));
}

/* Writes request `number` of `l`; returns its length. */
uint32_t load_compose(const run *r, const line *l, uint64_t number, uint8_t *out)
{
    if (r->job->questions) {
        uint32_t q = question_of(r, l, number);
        uint32_t len = r->job->at[q + 1] - r->job->at[q];
        memcpy(out, r->job->questions + r->job->at[q], len);
        out[0] = (uint8_t)(number >> 8);
        out[1] = (uint8_t)number;
        return len;
    }
    uint32_t head[2] = {MAGIC, l->id};
    memcpy(out, head, 8);
    memcpy(out + 8, &number, 8);
    memcpy(out + LOAD_SMALLEST, r->pattern, r->job->size - LOAD_SMALLEST);
    return r->job->size;
}

/* The number of the request that message `i` of the batch answers; `youngest`
 * is the last one it can be. False: it is no answer to `l`. */
bool load_numbered(const run *r, const line *l, unsigned i, uint64_t youngest, uint64_t *number)
{
    const uint8_t *data = r->in_iov[i].iov_base;
    uint32_t len = r->in_msgs[i].msg_len, head[2];
    if (r->job->questions) { /* the youngest with the 16 bits of the id */
        if (len < 12 || !(data[2] & 0x80))
            return false;
        *number = youngest - ((youngest - ((uint64_t)data[0] << 8 | data[1])) & 0xffff);
        return true;
    }
    if (len != r->job->size)
        return false;
    memcpy(head, data, 8);
    memcpy(number, data + 8, 8);
    return head[0] == MAGIC && head[1] == l->id &&
           memcmp(data + LOAD_SMALLEST, r->pattern, len - LOAD_SMALLEST) == 0;
}

/* Does message `i` repeat the question of `number`, and did it come to the source that asked? */
bool load_fits(run *r, const line *l, unsigned i, uint64_t number)
{
    const uint8_t *data = r->in_iov[i].iov_base;
    struct cmsghdr *c = CMSG_FIRSTHDR(&r->in_msgs[i].msg_hdr);
    if (r->job->addresses > 1 && c) {
        struct in_pktinfo info;
        memcpy(&info, CMSG_DATA(c), sizeof info);
        if (info.ipi_addr.s_addr != source_of(r, number))
            return false;
    }
    if (!r->job->questions)
        return true;
    const uint8_t *asked = r->job->questions + r->job->at[question_of(r, l, number)];
    uint32_t end = 12;
    while (asked[end])
        end += 1u + asked[end];
    end += 5; /* root label, type, class */
    if (r->in_msgs[i].msg_len < end || memcmp(data + 12, asked + 12, end - 12) != 0)
        return false;
    if (r->window_open)
        r->report->rcode[data[3] & 15]++;
    return true;
}

/* Makes message `i` of the batch: `each` datagrams of `l` from `number` on. */
void load_up(run *r, const line *l, unsigned i, uint64_t number, uint32_t each)
{
    struct msghdr *m = &r->out_msgs[i].msg_hdr;
    uint8_t *out = r->out + (size_t)i * r->out_room;
    uint32_t size = load_compose(r, l, number, out);
    for (uint32_t k = 1; k < each; k++)
        load_compose(r, l, number + k, out + (size_t)k * size);
    r->out_iov[i].iov_len = (size_t)size * each;
    m->msg_control = r->out_control[i].bytes;
    m->msg_controllen = sizeof r->out_control[i].bytes;
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    size_t used = 0;
    if (r->job->addresses > 1) {
        struct in_pktinfo info = {.ipi_spec_dst.s_addr = source_of(r, number)};
        *c = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info)};
        memcpy(CMSG_DATA(c), &info, sizeof info);
        used = CMSG_SPACE(sizeof info);
        c = (struct cmsghdr *)(r->out_control[i].bytes + used);
    }
    if (each > 1) {
        uint16_t cut = (uint16_t)size;
        *c = (struct cmsghdr){.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof cut)};
        memcpy(CMSG_DATA(c), &cut, sizeof cut);
        used += CMSG_SPACE(sizeof cut);
    }
    m->msg_controllen = used;
    if (!used)
        m->msg_control = NULL;
}

/* Sends the first `n` of the batch, `each` datagrams in one message. What the
 * kernel refuses is skipped and counted; a full buffer is waited for. */
void load_push(run *r, const line *l, unsigned n, uint32_t each)
{
    unsigned done = 0;
    while (done < n) {
        int sent = sendmmsg(l->fd, r->out_msgs + done, n - done, 0);
        if (sent > 0) {
            done += (unsigned)sent;
            r->report->sent += (uint64_t)sent * each;
            if (r->window_open)
                r->report->window_sent += (uint64_t)sent * each;
        } else if (errno == EAGAIN || errno == ENOBUFS) {
            struct pollfd p = {.fd = l->fd, .events = POLLOUT};
            (void)poll(&p, 1, 1);
        } else if (errno != EINTR && errno != ECONNREFUSED) {
            r->report->refused += each;
            done++;
        }
        /* ECONNREFUSED tells of an earlier datagram: this one is tried again. */
    }
}

/* Takes up to a batch of replies; 0 when there is none. */
unsigned load_pull(run *r, const line *l)
{
    if (r->job->addresses > 1)
        for (unsigned i = 0; i < LOAD_BATCH; i++)
            r->in_msgs[i].msg_hdr.msg_controllen = sizeof r->in_control[i].bytes;
    int n = recvmmsg(l->fd, r->in_msgs, LOAD_BATCH, MSG_DONTWAIT, NULL);
    return n > 0 ? (unsigned)n : 0;
}

static void point_messages(run *r)
{
    for (unsigned i = 0; i < LOAD_BATCH; i++) {
        r->out_iov[i] = (struct iovec){.iov_base = r->out + (size_t)i * r->out_room};
        r->in_iov[i] = (struct iovec){.iov_base = r->in + (size_t)i * r->in_room, .iov_len = r->in_room};
        r->out_msgs[i].msg_hdr = (struct msghdr){.msg_iov = &r->out_iov[i], .msg_iovlen = 1};
        r->in_msgs[i].msg_hdr = (struct msghdr){.msg_iov = &r->in_iov[i], .msg_iovlen = 1};
        if (r->job->addresses > 1) {
            r->out_msgs[i].msg_hdr.msg_name = (void *)&r->job->to;
            r->out_msgs[i].msg_hdr.msg_namelen = r->job->to_len;
            r->in_msgs[i].msg_hdr.msg_control = r->in_control[i].bytes;
        }
    }
}

/* Buffers and headers of a batch each way. 0, or -ENOMEM; what was made is freed by who made the run. */
int load_buffers(run *r)
{
    const load_job *job = r->job;
    r->in_room = job->questions ? 4096 : (job->size + 1 + 63) / 64 * 64;
    r->out_room = r->train > 1 ? LOAD_LARGEST + 1 : r->in_room;
    r->out = calloc(LOAD_BATCH, r->out_room);
    r->in = calloc(LOAD_BATCH, r->in_room);
    r->pattern = malloc(LOAD_LARGEST);
    if (!r->out || !r->in || !r->pattern)
        return -ENOMEM;
    for (uint32_t i = 0; i < LOAD_LARGEST; i++)
        r->pattern[i] = (uint8_t)(i * 7 + (i >> 8));
    point_messages(r);
    return 0;
}
