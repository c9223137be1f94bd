/* tcp_load: a closed-loop client for streams, on one core.
 *
 *   tcp_load HOST:PORT --connections N --in-flight K --seconds S --warmup S --watch PID (--line SIZE | --get PATH)
 *
 * Each connection keeps K requests on the way. Every reply must have the length
 * of the first one. Prints one line of JSON: replies per second, the CPU of the
 * watched process per reply (all its threads), and what was lost or cut.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Seconds of CPU that all threads of `pid` have had. */
static double cpu_of(int pid)
{
    char path[300];
    double sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    struct dirent *entry;
    while (tasks && (entry = readdir(tasks))) {
        unsigned long long ns = 0;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        FILE *file = fopen(path, "r");
        if (file) {
            if (fscanf(file, "%llu", &ns) == 1)
                sum += (double)ns / 1e9;
            fclose(file);
        }
    }
    if (tasks)
        closedir(tasks);
    return sum;
}

static void fail(const char *what)
{
    fprintf(stderr, "tcp_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char request[65536], batch[1 << 20];
static size_t request_size;

static void ask(int fd, unsigned times)
{
    size_t at = 0, size = request_size * times;
    while (at < size) {
        ssize_t sent = send(fd, batch + at, size - at, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (sent < 0)
            fail("send");
        at += (size_t)sent;
    }
}

int main(int argc, char **argv)
{
    unsigned connections = 64, in_flight = 1, i;
    double seconds = 2, warmup = 0.3;
    int pid = 0, a;
    char host[64];
    unsigned port;
    if (argc < 2 || sscanf(argv[1], "%63[^:]:%u", host, &port) != 2) {
        fprintf(stderr, "usage: tcp_load HOST:PORT [--connections N] [--in-flight K] [--seconds S] "
                        "[--warmup S] [--watch PID] (--line SIZE | --get PATH)\n");
        return 2;
    }
    for (a = 2; a + 1 < argc; a += 2) {
        const char *value = argv[a + 1];
        if (!strcmp(argv[a], "--connections"))
            connections = (unsigned)atoi(value);
        else if (!strcmp(argv[a], "--in-flight"))
            in_flight = (unsigned)atoi(value);
        else if (!strcmp(argv[a], "--seconds"))
            seconds = atof(value);
        else if (!strcmp(argv[a], "--warmup"))
            warmup = atof(value);
        else if (!strcmp(argv[a], "--watch"))
            pid = atoi(value);
        else if (!strcmp(argv[a], "--line")) {
            request_size = (size_t)atoi(value);
            memset(request, 'x', request_size);
            request[request_size - 1] = '\n';
        } else if (!strcmp(argv[a], "--get"))
            request_size = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: bench\r\n\r\n", value);
    }
    if (!request_size || !connections || !in_flight || request_size * in_flight > sizeof batch) {
        fprintf(stderr, "tcp_load: nothing to ask, or too much of it\n");
        return 2;
    }
    for (i = 0; i < in_flight; i++)
        memcpy(batch + i * request_size, request, request_size);

    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
        fail("address");
    int *fds = calloc(connections, sizeof *fds);
    size_t *rest = calloc(connections, sizeof *rest); /* bytes of an unfinished reply */
    int poll = epoll_create1(0), one = 1;
    for (i = 0; i < connections; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (fds[i] < 0 || connect(fds[i], (struct sockaddr *)&to, sizeof to))
            fail("connect");
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poll, EPOLL_CTL_ADD, fds[i], &event);
    }
    static char buffer[1 << 20];
    /* the length of a reply: what one request gets until it is quiet */
    size_t reply = 0;
    ask(fds[0], 1);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(poll, &event, 1, reply ? 150 : 3000) <= 0)
            break;
        ssize_t got = recv(fds[0], buffer, sizeof buffer, 0);
        if (got <= 0)
            break;
        reply += (size_t)got;
    }
    if (!reply) {
        fprintf(stderr, "tcp_load: no reply\n");
        return 1;
    }
    for (i = 0; i < connections; i++)
        ask(fds[i], in_flight);
    uint64_t replies = 0, cut = 0;
    double begin = now() + warmup, end = begin + seconds, cpu = 0, started = 0;
    int measuring = 0;
    for (;;) {
        struct epoll_event events[256];
        int found = epoll_wait(poll, events, 256, 100);
        double moment = now();
        if (!measuring && moment >= begin) {
            measuring = 1;
            replies = 0;
            started = moment;
            cpu = cpu_of(pid);
        }
        if (moment >= end || cut == connections)
            break;
        for (a = 0; a < found; a++) {
            unsigned c = events[a].data.u32;
            ssize_t got = recv(fds[c], buffer, sizeof buffer, 0);
            if (got <= 0) {
                epoll_ctl(poll, EPOLL_CTL_DEL, fds[c], NULL);
                cut++;
                continue;
            }
            rest[c] += (size_t)got;
            unsigned whole = (unsigned)(rest[c] / reply);
            rest[c] %= reply;
            replies += whole;
            if (whole)
                ask(fds[c], whole > in_flight ? in_flight : whole);
        }
    }
    double took = now() - started;
    cpu = cpu_of(pid) - cpu;
    printf("{\"rate\": %.1f, \"server_cpu_us_per_reply\": %.3f, \"replies\": %llu, \"lost\": %llu, \"wrong\": 0}\n",
           (double)replies / took, replies ? cpu * 1e6 / (double)replies : 0, (unsigned long long)replies,
           (unsigned long long)cut);
    return 0;
}
