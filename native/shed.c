/* shed.c: when to shed strangers, and the filter that does it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "batch.h"

#ifdef __linux__
#include <linux/filter.h>
#endif

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef SO_ATTACH_FILTER
#define SO_ATTACH_FILTER 26
#define SO_DETACH_FILTER 27
#endif

/* Words of SO_MEMINFO. */
enum { CHARGED, ROOM, DROPS = 8, INFO };

/* ---- the filter ---- */

#ifdef __linux__
enum { STEPS = 9, PAYLOAD = 8, HEADER_END = PAYLOAD + 2 };

/* Offsets count from the UDP header. A load behind the end would drop the datagram: the length goes first. */
static void write_filter(struct sock_filter to[STEPS], const tudp_shed *s, uint32_t pass)
{
    const struct sock_filter steps[STEPS] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, HEADER_END, 0, 5),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, PAYLOAD),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, s->mask),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, s->value, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, pass, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    memcpy(to, steps, sizeof steps);
}

/* 0: no filter on the socket, 1: one of ours, -1: somebody else's, or none can be. */
static int whose_filter(const tudp_batch *b)
{
    struct sock_filter found[STEPS], ours[STEPS];
    socklen_t count = STEPS; /* of this option: instructions */
    memset(found, 0, sizeof found);
    if (b->calls->getsockopt(b->calls->ctx, b->fd, SOL_SOCKET, SO_ATTACH_FILTER, found, &count) < 0)
        return -1;
    if (count == 0)
        return 0;
    tudp_shed same = {.mask = (uint16_t)found[3].k, .value = (uint16_t)found[4].k};
    write_filter(ours, &same, found[6].k);
    return count == STEPS && !memcmp(found, ours, sizeof ours) ? 1 : -1;
}

static int attach(tudp_batch *b, uint32_t pass)
{
    struct sock_filter steps[STEPS];
    struct sock_fprog program = {STEPS, steps};
    write_filter(steps, &b->shed, pass);
    if (b->gro || whose_filter(b) < 0)
        return 0;
    return b->calls->setsockopt(b->calls->ctx, b->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

static void detach(tudp_batch *b)
{
    int none = 0;
    if (whose_filter(b) == 1)
        b->calls->setsockopt(b->calls->ctx, b->fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none);
}
#else
static int attach(tudp_batch *b, uint32_t pass) { return (void)b, (void)pass, 0; }
static void detach(tudp_batch *b) { (void)b; }
#endif

/* ---- when ---- */

static int look(const tudp_batch *b, uint32_t info[INFO])
{
    socklen_t len = INFO * sizeof *info;
    memset(info, 0, len);
    return b->calls->getsockopt(b->calls->ctx, b->fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0;
}

static int too_full(const uint32_t info[INFO]) { return info[ROOM] && info[CHARGED] > info[ROOM] / 4; }

/* A window begins in which strangers come at `offered` a second, before anything is dropped. */
static void let_in(tudp_batch *b, const uint32_t info[INFO], uint64_t offered)
{
    tudp_shed *s = &b->shed;
    s->on = 1;
    s->seen = s->let_in = 0;
    s->drops = info[DROPS];
    s->began = b->turn.now;
    s->look_at = s->began + TUDP_SHED_WINDOW;
    s->window_most = (uint32_t)((uint64_t)s->rate * TUDP_SHED_WINDOW / 1000000000u);
    /* a little more than that, so that it is the exact count in tudp_shed_drops() that decides */
    uint64_t pass = ((uint64_t)s->rate << 32) / (offered + 1) * 5 / 4;
    s->filtering = (uint8_t)attach(b, pass > UINT32_MAX ? UINT32_MAX : (uint32_t)pass);
}

static void begin(tudp_batch *b)
{
    tudp_shed *s = &b->shed;
    uint64_t busy = b->turn.now - b->busy_since;
    uint32_t info[INFO];
    if (busy < TUDP_SHED_BUSY || b->turn.now < s->look_at)
        return;
    s->look_at = b->turn.now + 1000000u;
    if (s->seen < b->busy_served / 4 || !look(b, info) || !too_full(info))
        return;
    uint64_t offered = (uint64_t)s->seen * 1000000000u / busy;
    s->rate = offered / 2 < TUDP_SHED_MOST ? (uint32_t)(offered / 2) : TUDP_SHED_MOST;
    s->over_at = b->turn.now;
    let_in(b, info, offered);
}

static void again(tudp_batch *b)
{
    tudp_shed *s = &b->shed;
    uint32_t info[INFO];
    if (!look(b, info)) {
        tudp_shed_end(b);
        return;
    }
    uint64_t offered = ((uint64_t)s->seen + (info[DROPS] - s->drops)) * 1000000000u / (b->turn.now - s->began);
    if (too_full(info)) {
        s->over_at = b->turn.now;
        if (s->rate > TUDP_SHED_LEAST)
            s->rate = s->rate / 2 > TUDP_SHED_LEAST ? s->rate / 2 : TUDP_SHED_LEAST;
    } else if (b->turn.now - s->over_at > TUDP_SHED_GROW && s->rate < TUDP_SHED_MOST) {
        s->over_at = b->turn.now;
        s->rate = s->rate < TUDP_SHED_MOST / 2 ? s->rate * 2 : TUDP_SHED_MOST;
    }
    if (offered <= s->rate)
        tudp_shed_end(b);
    else
        let_in(b, info, offered);
}

void tudp_shed_watch(tudp_batch *b)
{
    tudp_shed *s = &b->shed;
    if (s->on) {
        if (b->turn.now >= s->look_at)
            again(b);
    } else if (s->mask && b->busy_since) {
        begin(b);
    }
}

void tudp_shed_end(tudp_batch *b)
{
    detach(b);
    b->shed.on = b->shed.filtering = 0;
    b->shed.seen = b->shed.let_in = 0;
}
