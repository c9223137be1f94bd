#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "batch.h"

#include <errno.h>
#include <stdint.h>
#include <time.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define ALIGN(n, to) (((size_t)(n) + (size_t)(to) - 1) / (to) * (to))
/* Slots do not begin at the same cache set. */
#define SLOT_STRIDE(room) (ALIGN(room, 4096) + 4096 + 192)
#define OUT_MSGS 128u

/* Numbers batches over all endpoints, so that none is taken for one of another. */
static uint64_t batches;

/* ---- laying out ---- */

size_t tudp_shared_size(uint32_t slot_room)
{
    return ALIGN(sizeof(tudp_shared), 4096) + (size_t)TUDP_BATCH * SLOT_STRIDE(slot_room);
}

size_t tudp_batch_size(uint32_t slot_room, uint32_t scratch_room)
{
    size_t n = ALIGN(sizeof(tudp_batch), 64);
    n += ALIGN(tudp_shared_size(slot_room), 4096);
    n += ALIGN(TUDP_BATCH * sizeof(struct mmsghdr), 64) + ALIGN(TUDP_BATCH * sizeof(struct iovec), 64);
    n += ALIGN(TUDP_BATCH * (TUDP_CONTROL + sizeof(tudp_sockaddr)), 64);
    n += ALIGN((size_t)TUDP_BATCH * ALIGN(scratch_room, 64), 64);
    n += ALIGN(TUDP_OUTS * sizeof(tudp_out), 64) + ALIGN(TUDP_OUTS * sizeof(tudp_group), 64);
    n += ALIGN(TUDP_OUTS * 4 * sizeof(uint16_t), 64);
    n += ALIGN(OUT_MSGS * sizeof(struct mmsghdr), 64) + ALIGN(2 * TUDP_OUTS * sizeof(struct iovec), 64);
    n += OUT_MSGS * TUDP_CONTROL;
    n += ALIGN(TUDP_WAITING * sizeof(tudp_waiting), 64) + TUDP_WAITING_BYTES;
    n += TUDP_ARENA + 2 * 4096;
    return ALIGN(n, 4096);
}

static void *carve(uint8_t **at, size_t bytes)
{
    void *p = *at;
    *at += ALIGN(bytes, 64);
    return p;
}

static uint8_t *op_room(tudp_turn *turn, uint32_t most);
static int op_send(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to,
                   const tudp_local *local);
static void op_drain(tudp_turn *turn);
static void op_strangers(tudp_turn *turn, uint16_t mask, uint16_t value);
static const tudp_ops ops = {op_room, op_send, op_drain, op_strangers};

tudp_batch *tudp_batch_init(void *memory, tudp_shared *shared, const tudp_calls *calls, int fd, int family,
                            uint32_t slot_room, uint32_t scratch_room)
{
    uint8_t *at = memory, *scratch;
    tudp_batch *b = carve(&at, sizeof *b);
    uint8_t *own = carve(&at, tudp_shared_size(slot_room));
    uint32_t i;
    size_t per_slot = ALIGN(scratch_room, 64);
    b->shared = shared ? shared : (tudp_shared *)own;
    b->in_msgs = carve(&at, TUDP_BATCH * sizeof *b->in_msgs);
    b->in_iov = carve(&at, TUDP_BATCH * sizeof *b->in_iov);
    b->in_control = carve(&at, TUDP_BATCH * (TUDP_CONTROL + sizeof(tudp_sockaddr)));
    scratch = carve(&at, TUDP_BATCH * per_slot);
    b->outs = carve(&at, TUDP_OUTS * sizeof *b->outs);
    b->groups = carve(&at, TUDP_OUTS * sizeof *b->groups);
    b->index = carve(&at, TUDP_OUTS * 4 * sizeof *b->index);
    b->out_msgs = carve(&at, OUT_MSGS * sizeof *b->out_msgs);
    b->out_iov = carve(&at, 2 * TUDP_OUTS * sizeof *b->out_iov);
    b->out_control = carve(&at, OUT_MSGS * TUDP_CONTROL);
    b->waiting = carve(&at, TUDP_WAITING * sizeof *b->waiting);
    b->waiting_bytes = carve(&at, TUDP_WAITING_BYTES);
    b->arena = carve(&at, TUDP_ARENA);

    b->calls = calls;
    b->fd = fd;
    b->family = family;
    b->slot_room = slot_room;
    b->scratch_room = (uint32_t)per_slot;
    b->limit = TUDP_BATCH;
    b->age_limit = TUDP_AGE_LIMIT;
    b->gso = 1;
    b->gso_most = TUDP_LARGEST;
    b->turn.abi = TUDP_ABI;
    b->turn.counters = b->shared->counters;
    b->turn.endpoint = b;
    b->turn.ops = &ops;
    b->shared->abi = TUDP_ABI;
    b->shared->slot_room = slot_room;
    b->shared->slots_at = ALIGN(sizeof(tudp_shared), 4096);
    b->shared->current_len = UINT32_MAX;
    for (i = 0; i < TUDP_BATCH; i++) {
        tudp_slot *s = &b->slots[i];
        struct msghdr *h = &b->in_msgs[i].msg_hdr;
        s->data = (uint8_t *)b->shared + b->shared->slots_at + (size_t)i * SLOT_STRIDE(slot_room);
        s->scratch = scratch + i * per_slot;
        b->in_iov[i].iov_base = s->data;
        b->in_iov[i].iov_len = slot_room;
        h->msg_iov = &b->in_iov[i];
        h->msg_iovlen = 1;
        h->msg_name = &s->from;
    }
    return b;
}

int tudp_batch_add(tudp_batch *b, tudp_stage *stage, uint32_t *scratch_used)
{
    uint32_t want = (uint32_t)ALIGN(stage->scratch, 16);
    int status;
    if (stage->abi != TUDP_ABI)
        return -EPROTO;
    if (b->stage_count == TUDP_STAGES || want > b->scratch_room - *scratch_used)
        return -ENOSPC;
    stage->scratch_at = *scratch_used;
    status = stage->attach ? stage->attach(stage, &b->turn) : 0;
    if (status < 0)
        return status;
    *scratch_used += want;
    b->stages[b->stage_count++] = stage;
    return 0;
}

void tudp_batch_clock(tudp_batch *b)
{
    b->turn.now = b->calls->monotonic(b->calls->ctx);
    b->turn.wall = b->calls->wall(b->calls->ctx);
    b->shared->heartbeat = b->turn.now;
}

/* ---- age ---- */

static void stamp(tudp_batch *b, int on)
{
    if (b->calls->setsockopt(b->calls->ctx, b->fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) == 0)
        b->stamping = on;
}

static void age_disarm(tudp_batch *b)
{
    b->busy_since = b->busy_served = 0;
    if (b->armed_since) {
        b->armed_since = 0;
        stamp(b, 0);
    }
}

void tudp_batch_age(tudp_batch *b, uint64_t limit)
{
    age_disarm(b);
    b->age_limit = limit;
}

/* Only a queue that has not been empty for long is old through load; a burst or
 * a take-over must not lose its queue by age. */
static void age_watch(tudp_batch *b, uint32_t n)
{
    if (n < b->limit) {
        if (b->busy_since)
            age_disarm(b);
        return;
    }
    if (!b->busy_since) {
        b->busy_since = b->turn.now;
        if (!b->shed.on)
            b->shed.seen = 0;
    }
    b->busy_served += n;
    if (!b->armed_since && b->busy_served >= TUDP_AGE_ARM_SERVED &&
        b->turn.now - b->busy_since >= TUDP_AGE_ARM_AFTER) {
        b->armed_since = b->turn.now;
        stamp(b, 1);
    }
}

static void count_age(const tudp_batch *b, uint64_t age)
{
    uint64_t steps = age >> TUDP_AGE_SHIFT;
    uint32_t n = steps ? 64 - (uint32_t)__builtin_clzll(steps) : 0;
    b->turn.counters[TUDP_QUEUE_AGE + (n < TUDP_AGE_BUCKETS ? n : TUDP_AGE_BUCKETS - 1)]++;
}

static int is_stale(const tudp_batch *b, const tudp_slot *s)
{
    uint64_t limit = b->turn.now - b->armed_since > 1000000000u ? b->age_limit / 2 : b->age_limit;
    uint64_t age = b->turn.wall - s->stamp;
    if (!s->stamp || s->stamp > b->turn.wall || age > 60000000000u)
        return 0; /* not known */
    count_age(b, age);
    return age > limit;
}

/* ---- receiving ---- */

static void read_control(tudp_slot *s, struct msghdr *h)
{
    struct cmsghdr *c;
    for (c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            s->local.family = AF_INET;
            s->local.ifindex = (uint32_t)info.ipi_ifindex;
            memcpy(s->local.ip, &info.ipi_spec_dst, 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            s->local.family = AF_INET6;
            s->local.ifindex = info.ipi6_ifindex;
            memcpy(s->local.ip, &info.ipi6_addr, 16);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            s->stamp = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int segment;
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
            s->segment = (uint16_t)segment;
        }
    }
}

/* Sources that are never served: ports of services that answer anything, our
 * own address, broadcast and multicast. */
static int is_denied(const tudp_batch *b, const tudp_slot *s)
{
    uint16_t port;
    if (s->from.sa.sa_family == AF_INET) {
        uint32_t ip = ntohl(s->from.in4.sin_addr.s_addr);
        port = ntohs(s->from.in4.sin_port);
        if (ip >= 0xe0000000u)
            return 1;
    } else {
        port = ntohs(s->from.in6.sin6_port);
        if (s->from.in6.sin6_addr.s6_addr[0] == 0xff)
            return 1;
    }
    if (port < 38 && (port == 0 || port == 7 || port == 13 || port == 19 || port == 37))
        return 1;
    if (port == b->own.port) {
        tudp_key key;
        tudp_key_of(&s->from, &key);
        if (!b->wildcard)
            return memcmp(key.ip, b->own.ip, 16) == 0;
        if (s->local.family == AF_INET)
            return memcmp(key.ip + 12, s->local.ip, 4) == 0;
        return s->local.family == AF_INET6 && memcmp(key.ip, s->local.ip, 16) == 0;
    }
    return 0;
}

static int guard(tudp_batch *b, tudp_slot *s, const struct msghdr *h)
{
    uint32_t i;
    if (h->msg_flags & MSG_TRUNC)
        return TUDP_DROP(TUDP_TRUNCATED);
    if (is_denied(b, s))
        return TUDP_DROP(TUDP_DENIED);
    if (tudp_shed_knows(&b->shed, s->data, s->len) && tudp_shed_drops(&b->shed))
        return TUDP_DROP(TUDP_SHED);
    if (b->armed_since && b->age_limit && is_stale(b, s))
        return TUDP_DROP(TUDP_STALE);
    for (i = 0; i < b->stage_count; i++) {
        tudp_stage *stage = b->stages[i];
        int verdict = stage->take ? stage->take(stage, &b->turn, s) : TUDP_PASS;
        if (verdict != TUDP_PASS)
            return verdict;
    }
    return TUDP_PASS;
}

int tudp_batch_gro(tudp_batch *b)
{
    int on = 1, status = b->calls->setsockopt(b->calls->ctx, b->fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    b->gro = status == 0;
    return status;
}

/* One call to the kernel. Returns the number of messages, 0, or a fatal errno. */
static int receive_messages(tudp_batch *b, int control)
{
    uint32_t i;
    int got;
    for (i = 0; i < b->limit; i++) {
        struct msghdr *h = &b->in_msgs[i].msg_hdr;
        h->msg_namelen = sizeof(tudp_sockaddr);
        h->msg_control = control ? b->in_control + i * TUDP_CONTROL : NULL;
        h->msg_controllen = control ? TUDP_CONTROL : 0;
    }
    do {
        got = b->calls->recvmmsg(b->calls->ctx, b->fd, b->in_msgs, b->limit, MSG_DONTWAIT | MSG_TRUNC);
    } while (got == -EINTR);
    b->turn.counters[TUDP_RECEIVE_CALLS]++;
    age_watch(b, got > 0 ? (uint32_t)got : 0);
    if (b->shed.mask)
        tudp_shed_watch(b);
    if (got > 0)
        return got;
    if (got == 0 || got == -EAGAIN) /* where there is recvmmsg, EWOULDBLOCK is the same number */
        return 0;
    b->turn.counters[TUDP_RECEIVE_ERRORS]++;
    /* errors of single peers never stop a server socket; read on next turn */
    return got == -EBADF || got == -ENOTSOCK ? got : 0;
}

/* A slot is filled: guard it, let the stages have it, count it. */
static inline void settle(tudp_batch *b, tudp_slot *s, const struct msghdr *h)
{
    uint64_t *count = b->turn.counters;
    int verdict;
    count[TUDP_BYTES_IN] += s->len;
    b->shared->current_at = (uint32_t)(s->data - (uint8_t *)b->shared);
    b->shared->current_len = s->len;
    verdict = guard(b, s, h);
    s->verdict = (int16_t)verdict;
    if (verdict == TUDP_PASS) {
        b->passed++;
    } else if (verdict == TUDP_ANSWERED) {
        count[TUDP_HANDLED]++;
        count[TUDP_NATIVE_ANSWERS]++;
    } else if (verdict < 0) {
        count[-verdict]++;
    }
}

static void describe(tudp_slot *s, struct msghdr *h, int control)
{
    s->stamp = 0;
    s->segment = 0;
    s->local.family = 0;
    if (control && h->msg_controllen)
        read_control(s, h);
}

/* The datagrams of messages that the kernel has joined, up to a batch of them. */
static int unjoin(tudp_batch *b)
{
    uint32_t n = 0;
    while (b->whole_at < b->whole && n < TUDP_BATCH) {
        struct msghdr *h = &b->in_msgs[b->whole_at].msg_hdr;
        tudp_slot *s = &b->slots[n++];
        uint32_t total = b->in_msgs[b->whole_at].msg_len, left = total - b->whole_byte;
        memcpy(&s->from, (uint8_t *)b->in_control + TUDP_BATCH * TUDP_CONTROL + b->whole_at * sizeof s->from,
               sizeof s->from);
        describe(s, h, 1);
        s->data = (uint8_t *)b->in_iov[b->whole_at].iov_base + b->whole_byte;
        s->len = s->segment && s->segment < left ? s->segment : left;
        b->whole_byte += s->len;
        if (b->whole_byte >= total) {
            b->whole_at++;
            b->whole_byte = 0;
        }
        b->turn.counters[TUDP_RECEIVED]++;
        settle(b, s, h);
    }
    b->shared->current_len = UINT32_MAX;
    b->received = n;
    return (int)n;
}

static int receive_joined(tudp_batch *b)
{
    if (b->whole_at == b->whole) {
        int got;
        uint32_t i;
        tudp_sockaddr *from = (tudp_sockaddr *)(b->in_control + TUDP_BATCH * TUDP_CONTROL);
        for (i = 0; i < b->limit; i++)
            b->in_msgs[i].msg_hdr.msg_name = &from[i];
        got = receive_messages(b, 1);
        b->whole = b->whole_at = b->whole_byte = 0;
        b->received = 0;
        if (got <= 0)
            return got;
        b->whole = (uint32_t)got;
    }
    return unjoin(b);
}

int tudp_batch_receive(tudp_batch *b)
{
    int got, control = b->wildcard || b->stamping;
    uint32_t i;
    b->passed = 0;
    if (b->gro)
        return receive_joined(b);
    got = receive_messages(b, control);
    if (got <= 0) {
        b->received = 0;
        return got;
    }
    b->received = (uint32_t)got;
    b->turn.counters[TUDP_RECEIVED] += b->received; /* before acting on them: a kill cannot hide them */
    b->turn.batch = __atomic_add_fetch(&batches, 1, __ATOMIC_RELAXED);
    b->slots[0].len = b->in_msgs[0].msg_len;
    for (i = 0; i < b->received; i++) {
        tudp_slot *s = &b->slots[i];
        struct msghdr *h = &b->in_msgs[i].msg_hdr;
        b->turn.next = NULL;
        if (i + 1 < b->received) {
            s[1].len = b->in_msgs[i + 1].msg_len;
            if (!(b->in_msgs[i + 1].msg_hdr.msg_flags & MSG_TRUNC))
                b->turn.next = s + 1;
        }
        describe(s, h, control);
        settle(b, s, h);
    }
    b->turn.next = NULL;
    b->shared->current_len = UINT32_MAX;
    return got;
}

/* ---- timers of stages ---- */

uint64_t tudp_batch_deadline(const tudp_batch *b)
{
    uint64_t next = b->shed.on ? b->shed.look_at : TUDP_NEVER;
    uint32_t i;
    for (i = 0; i < b->stage_count; i++) {
        uint64_t d = b->stages[i]->deadline ? b->stages[i]->deadline(b->stages[i]) : TUDP_NEVER;
        if (d < next)
            next = d;
    }
    return next;
}

uint64_t tudp_batch_due(tudp_batch *b)
{
    uint32_t i;
    if (b->shed.on)
        tudp_shed_watch(b);
    for (i = 0; i < b->stage_count; i++) {
        tudp_stage *stage = b->stages[i];
        if (stage->due && stage->deadline && stage->deadline(stage) <= b->turn.now)
            stage->due(stage, &b->turn);
    }
    return tudp_batch_deadline(b);
}

/* ---- sending ---- */

static uint8_t *op_room(tudp_turn *turn, uint32_t most)
{
    tudp_batch *b = turn->endpoint;
    if (most > TUDP_LARGEST)
        return NULL;
    if (b->outs_count == TUDP_OUTS || most > TUDP_ARENA - b->arena_used)
        tudp_offload_send(b);
    b->arena_most = most;
    return b->arena + b->arena_used;
}

static int op_send(tudp_turn *turn, uint32_t len, const uint8_t *tail, uint32_t tail_len, const tudp_sockaddr *to,
                   const tudp_local *local)
{
    tudp_batch *b = turn->endpoint;
    tudp_out *out;
    if (b->outs_count == TUDP_OUTS) /* only without a room() before, so nothing lies in it */
        tudp_offload_send(b);
    turn->counters[TUDP_SEND_QUEUED]++;
    if (len > b->arena_most || tail_len > TUDP_LARGEST - len) {
        turn->counters[TUDP_SEND_REFUSED]++;
        b->refused_by[EMSGSIZE]++;
        return -1;
    }
    out = &b->outs[b->outs_count++];
    out->at = b->arena_used;
    out->len = len;
    out->tail = tail_len ? tail : NULL;
    out->tail_len = tail_len;
    if (to->sa.sa_family == AF_INET) {
        memset(&out->to, 0, sizeof out->to);
        out->to.in4.sin_family = AF_INET;
        out->to.in4.sin_port = to->in4.sin_port;
        out->to.in4.sin_addr = to->in4.sin_addr;
    } else {
        out->to = *to;
    }
    if (local && local->family)
        out->local = *local;
    else
        out->local.family = 0;
    b->arena_used += len;
    b->arena_most = 0;
    return 0;
}

static void op_drain(tudp_turn *turn) { tudp_offload_send(turn->endpoint); }

static void op_strangers(tudp_turn *turn, uint16_t mask, uint16_t value)
{
    tudp_batch *b = turn->endpoint;
    b->shed.mask = mask;
    b->shed.value = value & mask;
}

int tudp_batch_push(tudp_batch *b, const uint8_t *data, uint32_t len, const tudp_sockaddr *to,
                    const tudp_local *local)
{
    uint8_t *room = op_room(&b->turn, len);
    if (!room)
        return -1;
    if (len)
        memcpy(room, data, len);
    return op_send(&b->turn, len, NULL, 0, to, local);
}

int tudp_batch_flush(tudp_batch *b)
{
    uint32_t i;
    for (i = 0; i < b->stage_count; i++)
        if (b->stages[i]->flush)
            b->stages[i]->flush(b->stages[i], &b->turn);
    return b->outs_count || b->waiting_count ? tudp_offload_send(b) : 0;
}

int64_t tudp_batch_lost(const tudp_batch *b, uint32_t last, uint32_t *queued)
{
    uint32_t info[9] = {0};
    socklen_t len = sizeof info;
    int status = b->calls->getsockopt(b->calls->ctx, b->fd, SOL_SOCKET, SO_MEMINFO, info, &len);
    if (status < 0)
        return status;
    if (queued)
        *queued = info[0];
    return (uint32_t)(info[8] - last); /* wraps with the kernel's own 32 bits */
}

int64_t tudp_batch_drops(tudp_batch *b, uint32_t *last, uint32_t *queued)
{
    int64_t fresh = tudp_batch_lost(b, *last, queued);
    if (fresh > 0) {
        *last += (uint32_t)fresh;
        b->turn.counters[TUDP_KERNEL] += (uint64_t)fresh;
        b->turn.counters[TUDP_RECEIVED] += (uint64_t)fresh;
    }
    return fresh;
}
