/* Shedding of strangers: when it begins and ends, and whose filter stands on the socket. */
#include "batch.h"
#include "calls.h"

#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef SO_ATTACH_FILTER
#define SO_ATTACH_FILTER 26
#endif
#ifndef SO_DETACH_FILTER
#define SO_DETACH_FILTER 27
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

static tudp_wire wire;
static tudp_calls table;
static tudp_batch *b;
static void *memory;
static int blind; /* no filter can be read */
static struct sock_filter filter[16];
static unsigned filters, attached, detached; /* instructions on the socket; calls */

static int set(void *ctx, int fd, int level, int name, const void *value, socklen_t len)
{
    if (level == SOL_SOCKET && name == SO_ATTACH_FILTER) {
        const struct sock_fprog *program = value;
        filters = program->len;
        memcpy(filter, program->filter, filters * sizeof *filter);
        attached++;
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_DETACH_FILTER) {
        filters = 0;
        detached++;
        return 0;
    }
    return wire.table.setsockopt(ctx, fd, level, name, value, len);
}

static int deaf; /* SO_MEMINFO is not there */

static int get(void *ctx, int fd, int level, int name, void *value, socklen_t *len)
{
    if (level == SOL_SOCKET && name == SO_ATTACH_FILTER) {
        if (blind)
            return -ENOPROTOOPT;
        memcpy(value, filter, (filters < *len ? filters : *len) * sizeof *filter);
        *len = filters;
        return 0;
    }
    if (deaf && level == SOL_SOCKET && name == SO_MEMINFO)
        return -ENOPROTOOPT;
    return wire.table.getsockopt(ctx, fd, level, name, value, len);
}

static void open_batch(uint64_t limit)
{
    size_t size = tudp_batch_size(256, 64);
    memory = aligned_alloc(4096, size);
    memset(memory, 0, size);
    tudp_wire_init(&wire);
    table = wire.table;
    table.setsockopt = set;
    table.getsockopt = get;
    wire.now = wire.wall = 1000000000u;
    wire.in_limit = limit;
    b = tudp_batch_init(memory, NULL, &table, -1, AF_INET, 256, 64);
    tudp_batch_clock(b);
    b->turn.ops->strangers(&b->turn, 0xf000, 0x1fff);
    assert(b->shed.mask == 0xf000 && b->shed.value == 0x1000);
    blind = deaf = 0;
    filters = attached = detached = 0;
}

static void close_batch(void)
{
    tudp_wire_clear(&wire);
    free(memory);
}

static void come(unsigned n, const char *data, uint32_t len)
{
    tudp_sockaddr from;
    memset(&from, 0, sizeof from);
    from.in4.sin_family = AF_INET;
    from.in4.sin_addr.s_addr = htonl(0xc0000201);
    from.in4.sin_port = htons(4000);
    while (n--)
        tudp_wire_push(&wire, (const uint8_t *)data, len, &from, NULL);
}

/* Turns of a millisecond, each with a full batch of the queue. */
static void turns(unsigned n, unsigned strangers)
{
    while (n--) {
        come(strangers, "\x10\0", 2);
        tudp_batch_receive(b);
        wire.now += 1000000;
        tudp_batch_clock(b);
        tudp_batch_due(b);
    }
}

static void it_begins_when_a_busy_queue_of_strangers_is_too_full(void)
{
    open_batch(400 * 832);
    turns(3, 64);
    assert(!b->shed.on); /* not busy for long */
    come(1, "\x20\0", 2); /* known, too short, and no stranger by its second octet */
    come(1, "\x10", 1);
    turns(10, 64);
    assert(!b->shed.on); /* nothing waits: all is served */
    turns(1, 250);
    turns(3, 64);
    assert(b->shed.on && b->shed.filtering && filters == 9 && tudp_batch_deadline(b) == b->shed.look_at);
    turns(30, 64);
    assert(b->turn.counters[TUDP_SHED] > 0 && attached == 1);
    turns(300, 200); /* looks again and again: the rate is halved, down to the least */
    assert(b->shed.on && attached > 3 && b->shed.rate == TUDP_SHED_LEAST);
    wire.in_limit = 1 << 30; /* room enough from now on: twice as many with each second, up to the most */
    turns(1200, 64);
    assert(b->shed.on && b->shed.rate == 2 * TUDP_SHED_LEAST);
    b->shed.rate = TUDP_SHED_MOST / 2 + 1;
    for (int i = 0; i < 3000; i++) {
        b->shed.seen = 1000000; /* far more come than that */
        turns(1, 0);
    }
    assert(b->shed.on && b->shed.rate == TUDP_SHED_MOST);
    turns(110, 0); /* nobody comes any more */
    assert(!b->shed.on && !filters && detached == 1 && tudp_batch_deadline(b) == TUDP_NEVER);
    close_batch();
}

static void known_peers_and_a_socket_that_tells_nothing_begin_nothing(void)
{
    open_batch(400 * 832);
    come(300, "\x20\0", 2);
    turns(4, 0);
    for (int i = 0; i < 8; i++) {
        come(64, "\x20\0", 2);
        turns(1, 0);
    }
    assert(!b->shed.on && b->busy_since);
    come(100, "\x20\0", 2);
    deaf = 1;
    turns(12, 64);
    assert(!b->shed.on);
    deaf = 0;
    turns(10, 64);
    assert(b->shed.on);
    deaf = 1; /* and then it does not tell any more */
    turns(60, 64);
    assert(!b->shed.on);
    deaf = 0;
    wire.in_limit = 0; /* a socket without a bound is never too full */
    turns(12, 64);
    assert(!b->shed.on);
    close_batch();
}

static void begin_at_once(void)
{
    come(250, "\x10\0", 2);
    turns(12, 64);
    assert(b->shed.on);
}

static void a_filter_of_others_stays_and_one_of_ours_goes(void)
{
    open_batch(400 * 832);
    filters = 9;
    memset(filter, 7, sizeof filter);
    begin_at_once();
    assert(!b->shed.filtering && !attached);
    tudp_shed_end(b);
    assert(filters == 9 && !detached);
    close_batch();
    open_batch(400 * 832);
    filters = 3; /* shorter than ours */
    begin_at_once();
    assert(!b->shed.filtering);
    tudp_shed_end(b);
    assert(filters == 3);
    close_batch();
    open_batch(400 * 832);
    blind = 1;
    begin_at_once();
    assert(!b->shed.filtering);
    tudp_shed_end(b);
    close_batch();
    open_batch(400 * 832);
    b->gro = 1; /* the filter would see joined messages */
    b->busy_since = 1;
    b->busy_served = b->shed.seen = 5000;
    come(300, "\x10\0", 2);
    b->busy_since = b->turn.now - TUDP_SHED_BUSY;
    tudp_shed_watch(b);
    assert(b->shed.on && !b->shed.filtering && !attached);
    close_batch();
    open_batch(400 * 832);
    begin_at_once();
    assert(b->shed.filtering);
    b->shed.on = b->shed.filtering = 0; /* a process after the one that had put it there */
    tudp_shed_end(b);
    assert(!filters && detached == 1);
    close_batch();
}

static void short_of_memory_nobody_is_let_in(void)
{
    open_batch(0);
    b->shed.pressed = 1;
    come(3, "\x10\0", 2);
    come(2, "\x20\0", 2);
    assert(tudp_batch_receive(b) == 5 && b->turn.counters[TUDP_SHED] == 3 && b->passed == 2);
    b->shed.pressed = 0;
    come(3, "\x10\0", 2);
    assert(tudp_batch_receive(b) == 3 && b->passed == 3);
    close_batch();
}

int main(void)
{
    it_begins_when_a_busy_queue_of_strangers_is_too_full();
    known_peers_and_a_socket_that_tells_nothing_begin_nothing();
    a_filter_of_others_stays_and_one_of_ours_goes();
    short_of_memory_nobody_is_let_in();
    puts("shed: ok");
    return 0;
}
