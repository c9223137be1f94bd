/* The load generator against an echo that misbehaves in counted ways. */
#include "load.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static atomic_int over;
static struct { int fd; uint64_t seen, withheld, doubled, spoiled; } bad;

/* Answers nothing to every 11th datagram, twice to every 7th, wrongly to every 13th. */
static void *misbehave(void *unused)
{
    uint8_t data[2048];
    struct sockaddr_in from;
    (void)unused;
    while (!atomic_load(&over)) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(bad.fd, data, sizeof data, 0, (struct sockaddr *)&from, &len);
        if (n < 0)
            continue;
        bad.seen++;
        if (bad.seen % 11 == 0) {
            bad.withheld++;
            continue;
        }
        if (bad.seen % 7 == 0) {
            bad.doubled++;
            sendto(bad.fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
        }
        if (bad.seen % 13 == 0) {
            bad.spoiled++;
            data[n - 1] ^= 1;
        }
        sendto(bad.fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
    }
    return NULL;
}

static load_job job_for(int fd)
{
    load_job job = {.sockets = 3, .addresses = 1, .in_flight = 4, .size = 40, .warmup = 0, .seconds = .3,
                    .timeout = .05, .fresh = .1};
    socklen_t len = sizeof job.to;
    assert(getsockname(fd, (struct sockaddr *)&job.to, &len) == 0);
    job.to_len = len;
    return job;
}

static void run(const load_job *job, load_report *report)
{
    uint64_t withheld = bad.withheld, doubled = bad.doubled, spoiled = bad.spoiled;
    assert(load_run(job, report) == 0);
    usleep(20000);
    assert(report->sent > 100);
    assert(report->sent == report->answered + report->late + report->lost);
    withheld = bad.withheld - withheld;
    doubled = bad.doubled - doubled;
    spoiled = bad.spoiled - spoiled;
    /* What was withheld or spoiled and not doubled is lost. A late reply is
     * possible on a busy machine, so the bounds leave room for it only. */
    assert(report->lost + report->late >= withheld);
    assert(report->lost <= withheld + spoiled + report->late);
    assert(report->wrong >= spoiled && report->wrong <= spoiled + report->late);
    assert(report->repeated <= doubled && report->repeated + spoiled + report->late >= doubled);
    assert(report->window_answered <= report->answered && report->window_ns > 0);
    assert(load_percentile(report, .5) > 0 && load_percentile(report, .5) <= load_percentile(report, 1));
}

static void buckets_are_in_order(void)
{
    uint32_t last = 0;
    for (uint64_t ns = 0; ns < 3000000; ns += 1 + ns / 50) {
        uint32_t bucket = load_bucket(ns);
        assert(bucket >= last && bucket < LOAD_BUCKETS);
        assert(load_bucket_floor(bucket) <= ns && (bucket + 1 == LOAD_BUCKETS || load_bucket_floor(bucket + 1) > ns));
        last = bucket;
    }
    assert(load_bucket(UINT64_MAX) == LOAD_BUCKETS - 1);
}

static void senseless_jobs_are_refused(int fd)
{
    load_report report;
    load_job job = job_for(fd);
    assert(load_refusal(&job) == NULL);
    job.size = 15;
    assert(load_refusal(&job) && load_run(&job, &report) < 0);
    job = job_for(fd);
    job.sockets = 0;
    assert(load_refusal(&job));
    job = job_for(fd);
    job.in_flight = 0;
    assert(load_refusal(&job));
    job = job_for(fd);
    job.addresses = 2;
    ((struct sockaddr_in *)&job.to)->sin_addr.s_addr = htonl(0x01010101);
    assert(load_refusal(&job));
    job = job_for(fd);
    ((struct sockaddr_in *)&job.to)->sin_port = 0;
    assert(load_refusal(&job));
}

int main(void)
{
    static load_report report;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval wait = {.tv_usec = 50000};
    int size = 4 << 20;
    pthread_t thread;
    buckets_are_in_order();
    bad.fd = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(bad.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(bad.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    assert(bind(bad.fd, (struct sockaddr *)&here, sizeof here) == 0);
    assert(pthread_create(&thread, NULL, misbehave, NULL) == 0);
    senseless_jobs_are_refused(bad.fd);

    load_job job = job_for(bad.fd);
    run(&job, &report);
    job.addresses = 5;
    run(&job, &report);
    job.addresses = 1;
    job.rate = 3000;
    run(&job, &report);
    job.train = 4;
    job.addresses = 5;
    run(&job, &report);

    atomic_store(&over, 1);
    pthread_join(thread, NULL);
    close(bad.fd);
    puts("ok");
    return 0;
}
