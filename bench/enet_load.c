/* Many ENet clients in one program, on our own C host so that the generator is
 * faster than what it measures. Prints one line of JSON.
 *
 * usage: enet_load PORT PID PEERS INFLIGHT SECONDS echo|broadcast|join|idle|refused|open
 *   echo       each peer keeps INFLIGHT reliable messages of 64 bytes in flight
 *   broadcast  one peer asks for a broadcast as soon as the last one has arrived
 *   join       connections are opened and closed, PEERS at a time
 *   idle       all connected, nothing said
 *   refused    PEERS fill the server, then CONNECTs of a stranger come at INFLIGHT thousand a second
 *   open       unsequenced messages of 64 bytes at INFLIGHT thousand a second, answered or not
 */
#include "enet_loose.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { HOSTS = 8, PER_HOST = 4000, BATCH = 64, OUT = 512 };

typedef struct wire {
    int fd;
    en_host *host;
    en_loose loose;
    struct mmsghdr out[OUT];
    struct iovec iov[OUT];
    uint8_t bytes[OUT][1500];
    unsigned waiting;
    unsigned opened, peers;
    en_peer *peer[PER_HOST];
} wire;

static wire *wires[HOSTS];
static int wire_count, pid;
static uint64_t sent_datagrams, got_messages, heard, joins, leaves, broken; /* heard: peers that got something */
static int inflight;
static char mode;
static tudp_sockaddr server;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double server_cpu(void) /* seconds, all threads */
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    double sum = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, e->d_name);
        FILE *f = fopen(path, "r");
        unsigned long long ns = 0;
        if (f && fscanf(f, "%llu", &ns) == 1)
            sum += (double)ns / 1e9;
        if (f)
            fclose(f);
    }
    if (dir)
        closedir(dir);
    return sum;
}

static long server_rss(void)
{
    char path[64];
    long pages = 0, rss = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%ld %ld", &pages, &rss) != 2)
        rss = 0;
    if (f)
        fclose(f);
    return rss * sysconf(_SC_PAGESIZE);
}

static void flush(wire *w)
{
    for (unsigned done = 0; done < w->waiting;) {
        int n = sendmmsg(w->fd, w->out + done, w->waiting - done, 0);
        if (n > 0) {
            done += (unsigned)n;
            sent_datagrams += (unsigned)n;
        } else if (errno == EAGAIN || errno == ENOBUFS) {
            struct pollfd p = {w->fd, POLLOUT, 0};
            poll(&p, 1, 10);
        } else {
            done++;
        }
    }
    w->waiting = 0;
}

static void leave(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to)
{
    wire *w = ctx;
    (void)to;
    if (w->waiting == OUT)
        flush(w);
    unsigned i = w->waiting++;
    memcpy(w->bytes[i], data, len);
    w->iov[i] = (struct iovec){w->bytes[i], len};
    w->out[i].msg_hdr = (struct msghdr){.msg_iov = &w->iov[i], .msg_iovlen = 1};
}

static void say(wire *w, en_peer *p, const char *data, uint32_t len)
{
    en_block *b = en_payload(w->host, (const uint8_t *)data, len);
    en_send(w->host, p, b, 0, EN_RELIABLE, 0);
    en_payload_drop(w->host, b);
}

static void events(wire *w)
{
    static const char body[64] = "echo";
    for (uint32_t i = 0; i < en_event_count(w->host); i++) {
        en_event e = *en_event_at(w->host, i);
        if (e.kind == EN_EVENT_JOIN) {
            joins++;
            if (w->peers < PER_HOST)
                w->peer[w->peers++] = e.peer;
            if (mode == 'e')
                for (int k = 0; k < inflight; k++)
                    say(w, e.peer, body, sizeof body);
            if (mode == 'j')
                en_close(w->host, e.peer, EN_CLOSE, 0, EN_LEFT);
        } else if (e.kind == EN_EVENT_LEAVE) {
            leaves++;
            broken += mode != 'j' || !e.joined;
            if (mode == 'j')
                en_connect(w->host, now(), &server, 2, 0);
        } else {
            got_messages++;
            if (!en_peer_user(e.peer)) {
                en_peer_set_user(e.peer, w);
                heard++;
            }
            if (mode == 'e')
                say(w, e.peer, body, sizeof body);
        }
    }
    en_events_done(w->host);
}

static void turn(wire *w)
{
    static uint8_t in[BATCH][4096];
    struct mmsghdr m[BATCH];
    struct iovec iov[BATCH];
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){in[i], sizeof in[i]};
        m[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
    }
    int n = recvmmsg(w->fd, m, BATCH, MSG_DONTWAIT, NULL);
    tudp_turn *t = en_loose_turn(&w->loose, now());
    for (int i = 0; i < n; i++)
        en_take(w->host, t, in[i], m[i].msg_len, &server, NULL);
    if (en_deadline(w->host) <= t->now)
        en_due(w->host, t);
    events(w);
    en_flush(w->host, t);
    flush(w);
}

static void spin(uint64_t until, int (*enough)(void))
{
    struct pollfd p[HOSTS];
    while (now() < until && !(enough && enough())) {
        uint64_t next = until;
        for (int i = 0; i < wire_count; i++) {
            turn(wires[i]);
            uint64_t due = en_deadline(wires[i]->host);
            next = due < next ? due : next;
            p[i] = (struct pollfd){wires[i]->fd, POLLIN, 0};
        }
        uint64_t at = now();
        struct timespec wait = {0, next > at ? (long)((next - at) > 50000000 ? 50000000 : next - at) : 0};
        ppoll(p, (nfds_t)wire_count, &wait, NULL);
    }
}

/* Many CONNECTs of one stranger, each with an id of its own, `thousands` a second until `end`. */
static uint64_t strangers(double thousands, uint64_t start, uint64_t end)
{
    wire *w = calloc(1, sizeof *w);
    w->fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(w->fd, &server.sa, sizeof server.in4))
        return 0;
    uint64_t count = 0;
    for (uint64_t at; (at = now()) < end;) {
        uint64_t due = (uint64_t)((double)(at - start) * thousands / 1e6);
        for (int n = 0; count < due && n < OUT; n++, count++) {
            uint8_t bytes[64], *to = en_header_write(bytes, EN_NO_ID, 0, 1, (uint16_t)(at / 1000000));
            en_command c = {.type = EN_CONNECT, .flags = EN_FLAG_ACK, .channel = EN_CONTROL, .number = 1};
            c.u.greeting = (en_greeting){.peer_id = (uint16_t)(count % EN_NO_ID), .incoming_session = 255,
                                         .outgoing_session = 255, .mtu = EN_MTU, .window = EN_WINDOW_MOST,
                                         .channels = 2, .interval = 5000, .acceleration = 2, .deceleration = 2};
            en_put32(c.u.greeting.connect_id, (uint32_t)count);
            to = en_command_write(to, &c);
            leave(w, bytes, (uint32_t)(to - bytes), &server);
        }
        flush(w);
        static uint8_t in[64];
        while (recv(w->fd, in, sizeof in, MSG_DONTWAIT) > 0)
            got_messages++; /* a refusal */
        for (int i = 0; i < wire_count; i++)
            turn(wires[i]);
        if (count >= due)
            usleep(100);
    }
    return count;
}

/* Messages at a rate, whether answered or not, each peer in its turn. */
static uint64_t open_loop(double thousands, uint64_t start, uint64_t end)
{
    static const uint8_t body[64] = "open";
    uint64_t count = 0;
    uint32_t turns = 0;
    for (uint64_t at; (at = now()) < end;) {
        uint64_t due = (uint64_t)((double)(at - start) * thousands / 1e6);
        for (int n = 0; count < due && n < 256; n++, count++) {
            wire *w = wires[turns % (uint32_t)wire_count];
            en_peer *p = w->peer[turns / (uint32_t)wire_count % w->peers];
            en_block *b = en_payload(w->host, body, sizeof body);
            en_send(w->host, p, b, 0, EN_UNSEQUENCED, 0);
            en_payload_drop(w->host, b);
            turns++;
        }
        for (int i = 0; i < wire_count; i++)
            turn(wires[i]);
        if (count >= due)
            usleep(50);
    }
    return count;
}

/* Messages that the clients themselves kept back, because the round trip had grown. */
static uint64_t throttled(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < wire_count; i++)
        for (unsigned k = 0; k < wires[i]->peers; k++) {
            en_peer_view v;
            en_peer_look(wires[i]->host, wires[i]->peer[k], &v);
            sum += v.stats.dropped_throttle;
        }
    return sum;
}

static uint64_t wanted;
static int all_joined(void) { return joins >= wanted; }
static int all_talk(void) { return heard >= wanted; }
static int all_heard(void) { return got_messages >= wanted; }

int main(int argc, char **argv)
{
    if (argc != 7)
        return fprintf(stderr, "usage: enet_load PORT PID PEERS INFLIGHT SECONDS MODE\n"), 2;
    pid = atoi(argv[2]);
    int peers = atoi(argv[3]);
    inflight = atoi(argv[4]);
    double seconds = atof(argv[5]);
    mode = argv[6][0];
    server.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    long empty = server_rss();
    en_config c;
    en_config_default(&c);
    c.ping = 500;
    c.queue_bytes = 4 << 20;
    for (int left = peers; left > 0; left -= PER_HOST) {
        wire *w = wires[wire_count++] = calloc(1, sizeof *w);
        int size = 4 << 20;
        w->fd = socket(AF_INET, SOCK_DGRAM, 0);
        setsockopt(w->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
        if (connect(w->fd, &server.sa, sizeof server.in4))
            return perror("connect"), 1;
        c.secret[0] = now();
        c.secret[1] = (uint64_t)w->fd;
        c.max_peers = PER_HOST;
        w->host = en_host_new(&c);
        en_loose_init(&w->loose, leave, w);
        w->opened = (unsigned)(left < PER_HOST ? left : PER_HOST);
    }
    char keep = mode;
    mode = mode == 'j' ? 'i' : mode;
    for (int i = 0; i < wire_count && keep != 'j'; i++) {
        for (unsigned k = 0; k < wires[i]->opened; k++) {
            en_connect(wires[i]->host, now(), &server, 2, 0);
            wanted++;
            if (wanted - joins > 200)
                spin(now() + 5000000000u, all_joined);
        }
    }
    spin(now() + 20000000000u, all_joined);
    uint64_t joined = joins;
    mode = keep;
    if (mode == 'j')
        for (int k = 0; k < peers; k++)
            en_connect(wires[0]->host, now(), &server, 2, 0);
    if (mode == 'e') /* libenet drops what comes before its join is dispatched: it is sent again half a second later */
        spin(now() + 3000000000u, all_talk);
    spin(now() + (mode == 'i' ? 2000000000u : 300000000u), NULL); /* until it runs evenly */
    uint64_t start = now(), got = got_messages, out = sent_datagrams, in = joins, gone = leaves;
    double cpu = server_cpu();
    uint64_t end = start + (uint64_t)(seconds * 1e9);
    uint64_t asked = 0;
    if (mode == 'b') {
        en_peer *speaker = en_connect(wires[0]->host, now(), &server, 2, 0);
        wanted = joins + 1;
        spin(now() + 2000000000u, all_joined);
        start = now();
        end = start + (uint64_t)(seconds * 1e9);
        cpu = server_cpu();
        got = got_messages;
        out = sent_datagrams;
        while (now() < end) {
            say(wires[0], speaker, "B", 1);
            wanted = got_messages + (uint64_t)peers + 1;
            asked++;
            spin(now() + 200000000u, all_heard);
        }
        in = joins;
        joined = asked;
    } else if (mode == 'r') {
        asked = strangers(inflight, start, end);
    } else if (mode == 'o') {
        asked = open_loop(inflight, start, end);
    } else {
        spin(end, NULL);
    }
    cpu = server_cpu() - cpu;
    double took = (double)(now() - start) / 1e9;
    uint64_t messages = got_messages - got;
    if (mode == 'o')
        spin(now() + 100000000u, NULL); /* what is still on its way counts as late */
    uint64_t late = got_messages - got - messages;
    printf("{\"mode\": \"%s\", \"peers\": %d, \"inflight\": %d, \"joined\": %llu, \"seconds\": %.3f, \"messages\": %llu, "
           "\"rate\": %.0f, \"sent\": %llu, \"cpu\": %.4f, \"cpu_us_per_message\": %.4f, \"joins\": %llu, "
           "\"cpu_us_per_join\": %.3f, \"asked\": %llu, \"cpu_us_per_ask\": %.4f, \"left\": %llu, \"broken\": %llu, \"late\": %llu, \"throttled\": %llu, \"rss_per_peer\": %.0f, \"core\": %.4f}\n",
           argv[6], peers, inflight, (unsigned long long)joined, took, (unsigned long long)messages,
           (double)messages / took, (unsigned long long)(sent_datagrams - out), cpu,
           messages ? cpu / (double)messages * 1e6 : 0, (unsigned long long)(joins - in),
           joins > in ? cpu / (double)(joins - in) * 1e6 : 0, (unsigned long long)asked,
           asked ? cpu / (double)asked * 1e6 : 0, (unsigned long long)(leaves - gone),
           (unsigned long long)broken, (unsigned long long)late, (unsigned long long)throttled(), (double)(server_rss() - empty) / (peers ? peers : 1), cpu / took);
    return 0;
}
