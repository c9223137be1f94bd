#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "calls.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/timerfd.h>
#include <time.h>
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

/* ---- the operating system ---- */

static int sys_recvmmsg(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    int r = recvmmsg(fd, msgs, n, flags, NULL);
    return r < 0 ? -errno : r;
}

static int sys_sendmmsg(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    int r;
    if (n == 1) { /* about 1 % cheaper than a sendmmsg of one */
        ssize_t sent = sendmsg(fd, &msgs->msg_hdr, flags);
        if (sent < 0)
            return -errno;
        msgs->msg_len = (unsigned)sent;
        return 1;
    }
    r = sendmmsg(fd, msgs, n, flags);
    return r < 0 ? -errno : r;
}

static int sys_setsockopt(void *ctx, int fd, int level, int name, const void *value, socklen_t len)
{
    return setsockopt(fd, level, name, value, len) < 0 ? -errno : 0;
}

static int sys_getsockopt(void *ctx, int fd, int level, int name, void *value, socklen_t *len)
{
    return getsockopt(fd, level, name, value, len) < 0 ? -errno : 0;
}

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t sys_monotonic(void *ctx) { return read_clock(CLOCK_MONOTONIC); }
static uint64_t sys_wall(void *ctx) { return read_clock(CLOCK_REALTIME); }

static int sys_timer_set(void *ctx, int fd, uint64_t deadline)
{
    struct itimerspec spec = {{0, 0}, {0, 0}};
    if (deadline != TUDP_NEVER) {
        if (deadline == 0)
            deadline = 1; /* zero would disarm */
        spec.it_value.tv_sec = (time_t)(deadline / 1000000000u);
        spec.it_value.tv_nsec = (long)(deadline % 1000000000u);
    }
    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0 ? -errno : 0;
}

static int sys_timer_read(void *ctx, int fd)
{
    uint64_t times;
    return read(fd, &times, sizeof times) < 0 ? -errno : 0;
}

/* The kernel rounds up what a thread waits, by 50 us as a rule: that is taken off for this one time. */
static void sys_rest(void *ctx, uint32_t ns)
{
    struct timespec t = {0, (long)ns};
#ifdef PR_SET_TIMERSLACK
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
#endif
    nanosleep(&t, NULL);
#ifdef PR_SET_TIMERSLACK
    prctl(PR_SET_TIMERSLACK, 0ul, 0ul, 0ul, 0ul); /* as it was when the thread began */
#endif
}

const tudp_calls tudp_system = {
    NULL,       sys_recvmmsg, sys_sendmmsg,  sys_setsockopt, sys_getsockopt,
    sys_monotonic, sys_wall,  sys_timer_set, sys_timer_read, sys_rest,
};

/* ---- failing calls ---- */

/* True when the call of kind `k` that begins now is touched. */
static int touched(tudp_faults *f, int k)
{
    tudp_fault *fault = &f->fault[k];
    uint64_t number = ++fault->calls;
    return number >= fault->from && number < fault->to;
}

static int faulty_recvmmsg(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    tudp_faults *f = ctx;
    if (touched(f, TUDP_CALL_RECVMMSG)) {
        tudp_fault *fault = &f->fault[TUDP_CALL_RECVMMSG];
        if (fault->error)
            return -fault->error;
        if (fault->most > 0 && n > (unsigned)fault->most)
            n = (unsigned)fault->most;
    }
    return f->inner->recvmmsg(f->inner->ctx, fd, msgs, n, flags);
}

static int faulty_sendmmsg(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    tudp_faults *f = ctx;
    if (touched(f, TUDP_CALL_SENDMMSG)) {
        tudp_fault *fault = &f->fault[TUDP_CALL_SENDMMSG];
        if (fault->error)
            return -fault->error;
        if (fault->most > 0 && n > (unsigned)fault->most)
            n = (unsigned)fault->most;
    }
    return f->inner->sendmmsg(f->inner->ctx, fd, msgs, n, flags);
}

static int faulty_setsockopt(void *ctx, int fd, int level, int name, const void *value, socklen_t len)
{
    tudp_faults *f = ctx;
    if (touched(f, TUDP_CALL_SETSOCKOPT) && f->fault[TUDP_CALL_SETSOCKOPT].error)
        return -f->fault[TUDP_CALL_SETSOCKOPT].error;
    return f->inner->setsockopt(f->inner->ctx, fd, level, name, value, len);
}

static int faulty_getsockopt(void *ctx, int fd, int level, int name, void *value, socklen_t *len)
{
    tudp_faults *f = ctx;
    if (touched(f, TUDP_CALL_GETSOCKOPT) && f->fault[TUDP_CALL_GETSOCKOPT].error)
        return -f->fault[TUDP_CALL_GETSOCKOPT].error;
    return f->inner->getsockopt(f->inner->ctx, fd, level, name, value, len);
}

static int faulty_timer_set(void *ctx, int fd, uint64_t deadline)
{
    tudp_faults *f = ctx;
    if (touched(f, TUDP_CALL_TIMER_SET) && f->fault[TUDP_CALL_TIMER_SET].error)
        return -f->fault[TUDP_CALL_TIMER_SET].error;
    return f->inner->timer_set(f->inner->ctx, fd, deadline);
}

static int faulty_timer_read(void *ctx, int fd)
{
    tudp_faults *f = ctx;
    if (touched(f, TUDP_CALL_TIMER_READ) && f->fault[TUDP_CALL_TIMER_READ].error)
        return -f->fault[TUDP_CALL_TIMER_READ].error;
    return f->inner->timer_read(f->inner->ctx, fd);
}

static uint64_t faulty_monotonic(void *ctx)
{
    const tudp_calls *inner = ((tudp_faults *)ctx)->inner;
    return inner->monotonic(inner->ctx);
}

static uint64_t faulty_wall(void *ctx)
{
    const tudp_calls *inner = ((tudp_faults *)ctx)->inner;
    return inner->wall(inner->ctx);
}

static void faulty_rest(void *ctx, uint32_t ns)
{
    const tudp_calls *inner = ((tudp_faults *)ctx)->inner;
    if (inner->rest)
        inner->rest(inner->ctx, ns);
}

void tudp_faults_init(tudp_faults *f, const tudp_calls *inner)
{
    memset(f, 0, sizeof *f);
    f->inner = inner;
    f->table = (tudp_calls){
        f,               faulty_recvmmsg, faulty_sendmmsg,  faulty_setsockopt, faulty_getsockopt,
        faulty_monotonic, faulty_wall,    faulty_timer_set, faulty_timer_read, faulty_rest,
    };
}

/* ---- a socket made of memory ---- */

uint32_t tudp_wire_charge(uint32_t len)
{
    /* skb bookkeeping plus the next power of two that holds headers and data;
     * matches the table of measured charges for 0..4,000 bytes. */
    uint32_t room = 512;
    while (room < len + 384)
        room *= 2;
    return room + 256 + (room == 512 ? 64 : 0);
}

static void take_control(const struct msghdr *h, tudp_local *local, uint16_t *segment)
{
    struct cmsghdr *c;
    memset(local, 0, sizeof *local);
    *segment = 0;
    for (c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR((struct msghdr *)h, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT) {
            memcpy(segment, CMSG_DATA(c), sizeof *segment);
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            local->family = AF_INET;
            local->ifindex = (uint32_t)info.ipi_ifindex;
            memcpy(local->ip, &info.ipi_spec_dst, 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            local->family = AF_INET6;
            local->ifindex = info.ipi6_ifindex;
            memcpy(local->ip, &info.ipi6_addr, 16);
        }
    }
}

static int wire_sent(tudp_wire *w, const struct msghdr *h)
{
    size_t total = 0, done = 0, i;
    uint8_t *flat;
    tudp_local local;
    uint16_t segment;
    int status = 0;
    take_control(h, &local, &segment);
    for (i = 0; i < h->msg_iovlen; i++)
        total += h->msg_iov[i].iov_len;
    if (total > 65507)
        return -EMSGSIZE;
    flat = malloc(total ? total : 1);
    if (!flat)
        return -ENOMEM;
    for (i = 0; i < h->msg_iovlen; i++) {
        memcpy(flat + done, h->msg_iov[i].iov_base, h->msg_iov[i].iov_len);
        done += h->msg_iov[i].iov_len;
    }
    done = 0;
    do {
        size_t part = segment && total - done > segment ? segment : total - done;
        tudp_wire_datagram *d = malloc(sizeof *d + part);
        if (!d) {
            status = -ENOMEM;
            break;
        }
        memset(d, 0, sizeof *d);
        memcpy(&d->peer, h->msg_name, h->msg_namelen < sizeof d->peer ? h->msg_namelen : sizeof d->peer);
        d->local = local;
        d->len = (uint32_t)part;
        memcpy(d->data, flat + done, part);
        *w->out_tail = d;
        w->out_tail = &d->next;
        w->out_count++;
        done += part;
    } while (done < total);
    free(flat);
    return status;
}

static int wire_sendmmsg(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    unsigned i;
    for (i = 0; i < n; i++) {
        int status = wire_sent(ctx, &msgs[i].msg_hdr);
        if (status < 0)
            return i ? (int)i : status;
    }
    return (int)n;
}

static size_t put_control(struct msghdr *h, int level, int type, const void *value, size_t len, size_t at)
{
    struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)h->msg_control + at);
    if (h->msg_controllen < at + CMSG_SPACE(len))
        return at;
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), value, len);
    return at + CMSG_SPACE(len);
}

static void give_control(tudp_wire *w, struct msghdr *h, const tudp_wire_datagram *d)
{
    size_t at = 0;
    if (!h->msg_control)
        return;
    if (w->pktinfo && d->local.family == AF_INET) {
        struct in_pktinfo info = {.ipi_ifindex = (int)d->local.ifindex};
        memcpy(&info.ipi_addr, d->local.ip, 4);
        memcpy(&info.ipi_spec_dst, d->local.ip, 4);
        at = put_control(h, IPPROTO_IP, IP_PKTINFO, &info, sizeof info, at);
    } else if (w->pktinfo && d->local.family == AF_INET6) {
        struct in6_pktinfo info = {.ipi6_ifindex = d->local.ifindex};
        memcpy(&info.ipi6_addr, d->local.ip, 16);
        at = put_control(h, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info, at);
    }
    if (w->stamps) {
        struct timespec t = {(time_t)(d->stamp / 1000000000u), (long)(d->stamp % 1000000000u)};
        at = put_control(h, SOL_SOCKET, SO_TIMESTAMPNS, &t, sizeof t, at);
    }
    h->msg_controllen = at;
}

static int wire_recvmmsg(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    tudp_wire *w = ctx;
    unsigned i;
    for (i = 0; i < n && w->in_head; i++) {
        tudp_wire_datagram *d = w->in_head;
        struct msghdr *h = &msgs[i].msg_hdr;
        uint32_t room = (uint32_t)h->msg_iov[0].iov_len;
        socklen_t len = d->peer.sa.sa_family == AF_INET6 ? sizeof d->peer.in6 : sizeof d->peer.in4;
        memcpy(h->msg_iov[0].iov_base, d->data, d->len < room ? d->len : room);
        msgs[i].msg_len = (flags & MSG_TRUNC) ? d->len : d->len < room ? d->len : room;
        h->msg_flags = d->len > room ? MSG_TRUNC : 0;
        if (h->msg_name && h->msg_namelen >= len) {
            memcpy(h->msg_name, &d->peer, len);
            h->msg_namelen = len;
        }
        give_control(w, h, d);
        w->in_bytes -= tudp_wire_charge(d->len);
        w->in_head = d->next;
        if (!w->in_head)
            w->in_tail = &w->in_head;
        free(d);
    }
    return i ? (int)i : -EAGAIN;
}

static int wire_setsockopt(void *ctx, int fd, int level, int name, const void *value, socklen_t len)
{
    tudp_wire *w = ctx;
    int on = 0;
    if (level == SOL_SOCKET && name == SO_ATTACH_FILTER)
        return -ENOPROTOOPT;
    if (len >= sizeof on)
        memcpy(&on, value, sizeof on);
    if ((level == IPPROTO_IP && name == IP_PKTINFO) || (level == IPPROTO_IPV6 && name == IPV6_RECVPKTINFO))
        w->pktinfo = on;
    else if (level == SOL_SOCKET && name == SO_TIMESTAMPNS)
        w->stamps = on;
    return 0;
}

static int wire_getsockopt(void *ctx, int fd, int level, int name, void *value, socklen_t *len)
{
    tudp_wire *w = ctx;
    uint32_t info[9] = {0};
    if (level == SOL_SOCKET && name == SO_MEMINFO && *len >= sizeof info) {
        info[0] = (uint32_t)w->in_bytes;
        info[1] = (uint32_t)w->in_limit;
        info[8] = w->drops;
        memcpy(value, info, sizeof info);
        *len = sizeof info;
        return 0;
    }
    memset(value, 0, *len);
    return 0;
}

static uint64_t wire_monotonic(void *ctx)
{
    tudp_wire *w = ctx;
    return w->real_clock ? sys_monotonic(NULL) : w->now;
}

static uint64_t wire_wall(void *ctx)
{
    tudp_wire *w = ctx;
    return w->real_clock ? sys_wall(NULL) : w->wall;
}

static int wire_timer_set(void *ctx, int fd, uint64_t deadline)
{
    ((tudp_wire *)ctx)->deadline = deadline;
    return 0;
}

static int wire_timer_read(void *ctx, int fd)
{
    ((tudp_wire *)ctx)->deadline = TUDP_NEVER; /* it rings once */
    return 0;
}

void tudp_wire_init(tudp_wire *w)
{
    memset(w, 0, sizeof *w);
    w->table = (tudp_calls){
        w,              wire_recvmmsg, wire_sendmmsg,  wire_setsockopt, wire_getsockopt,
        wire_monotonic, wire_wall,     wire_timer_set, wire_timer_read, NULL,
    };
    w->deadline = TUDP_NEVER;
    w->in_tail = &w->in_head;
    w->out_tail = &w->out_head;
}

int tudp_wire_push(tudp_wire *w, const uint8_t *data, uint32_t len, const tudp_sockaddr *from,
                   const tudp_local *local)
{
    tudp_wire_datagram *d;
    uint32_t charge = tudp_wire_charge(len);
    if (w->in_limit && w->in_bytes + charge > w->in_limit) {
        w->drops++;
        return 1;
    }
    d = malloc(sizeof *d + len);
    if (!d)
        return -ENOMEM;
    memset(d, 0, sizeof *d);
    d->peer = *from;
    if (local)
        d->local = *local;
    d->stamp = w->wall;
    d->len = len;
    if (len)
        memcpy(d->data, data, len);
    w->in_bytes += charge;
    *w->in_tail = d;
    w->in_tail = &d->next;
    return 0;
}

tudp_wire_datagram *tudp_wire_pop(tudp_wire *w)
{
    tudp_wire_datagram *d = w->out_head;
    if (!d)
        return NULL;
    w->out_head = d->next;
    if (!w->out_head)
        w->out_tail = &w->out_head;
    w->out_count--;
    return d;
}

void tudp_wire_clear(tudp_wire *w)
{
    tudp_wire_datagram *d;
    while ((d = w->in_head)) {
        w->in_head = d->next;
        free(d);
    }
    w->in_tail = &w->in_head;
    w->in_bytes = 0;
    while ((d = tudp_wire_pop(w)))
        free(d);
}
