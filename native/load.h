/* load.h: the load generator, used by bench/ and by the command line.
 *
 * One thread, no allocation after the start. It numbers every datagram and
 * matches every reply against what was sent, so that a reply which is lost,
 * late, repeated or not the right one is counted as such and never as an
 * answer.
 *
 * Closed loop: each of `sockets` keeps `in_flight` requests. With `addresses`
 * above 1 (IPv4 loopback only) a socket's requests come from that many sources
 * in turn: one socket with 1,000 in flight over 1,000 addresses is 1,000
 * clients with one request each, without 1,000 receive calls on our side.
 * Open loop (`rate` > 0): requests leave at the offered rate whether or not
 * answers come, as trains of equal datagrams in one system call (UDP_SEGMENT),
 * because one core of plain sendmmsg cannot offer twice what a server serves.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define LOAD_SMALLEST 16u    /* bytes of header in each payload */
#define LOAD_LARGEST 65507u
#define LOAD_BATCH 64u       /* datagrams in one system call */
#define LOAD_BUCKETS 2432u   /* latency histogram: 64 steps per power of two of ns */
#define LOAD_WATCHED 16u

typedef struct load_job {
    struct sockaddr_storage to;
    socklen_t to_len;
    uint32_t sockets;
    uint32_t addresses;     /* sources per socket, from 127.1.0.0 on; 1: the kernel's choice */
    uint32_t in_flight;     /* closed loop: requests per socket (a power of two in DNS mode) */
    uint32_t size;          /* payload bytes */
    double rate;            /* open loop: datagrams per second; 0: closed loop */
    uint32_t train;         /* open loop: datagrams per system call, 0: as the rate needs */
    double warmup, seconds; /* not measured, measured */
    double timeout;         /* seconds after which a request counts as lost */
    double fresh;           /* seconds within which an answer counts as goodput */
    pid_t watched[LOAD_WATCHED]; /* processes whose CPU time is read over the window */
    uint32_t watched_count;
    /* DNS mode: questions as wire messages (id 0), one after the other;
     * question i is bytes [at[i], at[i + 1]). NULL: numbered payloads. */
    const uint8_t *questions;
    const uint32_t *at;
    uint32_t question_count;
} load_job;

typedef struct load_report {
    /* whole run: sent = answered + late + lost, exactly */
    uint64_t sent, answered, late, lost;
    uint64_t wrong;         /* replies that are no answer to anything sent to that peer */
    uint64_t repeated;      /* a second reply to one request */
    uint64_t refused;       /* send calls the kernel refused; not in `sent` */
    uint64_t dropped_here;  /* replies our own kernel buffers lost */
    /* the measured window */
    uint64_t window_ns, window_sent, window_answered, window_fresh;
    uint64_t own_cpu_ns, watched_cpu_ns;
    uint64_t rcode[16];     /* DNS mode */
    uint32_t histogram[LOAD_BUCKETS];
} load_report;

/* Runs the job on the calling thread. 0, or a negative errno when it could not
 * start; -EINVAL for a job that makes no sense. `report` is cleared first. */
int load_run(const load_job *job, load_report *report);

/* Why load_run would refuse the job, as text; NULL when it would not. */
const char *load_refusal(const load_job *job);

/* The latency in ns below which `share` (0..1) of the window's answers were; 0 without answers. */
uint64_t load_percentile(const load_report *report, double share);

/* Histogram bucket of a latency, and a bucket's lower bound. */
uint32_t load_bucket(uint64_t ns);
uint64_t load_bucket_floor(uint32_t bucket);

#endif
