/* The load generator where things fail: memory, sockets, clocks, sending; late answers, foreign ones, none at all. */
#include "load_run.h"
#include "refuse.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ECHO, SILENT, LATE, DNS, FOREIGN };
static atomic_int over, how;
static int fd;
static struct sockaddr_in here = {.sin_family = AF_INET};

/* Answers as `how` says: what it got; nothing; a round later; as DNS does; with what nobody asked. */
static void *serve(void *unused)
{
    static uint8_t kept[8][64];
    static struct sockaddr_in whom[8];
    static ssize_t lens[8];
    unsigned count = 0, seen = 0;
    while (!atomic_load(&over)) {
        uint8_t data[2048];
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &len);
        if (n < 0)
            continue;
        seen++;
        switch (atomic_load(&how)) {
        case SILENT:
            break;
        case LATE: /* to the eighth before, which its sender has given up by now */
            if (lens[count % 8])
                sendto(fd, kept[count % 8], (size_t)lens[count % 8], 0, (struct sockaddr *)&whom[count % 8], len);
            memcpy(kept[count % 8], data, lens[count % 8] = n < 64 ? n : 64);
            whom[count++ % 8] = from;
            break;
        case FOREIGN: /* shorter, of another line, of a number to come, twice */
            sendto(fd, data, (size_t)n / 2, 0, (struct sockaddr *)&from, len);
            data[4] ^= 1;
            sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
            data[4] ^= 1;
            data[15] ^= 0x40;
            sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
            data[15] ^= 0x40;
            sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
            sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
            break;
        case DNS:
            data[2] |= 0x80;
            data[3] = seen % 3 == 0 ? 3 : 0;
            if (seen % 5 == 0)
                data[n - 1] ^= 1; /* another question than was asked */
            if (seen % 7 == 0)
                n = 11;
            /* fall through */
        default:
            sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len);
        }
    }
    return NULL;
}

static load_job job_of(double seconds)
{
    load_job job = {.sockets = 2, .addresses = 1, .in_flight = 4, .size = 40, .seconds = seconds, .timeout = .05, .fresh = .1};
    memcpy(&job.to, &here, sizeof here);
    job.to_len = sizeof here;
    return job;
}

static void adds_up(const load_report *r) { assert(r->sent == r->answered + r->late + r->lost); }

static load_report report;

/* Runs the job until `seen`: on a machine that is busy elsewhere a tenth of a second can pass unused. */
#define RUN_UNTIL(job, seen)                                     \
    do {                                                         \
        int runs = 0;                                            \
        do                                                       \
            assert(load_run(&(job), &report) == 0 && ++runs < 50); \
        while (!(seen));                                         \
    } while (0)

static void senseless_jobs_say_what_is_wrong(void)
{
    load_job job = job_of(1), good = job;
    uint8_t questions[1] = {0};
#define REFUSED(change) job = good, change, assert(load_refusal(&job) && load_run(&job, &report) == -EINVAL)
    REFUSED(job.sockets = 60001);
    REFUSED(job.size = LOAD_LARGEST + 1);
    REFUSED(job.addresses = 0);
    REFUSED(job.addresses = 16000001);
    REFUSED((job.addresses = 2, job.to.ss_family = AF_INET6));
    REFUSED(job.rate = -1);
    REFUSED(job.in_flight = 1000001);
    REFUSED((job.questions = questions, job.in_flight = 65536));
    REFUSED((job.questions = questions, job.in_flight = 3));
    REFUSED(job.seconds = 0);
    REFUSED(job.warmup = -1);
    REFUSED(job.timeout = 0);
    REFUSED(job.watched_count = LOAD_WATCHED + 1);
    REFUSED(job.questions = questions);
    job = good, job.rate = 10, job.in_flight = 0, assert(!load_refusal(&job));
    job = good, job.questions = questions, job.size = 0, job.question_count = 1, assert(!load_refusal(&job));
    job.rate = 5, job.in_flight = 3, assert(!load_refusal(&job));
}

/* Neither memory nor a call of the system leaves anything open, or closes what was open before. */
static void what_the_system_refuses_is_said_and_left_as_it_was(void)
{
    static const char *calls[] = {"memory", "socket", "connect", "setsockopt", "epoll_create1", "epoll_ctl"};
    int first = dup(0);
    close(first);
    for (int open_loop = 0; open_loop < 2; open_loop++)
        for (int sources = 1; sources <= 2; sources++)
            for (unsigned kind = 0; kind < sizeof calls / sizeof *calls; kind++)
                for (unsigned n = 1;; n++) {
                    load_job job = job_of(.001);
                    job.rate = open_loop ? 10 : 0;
                    job.timeout = .001;
                    job.addresses = (uint32_t)sources;
                    refuse(calls[kind], n, kind ? EMFILE : ENOMEM);
                    int error = load_run(&job, &report);
                    if (!refused())
                        break;
                    /* a larger buffer may be refused: it runs with what it gets */
                    assert(error == (kind ? -EMFILE : -ENOMEM) || (kind == 3 && error == 0));
                    int next = dup(0);
                    assert(next == first);
                    close(next);
                }
}

static void a_clock_or_a_process_that_is_not_there_counts_nothing(void)
{
    load_job job = job_of(.02);
    job.watched[0] = getpid();
    job.watched[1] = 0x3fffffff; /* nobody's */
    job.watched_count = 2;
    assert(load_run(&job, &report) == 0 && report.watched_cpu_ns > 0);
    adds_up(&report);
    job.watched_count = 0;
    refuse("clock_gettime", 1, EINVAL);
    assert(load_run(&job, &report) == 0 && refused());
    adds_up(&report);
}

static void what_comes_before_the_window_or_late_is_told_apart(void)
{
    load_job job = job_of(.05);
    job.warmup = .05;
    job.fresh = 0;
    RUN_UNTIL(job, report.window_answered && report.answered > report.window_answered);
    assert(!report.window_fresh);
    adds_up(&report);
    assert(load_percentile(&report, 2) == 0);
    memset(&report, 0, sizeof report);
    assert(load_percentile(&report, .5) == 0);
    atomic_store(&how, LATE);
    job = job_of(.4);
    job.timeout = .03;
    RUN_UNTIL(job, report.late > 0);
    adds_up(&report);
    atomic_store(&how, SILENT);
    job = job_of(.1);
    job.in_flight = 200; /* more than leave at once */
    job.timeout = .02;
    assert(load_run(&job, &report) == 0 && report.answered == 0 && report.lost >= 400);
    adds_up(&report);
    atomic_store(&how, FOREIGN);
    RUN_UNTIL(job, report.wrong > report.answered && report.repeated > 0);
    adds_up(&report);
    job.rate = 2000;
    RUN_UNTIL(job, report.wrong > 0 && report.repeated > 0);
    adds_up(&report);
    atomic_store(&how, ECHO);
    job.rate = 0;
    RUN_UNTIL(job, report.answered > 400);
    adds_up(&report);
    job.in_flight = 4;
    job.rate = 200000; /* whole batches of answers, and more than can be said in time */
    job.size = 16;
    job.sockets = 1;
    RUN_UNTIL(job, report.answered > 0);
    adds_up(&report);
    job.rate = 100; /* less than one in a millisecond */
    RUN_UNTIL(job, report.sent > 0);
    job.rate = 4000;
    job.size = 40000; /* one of these is a train */
    assert(load_run(&job, &report) == 0);
    adds_up(&report);
}

static void questions_of_dns_are_matched_by_what_they_ask(void)
{
    static const uint8_t questions[] = "\0\0\1\0\0\1\0\0\0\0\0\0\1a\2ex\0\0\1\0\1"
                                       "\0\0\1\0\0\1\0\0\0\0\0\0\2bb\2ex\0\0\1\0\1";
    static const uint32_t at[] = {0, 22, 45};
    load_job job = job_of(.1);
    job.questions = questions;
    job.at = at;
    job.question_count = 2;
    atomic_store(&how, DNS);
    RUN_UNTIL(job, report.answered > 0 && report.wrong > 0);
    assert(report.rcode[0] > 0 && report.rcode[3] > 0);
    adds_up(&report);
    job.rate = 3000;
    job.addresses = 3;
    RUN_UNTIL(job, report.answered > 0);
    adds_up(&report);
    job.rate = 200000;
    RUN_UNTIL(job, report.answered > 0);
    atomic_store(&how, ECHO);
    assert(load_run(&job, &report) == 0 && report.answered == 0); /* a question is no answer */
}

/* One run of the inside: the sending of a batch that the kernel takes in parts, or not. */
static void what_cannot_be_sent_is_waited_for_or_counted(void)
{
    static const struct { int error; uint64_t refused, sent; } rows[] = {
        {EAGAIN, 0, 3}, {ENOBUFS, 0, 3}, {EINTR, 0, 3}, {ECONNREFUSED, 0, 3}, {EPERM, 1, 2}};
    load_job job = job_of(1);
    run r = {.job = &job, .report = &report, .train = 1};
    line l = {.id = 1};
    assert(load_buffers(&r) == 0);
    l.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert(connect(l.fd, (struct sockaddr *)&here, sizeof here) == 0);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        memset(&report, 0, sizeof report);
        for (unsigned k = 0; k < 3; k++)
            load_up(&r, &l, k, k, 1);
        r.window_open = i == 4;
        refuse("sendmmsg", 1, rows[i].error);
        load_push(&r, &l, 3, 1);
        assert(refused() && report.refused == rows[i].refused && report.sent == rows[i].sent);
        assert(report.window_sent == (i == 4 ? 2u : 0u));
    }
    usleep(50000);
    assert(load_pull(&r, &l) > 0);
    close(l.fd);
    free(r.out), free(r.in), free(r.pattern);
    /* an answer that came to another source than asked */
    job.addresses = 2;
    memset(&r, 0, sizeof r);
    r.job = &job, r.report = &report, r.train = 1;
    assert(load_buffers(&r) == 0);
    load_up(&r, &l, 0, 7, 1);
    struct msghdr *m = &r.in_msgs[0].msg_hdr;
    struct cmsghdr *c = (struct cmsghdr *)r.in_control[0].bytes;
    struct in_pktinfo info = {.ipi_addr.s_addr = htonl(0x7f010001)};
    *c = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info)};
    memcpy(CMSG_DATA(c), &info, sizeof info);
    m->msg_controllen = sizeof r.in_control[0].bytes;
    assert(load_fits(&r, &l, 0, 7) && !load_fits(&r, &l, 0, 8));
    m->msg_controllen = 0;
    assert(load_fits(&r, &l, 0, 8)); /* not told to whom */
    memcpy(r.in, r.out, 40);
    r.in_msgs[0].msg_len = 40;
    uint64_t number;
    assert(load_numbered(&r, &l, 0, 7, &number) && number == 7);
    r.in[0] ^= 1;
    assert(!load_numbered(&r, &l, 0, 7, &number));
    r.in[0] ^= 1, r.in[39] ^= 1;
    assert(!load_numbered(&r, &l, 0, 7, &number));
    free(r.out), free(r.in), free(r.pattern);
}

int main(void)
{
    struct timeval wait = {.tv_usec = 60000};
    socklen_t len = sizeof here;
    pthread_t thread;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    assert(bind(fd, (struct sockaddr *)&here, sizeof here) == 0 && getsockname(fd, (struct sockaddr *)&here, &len) == 0);
    assert(pthread_create(&thread, NULL, serve, NULL) == 0);
    senseless_jobs_say_what_is_wrong();
    what_the_system_refuses_is_said_and_left_as_it_was();
    a_clock_or_a_process_that_is_not_there_counts_nothing();
    what_comes_before_the_window_or_late_is_told_apart();
    questions_of_dns_are_matched_by_what_they_ask();
    what_cannot_be_sent_is_waited_for_or_counted();
    atomic_store(&over, 1);
    pthread_join(thread, NULL);
    close(fd);
    puts("load edges: ok");
    return 0;
}
