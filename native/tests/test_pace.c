/* When a server rests between looks: while it costs no answers, and not otherwise. */
#include "batch.h"
#include "calls.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static tudp_wire wire;
static tudp_calls calls;
static tudp_batch *b;
static void *memory;
static uint64_t rested, rests;

static void pass(uint64_t ns)
{
    wire.now += ns;
    wire.wall += ns;
}

static void rest(void *ctx, uint32_t ns)
{
    assert(ctx == &wire);
    pass(ns);
    rested += ns;
    rests++;
}

static void open_batch(void)
{
    size_t size = tudp_batch_size(2048, 256);
    memory = aligned_alloc(4096, size);
    memset(memory, 0, size);
    tudp_wire_init(&wire);
    calls = wire.table;
    calls.rest = rest;
    wire.now = wire.wall = 1000000000u;
    b = tudp_batch_init(memory, NULL, &calls, -1, AF_INET, 2048, 256);
    rests = rested = 0;
}

static void close_batch(void)
{
    tudp_wire_clear(&wire);
    free(memory);
}

/* A look that brings `got` and takes 5 us. */
static void look(uint32_t got)
{
    b->turn.counters[TUDP_RECEIVED] += got;
    pass(5000);
    tudp_batch_clock(b);
    tudp_batch_rest(b, got);
}

/* Looks for `ns` at traffic of a fixed rate: what is not fetched now is there later. */
static void stream(uint64_t ns, uint64_t per_second)
{
    uint64_t began = wire.now, seen = 0;
    while (wire.now - began < ns) {
        uint64_t due = (wire.now + 5000 - began) * per_second / 1000000000u;
        look((uint32_t)(due - seen));
        seen = due;
    }
}

/* The same where every client waits for its answer: a look brings 8, however long it waited. */
static void closed(uint64_t ns)
{
    for (uint64_t began = wire.now; wire.now - began < ns;)
        look(8);
}

static void a_stream_loses_nothing_by_it(void)
{
    open_batch();
    stream(400000000, 300000);
    assert(b->pace.state == TUDP_PACE_HELD && b->pace.resting);
    rests = rested = 0;
    stream(100000000, 300000);
    assert(rests > 2000 && rested == rests * 40000); /* at nearly every look: 45 us for each */
    assert(b->turn.now == wire.now);
    close_batch();
}

static void clients_that_wait_are_answered_at_once(void)
{
    open_batch();
    closed(2000000000);
    assert(rested < 2000000000 / 40); /* the trials */
    assert(rests > 0);
    close_batch();
}

static void the_better_way_is_found_again_when_the_traffic_changes(void)
{
    open_batch();
    stream(400000000, 300000);
    assert(b->pace.resting);
    closed(300000000);
    rested = 0;
    closed(200000000);
    assert(rested < 200000000 / 40);
    stream(600000000, 300000);
    rests = 0;
    stream(100000000, 300000);
    assert(rests > 1000);
    close_batch();
}

static void a_full_look_is_followed_by_the_next(void)
{
    open_batch();
    stream(400000000, 300000);
    rests = 0;
    for (int i = 0; i < 100; i++)
        look(32);
    assert(rests == 0);
    look(31);
    assert(rests == 1);
    close_batch();
}

static void a_trial_in_which_the_traffic_paused_says_nothing(void)
{
    open_batch();
    for (int i = 0; i < 1000; i++) { /* a burst every 10 ms */
        look(8);
        look(8);
        pass(10000000);
    }
    assert(rests == 0 && !b->pace.resting && b->pace.state == TUDP_PACE_WITHOUT);
    close_batch();
}

static void where_time_does_not_pass_there_is_no_rest(void)
{
    open_batch();
    calls.rest = NULL;
    stream(600000000, 300000);
    assert(rests == 0 && !b->pace.resting && !b->pace.since);
    close_batch();
}

int main(void)
{
    a_stream_loses_nothing_by_it();
    clients_that_wait_are_answered_at_once();
    the_better_way_is_found_again_when_the_traffic_changes();
    a_full_look_is_followed_by_the_next();
    a_trial_in_which_the_traffic_paused_says_nothing();
    where_time_does_not_pass_there_is_no_rest();
    puts("pace: ok");
    return 0;
}
