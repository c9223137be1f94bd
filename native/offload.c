/* offload.c: replies leave together. Those to one destination and of one size
 * become one UDP_SEGMENT message; what the kernel refuses is classified: one
 * message lost and counted, or kept and tried again, never a closed socket. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "batch.h"

#include <errno.h>
#include <netinet/udp.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define OUT_MSGS 128u
#define INDEX_MASK (TUDP_OUTS * 4u - 1u)
#define GROUP_BYTES 65000u /* of one message with segments, headers beside */

static inline int same_place(const tudp_out *a, const tudp_out *b)
{
    if (a->to.sa.sa_family != b->to.sa.sa_family)
        return 0;
    if (a->to.sa.sa_family == AF_INET) {
        if (a->to.in4.sin_port != b->to.in4.sin_port || a->to.in4.sin_addr.s_addr != b->to.in4.sin_addr.s_addr)
            return 0;
    } else if (memcmp(&a->to.in6, &b->to.in6, sizeof a->to.in6)) {
        return 0;
    }
    if (!a->local.family && !b->local.family)
        return 1;
    return memcmp(&a->local, &b->local, sizeof a->local) == 0;
}

static inline uint32_t place_of(const tudp_out *o)
{
    uint64_t h;
    if (o->to.sa.sa_family == AF_INET) {
        h = ((uint64_t)o->to.in4.sin_addr.s_addr << 16) ^ o->to.in4.sin_port;
    } else {
        uint64_t a, c;
        memcpy(&a, o->to.in6.sin6_addr.s6_addr, 8);
        memcpy(&c, o->to.in6.sin6_addr.s6_addr + 8, 8);
        h = a ^ (c * 0x9e3779b97f4a7c15u) ^ o->to.in6.sin6_port;
    }
    h *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 40) & INDEX_MASK;
}

static tudp_group *new_group(tudp_batch *b, uint32_t number, uint32_t size)
{
    tudp_group *g = &b->groups[b->groups_count++];
    g->first = g->last = number;
    g->count = 1;
    g->segment = g->bytes = size;
    g->open = size > 0 && size <= b->gso_most;
    g->place = UINT16_MAX;
    b->outs[number].next = 0;
    return g;
}

/* Order to one client is kept: a group is joined only while it is the newest of
 * its destination, and closed by a shorter member. */
static void group_all(tudp_batch *b)
{
    uint32_t i, k;
    b->groups_count = 0;
    for (i = 0; i < b->outs_count; i++) {
        tudp_out *o = &b->outs[i];
        uint32_t size = o->len + o->tail_len;
        tudp_group *g = NULL;
        if (b->gso && b->outs_count > 1) {
            uint32_t place = place_of(o), found;
            while ((found = b->index[place]) && !same_place(&b->outs[b->groups[found - 1].first], o))
                place = (place + 1) & INDEX_MASK;
            g = found ? &b->groups[found - 1] : NULL;
            if (g && g->open && size && size <= g->segment && g->count < TUDP_SEGMENTS &&
                g->bytes + size <= GROUP_BYTES) {
                b->outs[g->last].next = i + 1;
                o->next = 0;
                g->last = i;
                g->count++;
                g->bytes += size;
                g->open = size == g->segment;
                continue;
            }
            g = new_group(b, i, size);
            g->place = (uint16_t)place;
            b->index[place] = (uint16_t)b->groups_count;
        } else {
            new_group(b, i, size);
        }
    }
    for (k = 0; k < b->groups_count; k++)
        if (b->groups[k].place != UINT16_MAX)
            b->index[b->groups[k].place] = 0;
}

/* ---- building messages ---- */

static size_t put_local(uint8_t *control, const tudp_local *local)
{
    struct cmsghdr *c = (struct cmsghdr *)control;
    if (local->family == AF_INET) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, local->ip, 4);
        c->cmsg_level = IPPROTO_IP;
        c->cmsg_type = IP_PKTINFO;
        c->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(c), &info, sizeof info);
        return CMSG_SPACE(sizeof info);
    }
    if (local->family == AF_INET6) {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, local->ip, 16);
        if (local->ip[0] == 0xfe) /* link-local means nothing without its interface */
            info.ipi6_ifindex = local->ifindex;
        c->cmsg_level = IPPROTO_IPV6;
        c->cmsg_type = IPV6_PKTINFO;
        c->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(c), &info, sizeof info);
        return CMSG_SPACE(sizeof info);
    }
    return 0;
}

static size_t put_segment(uint8_t *control, uint16_t segment)
{
    struct cmsghdr *c = (struct cmsghdr *)control;
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
    return CMSG_SPACE(sizeof segment);
}

/* Returns the number of iovecs written for one out, joined to the one before
 * where the arena is contiguous (`joins`). */
static uint32_t put_out(const tudp_batch *b, const tudp_out *o, struct iovec *iov, uint32_t used)
{
    uint8_t *start = b->arena + o->at;
    if (o->len || !o->tail) {
        if (used && (uint8_t *)iov[used - 1].iov_base + iov[used - 1].iov_len == start) {
            iov[used - 1].iov_len += o->len;
        } else {
            iov[used].iov_base = start;
            iov[used].iov_len = o->len;
            used++;
        }
    }
    if (o->tail) {
        iov[used].iov_base = (void *)o->tail;
        iov[used].iov_len = o->tail_len;
        used++;
    }
    return used;
}

static socklen_t name_len(const tudp_sockaddr *to)
{
    return to->sa.sa_family == AF_INET6 ? sizeof to->in6 : sizeof to->in4;
}

static void head(tudp_batch *b, uint32_t at, const tudp_out *o, struct iovec *iov, uint32_t segment)
{
    struct msghdr *h = &b->out_msgs[at].msg_hdr;
    uint8_t *control = b->out_control + at * TUDP_CONTROL;
    size_t used = o->local.family ? put_local(control, &o->local) : 0;
    if (segment)
        used += put_segment(control + used, (uint16_t)segment);
    h->msg_name = (void *)&o->to;
    h->msg_namelen = name_len(&o->to);
    h->msg_iov = iov;
    h->msg_control = used ? control : NULL;
    h->msg_controllen = used;
    h->msg_flags = 0;
}

/* ---- sending ---- */

static int is_later(int error)
{
    return error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM; /* EWOULDBLOCK is EAGAIN here */
}

static void count_sent(tudp_batch *b, uint32_t messages, uint32_t bytes)
{
    b->turn.counters[TUDP_SENT] += messages;
    b->turn.counters[TUDP_BYTES_OUT] += bytes;
}

static void count_refused(tudp_batch *b, uint32_t messages, int error)
{
    b->turn.counters[TUDP_SEND_REFUSED] += messages;
    if (-error > 0 && -error < (int)(sizeof b->refused_by / sizeof b->refused_by[0]))
        b->refused_by[-error] += messages;
}

/* Keep one datagram until the kernel takes it. The ring of bytes is filled in
 * order, so that its free part is one or two runs. */
static void keep(tudp_batch *b, const tudp_out *o)
{
    uint32_t len = o->len + o->tail_len, at = b->waiting_at, skip = 0;
    tudp_waiting *w;
    if (len > TUDP_WAITING_BYTES - at) {
        skip = TUDP_WAITING_BYTES - at; /* the run at the end is too short */
        at = 0;
    }
    if (b->waiting_count == TUDP_WAITING || len + skip > TUDP_WAITING_BYTES - b->waiting_used) {
        b->turn.counters[TUDP_SEND_DROPPED_FULL]++;
        return;
    }
    w = &b->waiting[(b->waiting_head + b->waiting_count++) % TUDP_WAITING];
    w->since = b->turn.now;
    w->at = at;
    w->len = len;
    w->to = o->to;
    w->local = o->local;
    memcpy(b->waiting_bytes + at, b->arena + o->at, o->len);
    if (o->tail_len)
        memcpy(b->waiting_bytes + at + o->len, o->tail, o->tail_len);
    b->waiting_at = at + len;
    b->waiting_used += len + skip;
}

static void keep_group(tudp_batch *b, const tudp_group *g)
{
    uint32_t i = g->first + 1;
    while (i) {
        keep(b, &b->outs[i - 1]);
        i = b->outs[i - 1].next;
    }
}

static void forget_oldest(tudp_batch *b)
{
    tudp_waiting *w = &b->waiting[b->waiting_head];
    b->waiting_head = (b->waiting_head + 1) % TUDP_WAITING;
    if (--b->waiting_count == 0) {
        b->waiting_at = b->waiting_used = 0;
        return;
    }
    /* up to the start of the next: its own bytes and what was skipped */
    {
        uint32_t next = b->waiting[b->waiting_head].at;
        b->waiting_used -= next >= w->at + w->len ? next - w->at : TUDP_WAITING_BYTES - w->at + next;
    }
}

int tudp_offload_retry(tudp_batch *b)
{
    while (b->waiting_count) {
        tudp_waiting *w = &b->waiting[b->waiting_head];
        struct iovec iov = {b->waiting_bytes + w->at, w->len};
        struct mmsghdr m;
        size_t used;
        int r;
        if (b->turn.now - w->since > TUDP_WAITING_AGE) {
            b->turn.counters[TUDP_SEND_REFUSED_LATE]++;
            forget_oldest(b);
            continue;
        }
        memset(&m, 0, sizeof m);
        used = w->local.family ? put_local(b->out_control, &w->local) : 0;
        m.msg_hdr.msg_name = &w->to;
        m.msg_hdr.msg_namelen = name_len(&w->to);
        m.msg_hdr.msg_iov = &iov;
        m.msg_hdr.msg_iovlen = 1;
        m.msg_hdr.msg_control = used ? b->out_control : NULL;
        m.msg_hdr.msg_controllen = used;
        b->turn.counters[TUDP_SEND_CALLS]++;
        r = b->calls->sendmmsg(b->calls->ctx, b->fd, &m, 1, MSG_DONTWAIT);
        if (r == -EINTR)
            continue;
        if (r < 0 && is_later(r))
            break;
        if (r < 0)
            count_refused(b, 1, r);
        else
            count_sent(b, 1, w->len);
        forget_oldest(b);
    }
    return (int)b->waiting_count;
}

/* One by one: after the kernel or the device refused a message with segments. */
static void send_singly(tudp_batch *b, const tudp_group *g)
{
    uint32_t i = g->first + 1;
    while (i) {
        const tudp_out *o = &b->outs[i - 1];
        struct iovec iov[2];
        uint32_t used = put_out(b, o, iov, 0);
        int r;
        head(b, 0, o, iov, 0);
        b->out_msgs[0].msg_hdr.msg_iovlen = used;
        i = o->next;
        if (b->waiting_count) {
            keep(b, o);
            continue;
        }
        do {
            b->turn.counters[TUDP_SEND_CALLS]++;
            r = b->calls->sendmmsg(b->calls->ctx, b->fd, b->out_msgs, 1, MSG_DONTWAIT);
        } while (r == -EINTR);
        if (r < 0 && is_later(r))
            keep(b, o);
        else if (r < 0)
            count_refused(b, 1, r);
        else
            count_sent(b, 1, o->len + o->tail_len);
    }
}

static int is_refused_offload(int error) { return error == -EINVAL || error == -EMSGSIZE || error == -EIO; }

/* What the kernel would not take as segments is not offered again: from this
 * size on (the path is narrower), or at all (the device cannot). */
static void fall_back(tudp_batch *b, const tudp_group *g, int error)
{
    b->turn.counters[TUDP_GSO_FALLBACKS]++;
    if (error == -EIO || g->segment <= 64)
        b->gso = 0;
    else if (g->segment <= b->gso_most)
        b->gso_most = g->segment - 1;
    send_singly(b, g);
}

/* Build messages for groups [from, to) and return how many iovecs they took. */
static void build(tudp_batch *b, uint32_t from, uint32_t to)
{
    struct iovec *iov = b->out_iov;
    uint32_t k;
    for (k = from; k < to; k++) {
        const tudp_group *g = &b->groups[k];
        uint32_t used = 0, i = g->first + 1;
        while (i) {
            used = put_out(b, &b->outs[i - 1], iov, used);
            i = b->outs[i - 1].next;
        }
        head(b, k - from, &b->outs[g->first], iov, g->count > 1 ? g->segment : 0);
        b->out_msgs[k - from].msg_hdr.msg_iovlen = used;
        iov += used;
    }
}

/* Send groups [from, to); returns how many are finished: all, or up to one that
 * had to be sent singly. */
static uint32_t send_some(tudp_batch *b, uint32_t from, uint32_t to)
{
    uint32_t done = 0, n = to - from, k;
    build(b, from, to);
    while (done < n) {
        const tudp_group *g = &b->groups[from + done];
        int r = b->calls->sendmmsg(b->calls->ctx, b->fd, b->out_msgs + done, n - done, MSG_DONTWAIT);
        b->turn.counters[TUDP_SEND_CALLS]++;
        if (r > 0) {
            for (k = 0; k < (uint32_t)r; k++, g++) {
                count_sent(b, g->count, g->bytes);
                b->turn.counters[TUDP_GSO_GROUPS] += g->count > 1;
            }
            done += (uint32_t)r;
        } else if (r == -EINTR) {
            continue;
        } else if (r == 0 || is_later(r)) {
            for (; done < n; done++)
                keep_group(b, &b->groups[from + done]);
        } else if (g->count > 1 && is_refused_offload(r)) {
            fall_back(b, g, r);
            return done + 1; /* send_singly used the message array */
        } else {
            count_refused(b, g->count, r);
            done++;
            if (r == -EBADF || r == -ENOTSOCK)
                b->fatal = r;
        }
    }
    return done;
}

int tudp_offload_send(tudp_batch *b)
{
    uint32_t k = 0;
    b->fatal = 0;
    if (b->waiting_count)
        tudp_offload_retry(b);
    if (b->outs_count)
        group_all(b);
    while (b->outs_count && k < b->groups_count) {
        if (b->waiting_count) /* nothing overtakes what waits */
            keep_group(b, &b->groups[k++]);
        else
            k += send_some(b, k, b->groups_count - k > OUT_MSGS ? k + OUT_MSGS : b->groups_count);
    }
    b->outs_count = 0;
    b->arena_used = 0;
    return b->fatal ? b->fatal : (int)b->waiting_count;
}
