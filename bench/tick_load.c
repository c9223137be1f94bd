/* Players of a room in one program, on our own C host: each sends an input per tick, with the last ten and the
 * report of snapshots, and reads the number of each snapshot that comes. Prints `joined N` when all are in, and
 * at the end one line of JSON.
 *
 * usage: tick_load PORT PLAYERS HZ SECONDS
 */
#include "enet_loose.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 2000, BATCH = 64, REPEAT = 10, INPUT = 0xF0, SNAPSHOT = 0xF1 };

typedef struct player {
    en_peer *peer;
    uint32_t tick, mask;
    uint16_t newest;
    uint8_t held[REPEAT];
    uint8_t count;
} player;

static player players[MOST];
static unsigned joined, left;
static uint64_t inputs, snapshots, bytes, dice = 88172645463325252u;
static int fd;
static en_host *host;
static en_loose loose;
static tudp_sockaddr server;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void leave(void *ctx, const uint8_t *data, uint32_t len, const tudp_sockaddr *to)
{
    (void)ctx, (void)to;
    while (send(fd, data, len, 0) < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
        struct pollfd p = {fd, POLLOUT, 0};
        poll(&p, 1, 10);
    }
}

static void report(player *p, const uint8_t *data)
{
    uint16_t number = (uint16_t)(data[1] << 8 | data[2]);
    uint32_t ahead = p->newest ? (number + 65535u - p->newest) % 65535u : 1;
    if (!ahead || ahead > 32767)
        return;
    p->mask = p->newest && ahead <= 32 ? (uint32_t)(((uint64_t)p->mask << 1 | 1) << (ahead - 1)) : 0;
    p->newest = number;
}

static void events(void)
{
    for (uint32_t i = 0; i < en_event_count(host); i++) {
        en_event e = *en_event_at(host, i);
        player *p = e.peer ? en_peer_user(e.peer) : NULL;
        if (e.kind == EN_EVENT_JOIN && joined < MOST) {
            p = &players[joined++];
            p->peer = e.peer;
            en_peer_set_user(e.peer, p);
        } else if (e.kind == EN_EVENT_LEAVE) {
            left++;
            if (p)
                p->peer = NULL;
        } else if (p && e.length >= 21 && e.data[0] == SNAPSHOT) {
            snapshots++;
            bytes += e.length;
            report(p, e.data);
        }
    }
    en_events_done(host);
}

/* One tick's input of one player; what it holds down changes now and then. */
static void play(player *p)
{
    uint8_t out[4 + REPEAT + 10], *to = out;
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    for (int n = REPEAT - 1; n > 0; n--)
        p->held[n] = p->held[n - 1];
    if (dice % 10 == 0)
        p->held[0] = dice >> 32 & 15;
    p->count += p->count < REPEAT;
    *to++ = INPUT;
    *to++ = (uint8_t)(p->tick >> 8);
    *to++ = (uint8_t)p->tick++;
    *to++ = p->count;
    for (int n = 0; n < p->count; n++)
        *to++ = p->held[n];
    if (p->newest) {
        en_put16(to, p->newest);
        en_put32(to + 2, p->mask);
        en_put32(to + 6, (uint32_t)(now() / 1000));
        to += 10;
    }
    en_block *b = en_payload(host, out, (uint32_t)(to - out));
    en_send(host, p->peer, b, 0, EN_SEQUENCED, 0);
    en_payload_drop(host, b);
    inputs++;
}

static void turn(void)
{
    static uint8_t in[BATCH][4096];
    struct mmsghdr m[BATCH];
    struct iovec iov[BATCH];
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){in[i], sizeof in[i]};
        m[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
    }
    int n = recvmmsg(fd, m, BATCH, MSG_DONTWAIT, NULL);
    tudp_turn *t = en_loose_turn(&loose, now());
    for (int i = 0; i < n; i++)
        en_take(host, t, in[i], m[i].msg_len, &server, NULL);
    if (en_deadline(host) <= t->now)
        en_due(host, t);
    events();
    en_flush(host, t);
}

static void rest(void)
{
    struct pollfd p = {fd, POLLIN, 0};
    struct timespec wait = {0, 200000};
    ppoll(&p, 1, &wait, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 5 || atoi(argv[2]) < 1 || atoi(argv[2]) > MOST)
        return fprintf(stderr, "usage: tick_load PORT PLAYERS HZ SECONDS; at most %d players\n", MOST), 2;
    unsigned many = (unsigned)atoi(argv[2]);
    double hz = atof(argv[3]), seconds = atof(argv[4]);
    server.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int size = 8 << 20;
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    if (connect(fd, &server.sa, sizeof server.in4))
        return perror("connect"), 1;
    en_config c;
    en_config_default(&c);
    c.max_peers = MOST;
    c.secret[0] = now();
    host = en_host_new(&c);
    en_loose_init(&loose, leave, NULL);
    uint64_t end = now() + 20000000000u;
    for (unsigned asked = 0; joined < many && now() < end;) {
        while (asked < many && asked < joined + 50)
            en_connect(host, now(), &server, 2, 0), asked++;
        turn();
        rest();
    }
    printf("joined %u\n", joined);
    fflush(stdout);
    uint64_t start = now(), sent = 0;
    end = start + (uint64_t)(seconds * 1e9);
    for (uint64_t at; (at = now()) < end;) {
        /* Players press at moments of their own: one after another, spread over the tick. */
        uint64_t due = (uint64_t)((double)(at - start) / 1e9 * hz * joined);
        for (int n = 0; sent < due && n < 64; n++, sent++)
            if (players[sent % joined].peer)
                play(&players[sent % joined]);
        turn();
        if (sent >= due)
            rest();
    }
    printf("{\"joined\": %u, \"left\": %u, \"inputs\": %llu, \"snapshots\": %llu, \"bytes\": %llu, \"seconds\": %.3f}\n",
           joined, left, (unsigned long long)inputs, (unsigned long long)snapshots, (unsigned long long)bytes,
           (double)(now() - start) / 1e9);
    return 0;
}
