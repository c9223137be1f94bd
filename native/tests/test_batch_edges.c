/* What happens to a batch at the edges: who is refused, age, joined messages, full memory, refusals of the kernel. */
#include "addresses.h"
#include "batch.h"
#include "calls.h"
#include "refuse.h"

#include <assert.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static tudp_wire wire;
static tudp_faults faults;
static tudp_batch *b;
static void *memory;

static tudp_sockaddr six(uint8_t first, uint8_t last, uint16_t port)
{
    tudp_sockaddr a;
    memset(&a, 0, sizeof a);
    a.in6.sin6_family = AF_INET6;
    a.in6.sin6_addr.s6_addr[0] = first;
    a.in6.sin6_addr.s6_addr[15] = last;
    a.in6.sin6_port = htons(port);
    return a;
}

static void open_batch(tudp_shared *shared)
{
    size_t size = tudp_batch_size(2048, 256);
    memory = aligned_alloc(4096, size);
    memset(memory, 0, size);
    tudp_wire_init(&wire);
    tudp_faults_init(&faults, &wire.table);
    wire.now = wire.wall = 100000000000u;
    b = tudp_batch_init(memory, shared, &faults.table, -1, AF_INET, 2048, 256);
    tudp_batch_clock(b);
}

static void close_batch(void)
{
    tudp_wire_clear(&wire);
    free(memory);
}

static uint64_t word(tudp_word w) { return b->turn.counters[w]; }

/* What becomes of one datagram from `from`. */
static int verdict(const tudp_sockaddr *from, const tudp_local *local, uint32_t len)
{
    static const uint8_t data[4096];
    assert(tudp_wire_push(&wire, data, len, from, local) == 0 && tudp_batch_receive(b) == 1);
    return b->slots[0].verdict;
}

static void sources_that_may_not_ask_are_denied(void)
{
    static const uint16_t services[] = {0, 7, 13, 19, 37};
    tudp_sockaddr from;
    open_batch(NULL);
    tudp_key_of((from = ipv4(0x0a000001, 53), &from), &b->own);
    for (int i = 0; i < 5; i++) {
        from = ipv4(0xc0000201, services[i]);
        assert(verdict(&from, NULL, 1) == TUDP_DROP(TUDP_DENIED));
        from = six(0x20, 1, services[i]);
        assert(verdict(&from, NULL, 1) == TUDP_DROP(TUDP_DENIED));
    }
    for (uint16_t port = 1; port < 60; port += 10) {
        from = ipv4(0xc0000201, port);
        assert(verdict(&from, NULL, 1) == TUDP_PASS);
    }
    from = ipv4(0xe0000001, 4000); /* multicast */
    assert(verdict(&from, NULL, 1) == TUDP_DROP(TUDP_DENIED));
    from = six(0xff, 1, 4000);
    assert(verdict(&from, NULL, 1) == TUDP_DROP(TUDP_DENIED));
    from = ipv4(0x0a000001, 53); /* ourselves */
    assert(verdict(&from, NULL, 1) == TUDP_DROP(TUDP_DENIED));
    from = ipv4(0x0a000002, 53); /* another of the same port */
    assert(verdict(&from, NULL, 1) == TUDP_PASS);
    from = ipv4(0xc0000201, 4000);
    assert(verdict(&from, NULL, 3000) == TUDP_DROP(TUDP_TRUNCATED));
    assert(word(TUDP_DENIED) == 13 && word(TUDP_TRUNCATED) == 1);
    close_batch();
}

static void on_a_wildcard_bind_ourselves_are_who_was_written_to(void)
{
    int on = 1;
    tudp_sockaddr from = ipv4(0x0a000001, 53), from6 = six(0x20, 1, 53);
    tudp_local same = {.family = AF_INET, .ip = {10, 0, 0, 1}}, other = {.family = AF_INET, .ip = {10, 0, 0, 2}};
    tudp_local same6 = {.family = AF_INET6, .ip = {0x20, [15] = 1}}, other6 = {.family = AF_INET6, .ip = {0x20}};
    open_batch(NULL);
    b->wildcard = 1;
    b->own.port = 53;
    wire.table.setsockopt(&wire, -1, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    assert(verdict(&from, &same, 1) == TUDP_DROP(TUDP_DENIED) && b->slots[0].local.family == AF_INET);
    assert(verdict(&from, &other, 1) == TUDP_PASS);
    assert(verdict(&from6, &same6, 1) == TUDP_DROP(TUDP_DENIED) && b->slots[0].local.family == AF_INET6);
    assert(verdict(&from6, &other6, 1) == TUDP_PASS);
    assert(verdict(&from, NULL, 1) == TUDP_PASS && !b->slots[0].local.family); /* not known */
    close_batch();
}

static int refusing(tudp_stage *stage, tudp_turn *turn) { return stage->self ? -EACCES : 0; }
static void idle(tudp_stage *stage, tudp_turn *turn) { assert(!stage); }
static uint64_t never(tudp_stage *stage) { return TUDP_NEVER; }

static void stages_may_lack_every_function_and_there_are_only_so_many(void)
{
    tudp_stage plain[TUDP_STAGES + 1], refuser = {.abi = TUDP_ABI, .attach = refusing, .self = &refuser};
    tudp_sockaddr from = ipv4(0xc0000201, 4000);
    uint32_t used = 0;
    open_batch(NULL);
    assert(tudp_batch_add(b, &refuser, &used) == -EACCES && b->stage_count == 0 && used == 0);
    for (unsigned i = 0; i <= TUDP_STAGES; i++) {
        plain[i] = (tudp_stage){.abi = TUDP_ABI};
        if (i == 0)
            plain[i].attach = refusing;
        if (i == 1)
            plain[i].due = idle;
        if (i == 2)
            plain[i].due = idle, plain[i].deadline = never;
        assert(tudp_batch_add(b, &plain[i], &used) == (i == TUDP_STAGES ? -ENOSPC : 0));
    }
    assert(verdict(&from, NULL, 1) == TUDP_PASS);
    assert(tudp_batch_flush(b) == 0 && tudp_batch_deadline(b) == TUDP_NEVER && tudp_batch_due(b) == TUDP_NEVER);
    close_batch();
}

/* `n` datagrams come, stamped `age` ns ago. */
static void come(uint32_t n, uint64_t age)
{
    tudp_sockaddr from = ipv4(0xc0000201, 4000);
    uint64_t wall = wire.wall;
    wire.wall -= age;
    for (uint32_t i = 0; i < n; i++)
        tudp_wire_push(&wire, (const uint8_t *)"q", 1, &from, NULL);
    wire.wall = wall;
    tudp_batch_receive(b);
}

static void pass(uint64_t ns)
{
    wire.now += ns;
    wire.wall += ns;
    tudp_batch_clock(b);
}

/* A queue that is not empty for half a second and a thousand datagrams. */
static void overload(void)
{
    for (int i = 0; i < 17; i++) {
        come(TUDP_BATCH, 0);
        pass(40000000);
    }
}

static void what_waited_too_long_is_stale_only_under_lasting_load(void)
{
    open_batch(NULL);
    come(TUDP_BATCH, 90000000);
    assert(word(TUDP_STALE) == 0 && b->busy_since); /* a burst */
    come(1, 0);
    assert(!b->busy_since);
    overload();
    assert(b->armed_since && b->stamping && wire.stamps);
    come(TUDP_BATCH, 49000000);
    assert(word(TUDP_STALE) == 0);
    come(TUDP_BATCH, 51000000);
    assert(word(TUDP_STALE) == TUDP_BATCH);
    pass(1000000001);
    come(TUDP_BATCH, 26000000); /* half of it by now */
    assert(word(TUDP_STALE) == 2 * TUDP_BATCH);
    come(TUDP_BATCH, 61000000000u); /* no time that can be */
    wire.wall += 5000000000u;
    come(TUDP_BATCH, 0); /* from the future */
    wire.wall -= 5000000000u;
    int off = 0;
    wire.table.setsockopt(&wire, -1, SOL_SOCKET, SO_TIMESTAMPNS, &off, sizeof off);
    come(TUDP_BATCH, 90000000); /* not told */
    assert(word(TUDP_STALE) == 2 * TUDP_BATCH);
    tudp_batch_age(b, 0);
    assert(!b->armed_since && !b->stamping);
    overload();
    come(TUDP_BATCH, 90000000); /* armed, but switched off */
    assert(b->armed_since && word(TUDP_STALE) == 2 * TUDP_BATCH);
    come(1, 0);
    assert(!b->armed_since && !b->stamping);
    faults.fault[TUDP_CALL_SETSOCKOPT] = (tudp_fault){.from = 1, .to = 99, .error = ENOPROTOOPT};
    overload();
    assert(b->armed_since && !b->stamping); /* no stamps are to be had */
    close_batch();
}

static void errors_of_receiving_end_nothing_but_the_turn(void)
{
    tudp_fault *f = &faults.fault[TUDP_CALL_RECVMMSG];
    tudp_sockaddr from = ipv4(0xc0000201, 4000);
    open_batch(NULL);
    assert(tudp_batch_receive(b) == 0);
    tudp_wire_push(&wire, (const uint8_t *)"q", 1, &from, NULL);
    *f = (tudp_fault){.from = 1, .to = 2, .error = EINTR};
    assert(tudp_batch_receive(b) == 1 && f->calls == 2);
    *f = (tudp_fault){.from = 1, .to = 2, .error = EAGAIN};
    assert(tudp_batch_receive(b) == 0 && word(TUDP_RECEIVE_ERRORS) == 0);
    *f = (tudp_fault){.from = 1, .to = 2, .error = ECONNREFUSED};
    assert(tudp_batch_receive(b) == 0 && word(TUDP_RECEIVE_ERRORS) == 1);
    *f = (tudp_fault){.from = 1, .to = 2, .error = EBADF};
    assert(tudp_batch_receive(b) == -EBADF);
    *f = (tudp_fault){.from = 1, .to = 2, .error = ENOTSOCK};
    assert(tudp_batch_receive(b) == -ENOTSOCK && b->received == 0);
    b->gro = 1;
    *f = (tudp_fault){.from = 1, .to = 2, .error = EBADF};
    assert(tudp_batch_receive(b) == -EBADF);
    close_batch();
}

/* --- messages that the kernel has joined ------------------------------------- */

static uint32_t joined[8][2], joins; /* bytes of each message, and of its segments (0: not told) */

static int give_joined(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    tudp_sockaddr from = ipv4(0xc0000201, 4000);
    unsigned i = 0;
    for (; i < n && i < joins; i++) {
        struct msghdr *h = &msgs[i].msg_hdr;
        struct cmsghdr *c = h->msg_control;
        int segment = (int)joined[i][1];
        memset(h->msg_iov->iov_base, 'a' + (int)i, joined[i][0]);
        memcpy(h->msg_name, &from, sizeof from.in4);
        msgs[i].msg_len = joined[i][0];
        h->msg_flags = 0;
        h->msg_controllen = segment ? CMSG_SPACE(sizeof segment) : 0;
        if (segment) {
            *c = (struct cmsghdr){.cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_GRO, .cmsg_len = CMSG_LEN(sizeof segment)};
            memcpy(CMSG_DATA(c), &segment, sizeof segment);
        }
        if (segment == 9) /* of another level: not ours */
            c->cmsg_level = IPPROTO_ICMP;
        if (segment == 8)
            c->cmsg_type = UDP_SEGMENT;
        if (segment == 7)
            c->cmsg_level = IPPROTO_IP;
        if (segment == 6)
            c->cmsg_level = IPPROTO_IPV6;
        if (segment == 5)
            c->cmsg_level = SOL_SOCKET;
    }
    joins = 0;
    return i ? (int)i : -EAGAIN;
}

static void joined_messages_are_taken_apart_batch_by_batch(void)
{
    open_batch(NULL);
    tudp_calls table = wire.table;
    table.recvmmsg = give_joined;
    b->calls = &table;
    assert(tudp_batch_gro(b) == 0 && b->gro);
    memcpy(joined, (uint32_t[8][2]){{1000, 10}, {25, 10}, {7, 0}, {9, 9}, {8, 8}, {7, 7}, {6, 6}, {5, 5}}, sizeof joined);
    joins = 8;
    assert(tudp_batch_receive(b) == 64 && b->slots[0].len == 10); /* 64 of the first message's 100 */
    assert(tudp_batch_receive(b) == 36 + 3 + 6);
    assert(b->slots[38].len == 5 && b->slots[39].len == 7 && b->slots[40].len == 9 && b->slots[44].data[0] == 'h');
    assert(tudp_batch_receive(b) == 0 && word(TUDP_RECEIVED) == 109);
    table = faults.table;
    faults.fault[TUDP_CALL_SETSOCKOPT] = (tudp_fault){.from = 1, .to = 2, .error = ENOPROTOOPT};
    assert(tudp_batch_gro(b) == -ENOPROTOOPT && !b->gro);
    close_batch();
}

/* --- sending ------------------------------------------------------------------ */

static uint32_t sent(void)
{
    uint32_t n = 0;
    for (tudp_wire_datagram *d; (d = tudp_wire_pop(&wire)); n++)
        free(d);
    return n;
}

static void full_memory_is_sent_first(void)
{
    static const uint8_t data[TUDP_LARGEST];
    tudp_sockaddr to = ipv4(0xc0000201, 4000);
    const tudp_ops *ops;
    open_batch(NULL);
    ops = b->turn.ops;
    for (unsigned i = 0; i <= TUDP_OUTS; i++) /* one more than there is a place for */
        assert(tudp_batch_push(b, data, i % 2, &to, NULL) == 0);
    assert(b->outs_count == 1 && sent() == TUDP_OUTS);
    ops->drain(&b->turn);
    assert(b->outs_count == 0 && sent() == 1);
    for (unsigned i = 0; i < TUDP_ARENA / TUDP_LARGEST + 1; i++)
        assert(tudp_batch_push(b, data, TUDP_LARGEST, &to, NULL) == 0);
    assert(b->outs_count == 1 && sent() == TUDP_ARENA / TUDP_LARGEST);
    assert(tudp_batch_push(b, data, TUDP_LARGEST + 1, &to, NULL) == -1);
    for (unsigned i = b->outs_count; i < TUDP_OUTS; i++)
        assert(ops->send(&b->turn, 0, data, 100, &to, NULL) == 0); /* tails alone, without room() */
    assert(ops->send(&b->turn, 0, data, 100, &to, NULL) == 0 && b->outs_count == 1);
    tudp_batch_flush(b);
    assert(sent() == TUDP_OUTS + 1);
    close_batch();
}

static void replies_leave_from_where_they_were_asked_and_only_equals_together(void)
{
    tudp_local a = {.family = AF_INET, .ip = {127, 0, 0, 1}}, c = {.family = AF_INET, .ip = {127, 0, 0, 2}};
    tudp_local link = {.family = AF_INET6, .ifindex = 4, .ip = {0xfe, 0x80}}, wide = {.family = AF_INET6, .ip = {0x20}};
    tudp_local odd = {.family = AF_UNIX}, none = {.family = 0};
    tudp_sockaddr to = ipv4(0xc0000201, 4000), port = ipv4(0xc0000201, 4001), to6 = six(0x20, 1, 9), other6 = six(0x20, 2, 9);
    const struct { const tudp_sockaddr *to; const tudp_local *local; } rows[] = {
        {&to, NULL}, {&to, NULL}, {&to, &none}, {&to, &a}, {&to, &a}, {&to, &c}, {&port, NULL}, {&to6, NULL}, {&to6, NULL},
        {&to6, &link}, {&to6, &wide}, {&other6, NULL}, {&to, &odd}};
    open_batch(NULL);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        tudp_batch_push(b, (const uint8_t *)"same", 4, rows[i].to, rows[i].local);
    assert(tudp_batch_flush(b) == 0);
    assert(word(TUDP_GSO_GROUPS) == 3 && word(TUDP_SENT) == sizeof rows / sizeof *rows);
    tudp_wire_datagram *d;
    unsigned with4 = 0, with6 = 0, index = 0;
    for (; (d = tudp_wire_pop(&wire)); free(d)) {
        with4 += d->local.family == AF_INET;
        with6 += d->local.family == AF_INET6;
        index += d->local.ifindex;
    }
    assert(with4 == 3 && with6 == 2 && index == 4);
    b->gso = 0; /* never together */
    for (int i = 0; i < 3; i++)
        tudp_batch_push(b, (const uint8_t *)"same", 4, &to, NULL);
    tudp_batch_flush(b);
    assert(word(TUDP_GSO_GROUPS) == 3 && sent() == 3);
    close_batch();
}

/* Many destinations, so that places in the index collide. */
static void as_many_destinations_as_there_are_places(void)
{
    open_batch(NULL);
    for (uint32_t i = 0; i < TUDP_OUTS; i++) {
        tudp_sockaddr to = ipv4(0xc0000000 + i * 7919, (uint16_t)(i * 31 + 1));
        tudp_batch_push(b, (const uint8_t *)"x", 1, &to, NULL);
    }
    assert(tudp_batch_flush(b) == 0 && sent() == TUDP_OUTS);
    for (uint32_t i = 0; i < TUDP_OUTS; i++) { /* of both families, and one host's ports */
        tudp_sockaddr to = i % 2 ? six(0x20, (uint8_t)(i / 2), (uint16_t)(i / 512 + 1)) : ipv4(0xc0000000 + i % 4, (uint16_t)(i + 1));
        tudp_batch_push(b, (const uint8_t *)"x", 1, &to, NULL);
    }
    assert(tudp_batch_flush(b) == 0 && sent() == TUDP_OUTS);
    /* a group ends at 64 members, at 65,000 bytes, and behind an empty one */
    tudp_sockaddr to = ipv4(0xc0000201, 4000);
    static const uint8_t data[1400];
    for (int i = 0; i < 130; i++)
        tudp_batch_push(b, data, 64, &to, NULL);
    for (int i = 0; i < 100; i++)
        tudp_batch_push(b, data, 1400, &to, NULL);
    tudp_batch_push(b, data, 0, &to, NULL);
    tudp_batch_push(b, data, 0, &to, NULL);
    tudp_batch_push(b, data, 64, &to, NULL);
    assert(tudp_batch_flush(b) == 0 && sent() == 233);
    close_batch();
}

static void fail(uint64_t from, uint64_t to, int error)
{
    tudp_fault *f = &faults.fault[TUDP_CALL_SENDMMSG];
    *f = (tudp_fault){.from = from, .to = to, .error = error};
}

static void train(unsigned n, uint32_t size, const tudp_local *local)
{
    static const uint8_t data[4096];
    tudp_sockaddr to = ipv4(0xc0000201, 4000);
    for (unsigned i = 0; i < n; i++)
        tudp_batch_push(b, data, size, &to, local);
}

static void what_cannot_leave_together_leaves_one_by_one(void)
{
    static const int later[] = {EAGAIN, EWOULDBLOCK, ENOBUFS, ENOMEM};
    tudp_local local = {.family = AF_INET, .ip = {127, 0, 0, 1}};
    open_batch(NULL);
    fail(1, 2, EMSGSIZE);
    train(4, 1400, &local);
    assert(tudp_batch_flush(b) == 0 && sent() == 4 && b->gso_most == 1399 && word(TUDP_GSO_FALLBACKS) == 1);
    train(4, 1400, NULL);
    assert(tudp_batch_flush(b) == 0 && sent() == 4 && word(TUDP_GSO_GROUPS) == 0); /* not offered again */
    train(1, 1500, NULL); /* larger ones are not joined anyway */
    train(1, 1500, NULL);
    assert(tudp_batch_flush(b) == 0 && sent() == 2);
    b->gso_most = 1000;
    fail(1, 2, EINVAL);
    train(4, 1000, NULL);
    assert(tudp_batch_flush(b) == 0 && sent() == 4 && b->gso && b->gso_most == 999);
    fail(1, 2, EINVAL);
    train(4, 64, NULL);
    assert(tudp_batch_flush(b) == 0 && sent() == 4 && !b->gso);
    b->gso = 1;
    fail(1, 2, EIO);
    train(2, 500, NULL);
    assert(tudp_batch_flush(b) == 0 && sent() == 2 && !b->gso);
    /* one by one, and then the kernel is full, or refuses one, or is interrupted */
    for (int i = 0; i < 4; i++) {
        b->gso = 1;
        fail(1, 2, EMSGSIZE);
        train(3, 500, NULL);
        b->gso_most = TUDP_LARGEST;
        tudp_fault *f = &faults.fault[TUDP_CALL_SENDMMSG];
        (void)f;
        assert(tudp_batch_flush(b) == 0 && sent() == 3);
        b->gso = 1;
        b->gso_most = TUDP_LARGEST;
        train(3, 500, NULL);
        fail(1, 9, later[i]);
        assert(tudp_batch_flush(b) == 3);
        fail(1, 1, 0);
        assert(tudp_batch_flush(b) == 0 && sent() == 3);
    }
    close_batch();
}

/* The table that follows a list: what each call of sendmmsg says. 1: it goes on to the wire; 2: so does all behind. */
static const int *script;

static int scripted(void *ctx, int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    int say = script ? *script : 2;
    script += script && say != 2;
    return say > 0 ? wire.table.sendmmsg(&wire, fd, msgs, n, flags) : say;
}

static void every_answer_of_the_kernel_has_its_word(void)
{
    tudp_local local6 = {.family = AF_INET6, .ip = {0x20}};
    tudp_sockaddr to6 = six(0x20, 1, 9);
    open_batch(NULL);
    tudp_calls table = wire.table;
    table.sendmmsg = scripted;
    b->calls = &table;
    script = (const int[]){-EMSGSIZE, -EINTR, 1, -EPERM, -EAGAIN, 2}; /* interrupted, sent, refused, later */
    train(3, 500, NULL);
    train(1, 300, NULL); /* a shorter one closes its group */
    train(1, 300, NULL); /* behind what waits nothing leaves */
    assert(tudp_batch_flush(b) == 3 && word(TUDP_SENT) == 1 && word(TUDP_SEND_REFUSED) == 1);
    /* still full; interrupted, refused, full again */
    script = (const int[]){-EAGAIN, 2};
    assert(tudp_batch_flush(b) == 3);
    script = (const int[]){-EINTR, -EPERM, -ENOBUFS, 2};
    train(1, 10, NULL);
    assert(tudp_batch_flush(b) == 3 && b->refused_by[EPERM] == 2);
    script = NULL;
    assert(tudp_batch_flush(b) == 0 && sent() == 1 + 3);
    /* what stands for itself: refused, a bug of ours, an error without a number of its own, nothing taken */
    script = (const int[]){-EPERM, 2};
    train(1, 10, NULL);
    assert(tudp_batch_flush(b) == 0);
    script = (const int[]){-EBADF, 2};
    train(1, 10, NULL);
    assert(tudp_batch_flush(b) == -EBADF);
    script = (const int[]){-ENOTSOCK, 2};
    train(1, 10, NULL);
    assert(tudp_batch_flush(b) == -ENOTSOCK);
    script = (const int[]){-4000, 2};
    train(1, 10, NULL);
    assert(tudp_batch_flush(b) == 0);
    script = (const int[]){0, 2};
    tudp_batch_push(b, (const uint8_t *)"six", 3, &to6, &local6);
    assert(tudp_batch_flush(b) == 1);
    script = NULL;
    assert(tudp_batch_flush(b) == 0);
    tudp_wire_datagram *d = tudp_wire_pop(&wire);
    assert(d && d->local.family == AF_INET6 && d->peer.sa.sa_family == AF_INET6);
    free(d);
    script = (const int[]){-EPERM, 2}; /* a train: all of it is refused */
    train(4, 400, NULL);
    assert(tudp_batch_flush(b) == 0 && sent() == 0);
    assert(tudp_batch_flush(b) == 0);
    close_batch();
}

static void what_waits_is_bounded_by_number_bytes_and_age(void)
{
    static const uint8_t tail[1000];
    tudp_sockaddr to = ipv4(0xc0000201, 4000);
    open_batch(NULL);
    fail(1, UINT64_MAX, EAGAIN);
    b->gso = 0;
    for (unsigned i = 0; i < TUDP_OUTS; i++)
        tudp_batch_push(b, tail, 1, &to, NULL);
    assert(tudp_batch_flush(b) == TUDP_WAITING && word(TUDP_SEND_DROPPED_FULL) == 0);
    b->turn.ops->room(&b->turn, 10);
    b->turn.ops->send(&b->turn, 10, tail, 1000, &to, NULL);
    assert(tudp_batch_flush(b) == TUDP_WAITING && word(TUDP_SEND_DROPPED_FULL) == 1);
    wire.now += TUDP_WAITING_AGE + 1;
    tudp_batch_clock(b);
    assert(tudp_offload_retry(b) == 0 && word(TUDP_SEND_REFUSED_LATE) == TUDP_WAITING);
    b->turn.ops->room(&b->turn, 10);
    b->turn.ops->send(&b->turn, 10, tail, 1000, &to, NULL); /* both parts wait */
    assert(tudp_batch_flush(b) == 1);
    fail(0, 0, 0);
    assert(tudp_batch_flush(b) == 0);
    tudp_wire_datagram *whole = tudp_wire_pop(&wire);
    assert(whole && whole->len == 1010);
    free(whole);
    fail(1, UINT64_MAX, EAGAIN);
    /* the ring of bytes: round it, with a run at its end that is too short */
    static const uint8_t large[60000];
    for (int i = 0; i < 80; i++)
        tudp_batch_push(b, large, sizeof large, &to, NULL);
    assert(tudp_batch_flush(b) == 69 && word(TUDP_SEND_DROPPED_FULL) == 1 + 11);
    tudp_fault *f = &faults.fault[TUDP_CALL_SENDMMSG];
    for (int round = 0; round < 5; round++) {
        *f = (tudp_fault){.from = 11, .to = UINT64_MAX, .error = EAGAIN}; /* ten leave, and ten come behind them */
        tudp_offload_retry(b);
        for (int i = 0; i < 10; i++)
            tudp_batch_push(b, large, sizeof large, &to, NULL);
        *f = (tudp_fault){.from = 1, .to = UINT64_MAX, .error = EAGAIN};
        tudp_batch_flush(b);
    }
    *f = (tudp_fault){.from = 0};
    assert(tudp_offload_retry(b) == 0 && b->waiting_used == 0);
    sent();
    uint64_t *c = b->turn.counters;
    assert(c[TUDP_SEND_QUEUED] ==
           c[TUDP_SENT] + c[TUDP_SEND_REFUSED] + c[TUDP_SEND_REFUSED_LATE] + c[TUDP_SEND_DROPPED_FULL]);
    close_batch();
}

static void drops_of_the_kernel_are_counted_once(void)
{
    uint32_t last = 0, queued = 7;
    open_batch(NULL);
    wire.drops = 5;
    assert(tudp_batch_lost(b, last, &queued) == 5 && queued == 0 && last == 0 && word(TUDP_KERNEL) == 0);
    assert(tudp_batch_drops(b, &last, &queued) == 5 && queued == 0 && last == 5);
    assert(tudp_batch_drops(b, &last, NULL) == 0 && word(TUDP_KERNEL) == 5);
    last = 6; /* the kernel's number went round */
    assert(tudp_batch_drops(b, &last, NULL) == UINT32_MAX && last == 5);
    faults.fault[TUDP_CALL_GETSOCKOPT] = (tudp_fault){.from = 1, .to = 9, .error = ENOPROTOOPT};
    assert(tudp_batch_drops(b, &last, NULL) == -ENOPROTOOPT && tudp_batch_lost(b, last, NULL) == -ENOPROTOOPT);
    close_batch();
}

static void counters_go_on_in_the_memory_of_a_process_before(void)
{
    tudp_shared *shared = aligned_alloc(4096, tudp_shared_size(2048) + 4096 - tudp_shared_size(2048) % 4096);
    memset(shared, 0, tudp_shared_size(2048));
    shared->counters[TUDP_RECEIVED] = 41;
    open_batch(shared);
    tudp_sockaddr from = ipv4(0xc0000201, 4000);
    assert(verdict(&from, NULL, 1) == TUDP_PASS && shared->counters[TUDP_RECEIVED] == 42);
    close_batch();
    free(shared);
}

/* A key is the same however the address is written; link-local ones keep their interface. */
static void one_peer_is_one_key(void)
{
    tudp_key a, c;
    tudp_sockaddr v4 = ipv4(0xc0000201, 7), mapped = six(0, 1, 7), link = six(0xfe, 1, 7), near = six(0xfe, 1, 7);
    memcpy(mapped.in6.sin6_addr.s6_addr + 10, "\xff\xff\xc0\x00\x02\x01", 6);
    mapped.in6.sin6_scope_id = 9;
    tudp_key_of(&v4, &a);
    tudp_key_of(&mapped, &c);
    assert(!memcmp(&a, &c, sizeof a));
    link.in6.sin6_addr.s6_addr[1] = 0x80;
    link.in6.sin6_scope_id = near.in6.sin6_scope_id = 3;
    tudp_key_of(&link, &a);
    tudp_key_of(&near, &c);
    assert(a.scope == 3 && c.scope == 0);
}

int main(void)
{
    sources_that_may_not_ask_are_denied();
    on_a_wildcard_bind_ourselves_are_who_was_written_to();
    stages_may_lack_every_function_and_there_are_only_so_many();
    what_waited_too_long_is_stale_only_under_lasting_load();
    errors_of_receiving_end_nothing_but_the_turn();
    joined_messages_are_taken_apart_batch_by_batch();
    full_memory_is_sent_first();
    replies_leave_from_where_they_were_asked_and_only_equals_together();
    as_many_destinations_as_there_are_places();
    what_cannot_leave_together_leaves_one_by_one();
    every_answer_of_the_kernel_has_its_word();
    what_waits_is_bounded_by_number_bytes_and_age();
    drops_of_the_kernel_are_counted_once();
    counters_go_on_in_the_memory_of_a_process_before();
    one_peer_is_one_key();
    puts("batch edges: ok");
    return 0;
}
