/* load.c: see load.h. The loops; messages are in load_message.c. */
#include "load_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

#define BUFFER (8 << 20)

static uint64_t nanoseconds(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t watched_cpu(const load_job *job)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < job->watched_count; i++) {
        clockid_t id;
        if (clock_getcpuclockid(job->watched[i], &id) == 0)
            sum += nanoseconds(id);
    }
    return sum;
}

/* --- latencies ------------------------------------------------------------ */

uint32_t load_bucket(uint64_t ns)
{
    if (ns < 64)
        return (uint32_t)ns;
    uint32_t power = 63u - (uint32_t)__builtin_clzll(ns);
    uint32_t bucket = (power - 5) * 64 + (uint32_t)((ns >> (power - 6)) & 63);
    return bucket < LOAD_BUCKETS ? bucket : LOAD_BUCKETS - 1;
}

uint64_t load_bucket_floor(uint32_t bucket)
{
    if (bucket < 64)
        return bucket;
    return (uint64_t)(64 + bucket % 64) << (bucket / 64 - 1);
}

uint64_t load_percentile(const load_report *report, double share)
{
    uint64_t all = 0, seen = 0;
    for (uint32_t i = 0; i < LOAD_BUCKETS; i++)
        all += report->histogram[i];
    for (uint32_t i = 0; i < LOAD_BUCKETS && all; i++) {
        seen += report->histogram[i];
        if ((double)seen >= share * (double)all)
            return load_bucket_floor(i);
    }
    return 0;
}

/* The clock moved: opens and closes the measured window. */
static void tick(run *r)
{
    r->now = nanoseconds(CLOCK_MONOTONIC);
    if (!r->window_open && r->now >= r->window_from && !r->report->window_ns) {
        r->window_open = true;
        r->window_from = r->now;
        r->cpu_from = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
        r->watched_from = watched_cpu(r->job);
    } else if (r->window_open && r->now >= r->window_to) {
        r->window_open = false;
        r->report->window_ns = r->now - r->window_from;
        r->report->own_cpu_ns = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - r->cpu_from;
        r->report->watched_cpu_ns = watched_cpu(r->job) - r->watched_from;
    }
}

static void answered(run *r, uint64_t sent_at)
{
    uint64_t took = r->now - sent_at;
    r->report->answered++;
    if (!r->window_open)
        return;
    r->report->window_answered++;
    r->report->histogram[load_bucket(took)]++;
    if ((double)took <= r->job->fresh * 1e9)
        r->report->window_fresh++;
}

/* --- closed loop ----------------------------------------------------------- */

static void ask_next(run *r, line *l, unsigned i, ask *a)
{
    a->number += r->job->in_flight;
    if (a->number >= l->next)
        l->next = a->number + 1;
    a->sent_at = r->now;
    a->waiting = true;
    r->waiting++;
    load_up(r, l, i, a->number, 1);
}

/* Files message `i` under what it is. The ask it answers, or NULL. */
static ask *settle(run *r, const line *l, unsigned i)
{
    uint64_t number;
    if (!load_numbered(r, l, i, l->next - 1, &number) || number >= l->next || !load_fits(r, l, i, number)) {
        r->report->wrong++;
        return NULL;
    }
    ask *a = &r->asks[(size_t)l->id * r->job->in_flight + number % r->job->in_flight];
    if (a->number == number && a->waiting) {
        a->waiting = a->lost = false;
        r->waiting--;
        answered(r, a->sent_at);
        return a;
    }
    if (a->lost && number + r->job->in_flight == a->number) {
        a->lost = false;
        r->report->lost--;
        r->report->late++;
    } else {
        r->report->repeated++;
    }
    return NULL;
}

static void closed_receive(run *r, line *l)
{
    unsigned n;
    do {
        unsigned again = 0;
        n = load_pull(r, l);
        tick(r);
        for (unsigned i = 0; i < n; i++) {
            ask *a = settle(r, l, i);
            if (a && r->now < r->stop_at)
                ask_next(r, l, again++, a);
        }
        load_push(r, l, again, 1);
    } while (n == LOAD_BATCH);
}

/* Gives up what waits for longer than `most` ns and, before the end, asks anew. */
static void sweep(run *r, uint64_t most)
{
    for (uint32_t s = 0; s < r->job->sockets; s++) {
        unsigned again = 0;
        for (uint32_t place = 0; place < r->job->in_flight; place++) {
            ask *a = &r->asks[(size_t)s * r->job->in_flight + place];
            if (!a->waiting || r->now - a->sent_at < most)
                continue;
            a->waiting = false;
            a->lost = true;
            r->waiting--;
            r->report->lost++;
            if (r->now < r->stop_at)
                ask_next(r, &r->lines[s], again++, a);
            if (again == LOAD_BATCH) {
                load_push(r, &r->lines[s], again, 1);
                again = 0;
            }
        }
        load_push(r, &r->lines[s], again, 1);
    }
}

static void first_asks(run *r)
{
    for (uint32_t s = 0; s < r->job->sockets; s++) {
        unsigned n = 0;
        for (uint32_t place = 0; place < r->job->in_flight; place++) {
            ask *a = &r->asks[(size_t)s * r->job->in_flight + place];
            a->number = (uint64_t)place - r->job->in_flight;
            ask_next(r, &r->lines[s], n++, a);
            if (n == LOAD_BATCH || place + 1 == r->job->in_flight) {
                load_push(r, &r->lines[s], n, 1);
                n = 0;
            }
        }
    }
}

static int closed_loop(run *r)
{
    struct epoll_event events[LOAD_BATCH];
    uint64_t timeout = (uint64_t)(r->job->timeout * 1e9), next_sweep = r->now;
    int poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        return -errno;
    for (uint32_t s = 0; s < r->job->sockets; s++) {
        struct epoll_event want = {.events = EPOLLIN, .data.u32 = s};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, r->lines[s].fd, &want) != 0) {
            int error = -errno;
            close(poller);
            return error;
        }
    }
    first_asks(r);
    while (r->now < r->stop_at || (r->waiting && r->now < r->stop_at + timeout)) {
        int n = epoll_wait(poller, events, LOAD_BATCH, 1);
        for (int i = 0; i < n; i++)
            closed_receive(r, &r->lines[events[i].data.u32]);
        tick(r);
        if (r->now >= next_sweep) {
            sweep(r, timeout);
            next_sweep = r->now + timeout / 16;
        }
    }
    sweep(r, 0);
    close(poller);
    return 0;
}

/* --- open loop ------------------------------------------------------------- */

static void open_receive(run *r, line *l)
{
    unsigned n;
    do {
        n = load_pull(r, l);
        tick(r);
        for (unsigned i = 0; i < n; i++) {
            uint64_t number;
            if (!load_numbered(r, l, i, l->next - 1, &number) || number >= l->next || !load_fits(r, l, i, number)) {
                r->report->wrong++;
                continue;
            }
            uint64_t bit = 1ull << (number & 63), *word = &l->answered[number >> 6];
            if (*word & bit)
                r->report->repeated++;
            else
                answered(r, l->train_at[number / r->train]);
            *word |= bit;
        }
    } while (n == LOAD_BATCH);
}

/* Sends what is due; false when nothing was. At most a few trains at a time,
 * so that replies are read in between. */
static bool open_send(run *r, uint64_t started, uint32_t *turn)
{
    uint64_t due = (uint64_t)((double)(r->now - started) * r->job->rate / 1e9), gone = r->report->sent;
    bool any = false;
    for (int k = 0; k < 8 && gone + r->report->refused + r->train <= due; k++) {
        line *l = &r->lines[(*turn)++ % r->job->sockets];
        if (l->next + r->train > r->most)
            continue;
        l->train_at[l->next / r->train] = r->now;
        load_up(r, l, 0, l->next, r->train);
        l->next += r->train;
        load_push(r, l, 1, r->train);
        gone = r->report->sent;
        any = true;
    }
    return any;
}

static int open_loop(run *r)
{
    uint64_t started = r->now, timeout = (uint64_t)(r->job->timeout * 1e9), end = r->stop_at + timeout;
    uint32_t turn = 0;
    while (r->now < end) {
        bool busy = r->now < r->stop_at && open_send(r, started, &turn);
        uint64_t had = r->report->answered;
        for (uint32_t s = 0; s < r->job->sockets; s++)
            open_receive(r, &r->lines[s]);
        tick(r);
        if (r->now >= r->stop_at && r->report->answered + r->report->wrong >= r->report->sent)
            break;
        if (!busy && had == r->report->answered) {
            struct timespec nap = {.tv_nsec = 20000};
            nanosleep(&nap, NULL);
        }
    }
    r->report->lost = r->report->sent - r->report->answered;
    return 0;
}

/* --- start and end ---------------------------------------------------------- */

const char *load_refusal(const load_job *job)
{
    if (!job->sockets || job->sockets > 60000)
        return "sockets must be 1 to 60,000";
    if (!job->questions && (job->size < LOAD_SMALLEST || job->size > LOAD_LARGEST))
        return "size must be 16 to 65,507 bytes (the first 16 hold the number)";
    if (!job->addresses || job->addresses > 16000000)
        return "addresses must be 1 to 16,000,000";
    if (job->addresses > 1 && (job->to.ss_family != AF_INET ||
                               ntohl(((const struct sockaddr_in *)&job->to)->sin_addr.s_addr) >> 24 != 127))
        return "more than one source address needs a target in 127.0.0.0/8";
    if (!((const struct sockaddr_in *)&job->to)->sin_port) /* where IPv6 has its port too */
        return "the target's port must be 1 to 65,535";
    if (job->rate < 0 || (job->rate == 0 && (!job->in_flight || job->in_flight > 1000000)))
        return "in flight must be 1 to 1,000,000, or give a rate";
    if (job->questions && job->rate == 0 && (job->in_flight > 32768 || job->in_flight & (job->in_flight - 1)))
        return "in DNS mode in flight must be a power of two up to 32,768";
    if (!(job->seconds > 0) || job->warmup < 0 || !(job->timeout > 0) || job->watched_count > LOAD_WATCHED)
        return "seconds and timeout must be above 0, warm-up not below";
    if (job->questions && !job->question_count)
        return "the list of questions is empty";
    return NULL;
}

static int open_socket(const load_job *job, line *l)
{
    int size = BUFFER, on = 1;
    l->fd = socket(job->to.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return -errno;
    if (setsockopt(l->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        (void)setsockopt(l->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (setsockopt(l->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        (void)setsockopt(l->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (job->addresses > 1)
        return setsockopt(l->fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) ? -errno : 0;
    return connect(l->fd, (const struct sockaddr *)&job->to, job->to_len) ? -errno : 0;
}

static uint32_t train_of(const load_job *job)
{
    uint32_t most = job->questions ? 64 : LOAD_LARGEST / job->size, train = job->train;
    if (job->rate == 0)
        return 1;
    if (!train) /* a millisecond's worth */
        train = (uint32_t)(job->rate / 1000);
    if (most > 64)
        most = 64;
    return train < 1 ? 1 : train > most ? most : train;
}

static int prepare(run *r)
{
    const load_job *job = r->job;
    r->train = train_of(job);
    r->lines = calloc(job->sockets, sizeof *r->lines);
    for (uint32_t s = 0; r->lines && s < job->sockets; s++)
        r->lines[s].fd = -1; /* before anything can fail: finish() closes what is open */
    if (job->rate == 0)
        r->asks = calloc((size_t)job->sockets * job->in_flight, sizeof *r->asks);
    if (!r->lines || (job->rate == 0 && !r->asks) || load_buffers(r) != 0)
        return -ENOMEM;
    r->most = (uint64_t)(job->rate * (job->warmup + job->seconds) / job->sockets * 1.01) + 2u * r->train;
    for (uint32_t s = 0; s < job->sockets; s++) {
        line *l = &r->lines[s];
        int error = open_socket(job, l);
        l->id = s;
        if (error)
            return error;
        if (job->rate > 0) {
            l->answered = calloc(r->most / 64 + 1, 8);
            l->train_at = calloc(r->most / r->train + 1, 8);
            if (!l->answered || !l->train_at)
                return -ENOMEM;
        }
    }
    return 0;
}

static void finish(run *r)
{
    for (uint32_t s = 0; r->lines && s < r->job->sockets; s++) {
        line *l = &r->lines[s];
        uint32_t memory[9] = {0};
        socklen_t len = sizeof memory;
        if (l->fd >= 0 && getsockopt(l->fd, SOL_SOCKET, SO_MEMINFO, memory, &len) == 0)
            r->report->dropped_here += memory[8];
        if (l->fd >= 0)
            close(l->fd);
        free(l->answered);
        free(l->train_at);
    }
    free(r->lines);
    free(r->asks);
    free(r->out);
    free(r->in);
    free(r->pattern);
}

int load_run(const load_job *job, load_report *report)
{
    memset(report, 0, sizeof *report);
    if (load_refusal(job))
        return -EINVAL;
    run *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->job = job;
    r->report = report;
    int error = prepare(r);
    if (!error) {
        r->now = nanoseconds(CLOCK_MONOTONIC);
        r->window_from = r->now + (uint64_t)(job->warmup * 1e9);
        r->stop_at = r->window_to = r->window_from + (uint64_t)(job->seconds * 1e9);
        tick(r);
        error = job->rate > 0 ? open_loop(r) : closed_loop(r);
    }
    finish(r);
    free(r);
    return error;
}
