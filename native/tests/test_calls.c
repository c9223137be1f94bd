/* The three call tables: the system on loopback sockets, each call failing once, and the wire of memory. */
#include "addresses.h"
#include "calls.h"
#include "refuse.h"

#include <assert.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef SO_ATTACH_FILTER
#define SO_ATTACH_FILTER 26
#endif

static tudp_sockaddr six(uint8_t last)
{
    tudp_sockaddr a;
    memset(&a, 0, sizeof a);
    a.in6.sin6_family = AF_INET6;
    a.in6.sin6_addr.s6_addr[0] = 0x20;
    a.in6.sin6_addr.s6_addr[15] = last;
    a.in6.sin6_port = htons(9);
    return a;
}

/* One message to or from `peer`. */
typedef struct parcel {
    struct iovec iov;
    struct mmsghdr m;
    tudp_sockaddr peer;
    _Alignas(8) uint8_t control[128];
    uint8_t data[2048];
} parcel;

static struct mmsghdr *pack(parcel *p, const tudp_sockaddr *peer, const char *text)
{
    memset(p, 0, sizeof *p);
    p->peer = *peer;
    p->iov = (struct iovec){p->data, text ? strlen(text) : sizeof p->data};
    if (text)
        memcpy(p->data, text, strlen(text));
    p->m.msg_hdr = (struct msghdr){.msg_iov = &p->iov, .msg_iovlen = 1, .msg_name = &p->peer,
                                   .msg_namelen = peer->sa.sa_family == AF_INET6 ? sizeof peer->in6 : sizeof peer->in4};
    return &p->m;
}

static void the_system_says_what_failed(void)
{
    const tudp_calls *c = &tudp_system;
    tudp_sockaddr own = ipv4(INADDR_LOOPBACK, 0), none = ipv4(INADDR_LOOPBACK, 0);
    socklen_t len = sizeof own;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), value = 1;
    parcel out[2], in;
    assert(fd >= 0 && timer >= 0 && bind(fd, &own.sa, sizeof own.in4) == 0 && getsockname(fd, &own.sa, &len) == 0);

    pack(&out[0], &own, "one");
    assert(c->sendmmsg(NULL, fd, &out[0].m, 1, 0) == 1 && out[0].m.msg_len == 3);
    struct mmsghdr two[2] = {*pack(&out[0], &own, "two"), *pack(&out[1], &own, "three")};
    assert(c->sendmmsg(NULL, fd, two, 2, 0) == 2);
    for (int i = 0; i < 3; i++)
        assert(c->recvmmsg(NULL, fd, pack(&in, &none, NULL), 1, MSG_DONTWAIT) == 1 && in.m.msg_len >= 3);
    assert(c->recvmmsg(NULL, fd, pack(&in, &none, NULL), 1, MSG_DONTWAIT) == -EAGAIN);
    assert(c->sendmmsg(NULL, -1, &out[0].m, 1, 0) == -EBADF && c->sendmmsg(NULL, -1, two, 2, 0) == -EBADF);

    assert(c->setsockopt(NULL, fd, SOL_SOCKET, SO_TIMESTAMPNS, &value, sizeof value) == 0);
    assert(c->setsockopt(NULL, -1, SOL_SOCKET, SO_TIMESTAMPNS, &value, sizeof value) == -EBADF);
    len = sizeof value;
    assert(c->getsockopt(NULL, fd, SOL_SOCKET, SO_TIMESTAMPNS, &value, &len) == 0 && value);
    assert(c->getsockopt(NULL, -1, SOL_SOCKET, SO_TIMESTAMPNS, &value, &len) == -EBADF);

    uint64_t before = c->monotonic(NULL);
    c->rest(NULL, 1000);
    assert(c->monotonic(NULL) >= before + 1000 && c->wall(NULL) > 1000000000u);

    assert(c->timer_read(NULL, timer) == -EAGAIN);
    assert(c->timer_set(NULL, timer, 0) == 0); /* rings at once, and is not disarmed */
    c->rest(NULL, 1000000);
    assert(c->timer_read(NULL, timer) == 0);
    assert(c->timer_set(NULL, timer, before + 3600000000000u) == 0 && c->timer_read(NULL, timer) == -EAGAIN);
    assert(c->timer_set(NULL, timer, TUDP_NEVER) == 0 && c->timer_set(NULL, -1, 1) == -EBADF);
    close(fd);
    close(timer);
}

/* Every call of the table fails in the one call that was chosen, and neither before nor after. */
static void a_fault_touches_the_calls_it_names(void)
{
    tudp_wire wire;
    tudp_faults f;
    tudp_sockaddr peer = ipv4(INADDR_LOOPBACK, 9);
    parcel p;
    int value = 1;
    socklen_t len = sizeof value;
    tudp_wire_init(&wire);
    tudp_faults_init(&f, &wire.table);
    const tudp_calls *c = &f.table;
    for (int kind = 0; kind < TUDP_CALL_COUNT; kind++) {
        for (int error = ENOBUFS; error >= 0; error -= ENOBUFS) {
            f.fault[kind] = (tudp_fault){.from = 2, .to = 3, .error = error};
            for (int number = 1; number <= 3; number++) {
                int got = 0;
                if (kind == TUDP_CALL_RECVMMSG) {
                    tudp_wire_push(&wire, (const uint8_t *)"x", 1, &peer, NULL);
                    got = c->recvmmsg(c->ctx, -1, pack(&p, &peer, NULL), 1, 0);
                } else if (kind == TUDP_CALL_SENDMMSG) {
                    got = c->sendmmsg(c->ctx, -1, pack(&p, &peer, "x"), 1, 0);
                } else if (kind == TUDP_CALL_SETSOCKOPT) {
                    got = c->setsockopt(c->ctx, -1, SOL_SOCKET, SO_TIMESTAMPNS, &value, sizeof value);
                } else if (kind == TUDP_CALL_GETSOCKOPT) {
                    got = c->getsockopt(c->ctx, -1, SOL_SOCKET, SO_TIMESTAMPNS, &value, &len);
                } else if (kind == TUDP_CALL_TIMER_SET) {
                    got = c->timer_set(c->ctx, -1, 5);
                } else {
                    got = c->timer_read(c->ctx, -1);
                }
                assert(number == 2 && error ? got == -error : got >= 0);
            }
        }
    }
    c->rest(c->ctx, 1); /* the wire has no rest */
    tudp_faults_init(&f, &tudp_system);
    uint64_t before = f.table.monotonic(f.table.ctx);
    f.table.rest(f.table.ctx, 1000);
    assert(f.table.monotonic(f.table.ctx) >= before + 1000 && f.table.wall(f.table.ctx) > 0);
    tudp_wire_clear(&wire);
}

static void short_batches_pass_on_only_so_many(void)
{
    tudp_wire wire;
    tudp_faults f;
    tudp_sockaddr peer = ipv4(INADDR_LOOPBACK, 9);
    parcel p[3];
    struct mmsghdr m[3];
    tudp_wire_init(&wire);
    tudp_faults_init(&f, &wire.table);
    for (int i = 0; i < 4; i++)
        tudp_wire_push(&wire, (const uint8_t *)"abc", 3, &peer, NULL);
    for (int i = 0; i < 3; i++)
        m[i] = *pack(&p[i], &peer, NULL);
    f.fault[TUDP_CALL_RECVMMSG] = (tudp_fault){.from = 1, .to = 3, .most = 2};
    f.fault[TUDP_CALL_SENDMMSG] = (tudp_fault){.from = 1, .to = 9, .most = 2};
    assert(f.table.recvmmsg(f.table.ctx, -1, m, 1, 0) == 1 && f.table.recvmmsg(f.table.ctx, -1, m, 3, 0) == 2);
    for (int i = 0; i < 3; i++)
        m[i] = *pack(&p[i], &peer, "x");
    assert(f.table.sendmmsg(f.table.ctx, -1, m, 3, 0) == 2 && f.table.sendmmsg(f.table.ctx, -1, m, 1, 0) == 1);
    tudp_wire_clear(&wire); /* with datagrams both ways */
    assert(!wire.in_bytes && !tudp_wire_pop(&wire));
}

static size_t put(uint8_t *at, int level, int type, const void *value, size_t len)
{
    struct cmsghdr *c = (struct cmsghdr *)at;
    *c = (struct cmsghdr){.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(len)};
    memcpy(CMSG_DATA(c), value, len);
    return CMSG_SPACE(len);
}

static void the_wire_takes_what_linux_takes(void)
{
    static uint8_t large[65508];
    tudp_wire w;
    tudp_sockaddr four = ipv4(INADDR_LOOPBACK, 9), to6 = six(1);
    parcel p;
    uint16_t segment = 4;
    struct in_pktinfo info4 = {.ipi_ifindex = 3, .ipi_spec_dst.s_addr = htonl(0x7f000002)};
    struct in6_pktinfo info6 = {.ipi6_ifindex = 5};
    tudp_wire_datagram *d;
    tudp_wire_init(&w);
    pack(&p, &four, "12345678");
    memset(p.control, 0, sizeof p.control);
    size_t used = put(p.control, IPPROTO_IP, IP_PKTINFO, &info4, sizeof info4);
    used += put(p.control + used, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
    used += put(p.control + used, SOL_SOCKET, SO_MARK, &segment, sizeof segment); /* nobody's */
    used += put(p.control + used, IPPROTO_IP, IP_TOS, &segment, sizeof segment);
    p.m.msg_hdr.msg_control = p.control;
    p.m.msg_hdr.msg_controllen = used;
    assert(w.table.sendmmsg(&w, -1, &p.m, 1, 0) == 1 && w.out_count == 2);
    for (int i = 0; i < 2; i++) {
        d = tudp_wire_pop(&w);
        assert(d->len == 4 && d->data[0] == (i ? '5' : '1') && d->local.family == AF_INET && d->local.ifindex == 3);
        free(d);
    }
    pack(&p, &to6, "");
    used = put(p.control, IPPROTO_UDP, 1, &segment, sizeof segment);
    used += put(p.control + used, IPPROTO_IPV6, IPV6_HOPLIMIT, &segment, sizeof segment);
    used += put(p.control + used, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof info6);
    p.m.msg_hdr.msg_control = p.control;
    p.m.msg_hdr.msg_controllen = used;
    p.m.msg_hdr.msg_namelen = 200; /* no longer than an address */
    assert(w.table.sendmmsg(&w, -1, &p.m, 1, 0) == 1);
    d = tudp_wire_pop(&w);
    assert(d->len == 0 && d->local.family == AF_INET6 && d->local.ifindex == 5 && d->peer.in6.sin6_addr.s6_addr[15] == 1);
    free(d);
    pack(&p, &four, "x");
    p.iov = (struct iovec){large, sizeof large};
    assert(w.table.sendmmsg(&w, -1, &p.m, 1, 0) == -EMSGSIZE);
    struct mmsghdr two[2] = {p.m, p.m};
    parcel first;
    two[0] = *pack(&first, &four, "ok");
    assert(w.table.sendmmsg(&w, -1, two, 2, 0) == 1); /* up to the one that fails */
    tudp_wire_clear(&w);
}

static void the_wire_tells_what_was_asked_for(void)
{
    tudp_wire w;
    tudp_sockaddr four = ipv4(INADDR_LOOPBACK, 9), from6 = six(7);
    tudp_local local = {.family = AF_INET, .ifindex = 2, .ip = {127, 0, 0, 5}}, local6 = {.family = AF_INET6};
    parcel p;
    int on = 1;
    uint8_t small = 1;
    uint32_t info[9];
    socklen_t len = sizeof info;
    tudp_wire_init(&w);
    w.wall = 7000000009u;
    assert(w.table.setsockopt(&w, -1, SOL_SOCKET, SO_ATTACH_FILTER, &on, sizeof on) == -ENOPROTOOPT);
    assert(w.table.setsockopt(&w, -1, SOL_SOCKET, SO_RCVBUF, &on, sizeof on) == 0 && !w.stamps);
    assert(w.table.setsockopt(&w, -1, IPPROTO_IP, IP_TTL, &on, sizeof on) == 0);
    assert(w.table.setsockopt(&w, -1, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0 && !w.pktinfo);
    assert(w.table.setsockopt(&w, -1, SOL_SOCKET, SO_TIMESTAMPNS, &small, 1) == 0 && !w.stamps);
    for (int round = 0; round < 6; round++) {
        /* nothing; stamps; stamps and address; an address of IPv6; no room for either; no address is known */
        if (round == 1)
            w.table.setsockopt(&w, -1, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        if (round == 2)
            w.table.setsockopt(&w, -1, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
        if (round == 3)
            w.table.setsockopt(&w, -1, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
        tudp_wire_push(&w, (const uint8_t *)"hello", 5, round == 3 ? &from6 : &four,
                       round == 5 ? NULL : round == 3 ? &local6 : &local);
        pack(&p, round == 3 ? &from6 : &four, NULL);
        p.m.msg_hdr.msg_control = p.control;
        p.m.msg_hdr.msg_controllen = round == 4 ? 8 : sizeof p.control;
        assert(w.table.recvmmsg(&w, -1, &p.m, 1, 0) == 1 && p.m.msg_len == 5);
        static const size_t parts[] = {0, CMSG_SPACE(16), CMSG_SPACE(16) + CMSG_SPACE(12), CMSG_SPACE(16) + CMSG_SPACE(20),
                                       0, CMSG_SPACE(16)};
        assert(p.m.msg_hdr.msg_controllen == parts[round]);
    }
    tudp_wire_push(&w, (const uint8_t *)"hello", 5, &four, NULL);
    tudp_wire_push(&w, (const uint8_t *)"hello", 5, &four, NULL);
    tudp_wire_push(&w, (const uint8_t *)"", 0, &from6, NULL);
    pack(&p, &four, NULL);
    p.iov.iov_len = 3; /* too little: cut, and said so */
    p.m.msg_hdr.msg_name = NULL;
    assert(w.table.recvmmsg(&w, -1, &p.m, 1, 0) == 1 && p.m.msg_len == 3 && p.m.msg_hdr.msg_flags == MSG_TRUNC);
    assert(w.table.recvmmsg(&w, -1, &p.m, 1, MSG_TRUNC) == 1 && p.m.msg_len == 5);
    pack(&p, &four, NULL); /* no room for an address of IPv6 */
    assert(w.table.recvmmsg(&w, -1, &p.m, 1, 0) == 1 && p.m.msg_len == 0 && p.peer.sa.sa_family == AF_INET);
    assert(w.table.recvmmsg(&w, -1, &p.m, 1, 0) == -EAGAIN);

    w.in_limit = 1700;
    assert(tudp_wire_push(&w, (const uint8_t *)"1", 1, &four, NULL) == 0);
    assert(tudp_wire_push(&w, (const uint8_t *)"2", 1, &four, NULL) == 0);
    assert(tudp_wire_push(&w, (const uint8_t *)"3", 1, &four, NULL) == 1);
    assert(w.table.getsockopt(&w, -1, SOL_SOCKET, SO_MEMINFO, info, &len) == 0);
    assert(info[0] == 1664 && info[1] == 1700 && info[8] == 1);
    len = 4;
    info[0] = 1;
    assert(w.table.getsockopt(&w, -1, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 && !info[0]);
    assert(w.table.getsockopt(&w, -1, SOL_SOCKET, SO_RCVBUF, info, &len) == 0);
    assert(w.table.getsockopt(&w, -1, IPPROTO_IP, SO_MEMINFO, info, &len) == 0);

    assert(w.table.timer_set(&w, -1, 77) == 0 && w.deadline == 77);
    assert(w.table.timer_read(&w, -1) == 0 && w.deadline == TUDP_NEVER);
    w.now = 3;
    assert(w.table.monotonic(&w) == 3 && w.table.wall(&w) == w.wall);
    w.real_clock = 1;
    assert(w.table.monotonic(&w) > 3 && w.table.wall(&w) > w.wall);
    tudp_wire_clear(&w);
}

static void without_memory_the_wire_says_so_and_loses_nothing_else(void)
{
    tudp_wire w;
    tudp_sockaddr four = ipv4(INADDR_LOOPBACK, 9);
    parcel p;
    tudp_wire_init(&w);
    refuse("memory", 1, ENOMEM);
    assert(tudp_wire_push(&w, (const uint8_t *)"1", 1, &four, NULL) == -ENOMEM && refused() && !w.in_bytes);
    for (unsigned n = 1; n <= 2; n++) {
        pack(&p, &four, "x");
        refuse("memory", n, ENOMEM);
        assert(w.table.sendmmsg(&w, -1, &p.m, 1, 0) == -ENOMEM && refused() && !w.out_count);
    }
    assert(w.table.sendmmsg(&w, -1, &p.m, 1, 0) == 1 && w.out_count == 1);
    tudp_wire_clear(&w);
}

int main(void)
{
    the_system_says_what_failed();
    a_fault_touches_the_calls_it_names();
    short_batches_pass_on_only_so_many();
    the_wire_takes_what_linux_takes();
    the_wire_tells_what_was_asked_for();
    without_memory_the_wire_says_so_and_loses_nothing_else();
    puts("calls: ok");
    return 0;
}
