/* The batch core on a socket of memory: receive, stages, groups, refusals, waiting. */
#include "addresses.h"
#include "batch.h"
#include "calls.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static tudp_wire wire;
static tudp_faults faults;
static tudp_batch *b;
static void *memory;

static void open_batch(uint32_t slot_room)
{
    size_t size = tudp_batch_size(slot_room, 256);
    memory = aligned_alloc(4096, size);
    memset(memory, 0, size);
    tudp_wire_init(&wire);
    tudp_faults_init(&faults, &wire.table);
    wire.now = wire.wall = 1000000000u;
    b = tudp_batch_init(memory, NULL, &faults.table, -1, AF_INET, slot_room, 256);
    tudp_batch_clock(b);
}

static void close_batch(void)
{
    tudp_wire_clear(&wire);
    free(memory);
}

static void ledgers_close(uint64_t in_flight)
{
    uint64_t *c = b->turn.counters, drops = 0;
    for (int i = TUDP_KERNEL; i <= TUDP_STOPPING; i++)
        drops += c[i];
    assert(c[TUDP_RECEIVED] == c[TUDP_HANDLED] + drops + in_flight);
    assert(c[TUDP_SEND_QUEUED] == c[TUDP_SENT] + c[TUDP_SEND_REFUSED] + c[TUDP_SEND_REFUSED_LATE] +
                                      c[TUDP_SEND_DROPPED_FULL] + b->waiting_count);
}

/* A stage that answers 'a', drops 'd', holds 'h', passes the rest, and remembers it in its notes. */
static uint32_t held_seen, flushed;

static int toy_take(tudp_stage *stage, tudp_turn *turn, tudp_slot *slot)
{
    slot->scratch[stage->scratch_at] = slot->len ? slot->data[0] : 0;
    if (!slot->len)
        return TUDP_PASS;
    if (slot->data[0] == 'a') {
        uint8_t *room = turn->ops->room(turn, slot->len);
        memcpy(room, slot->data, slot->len);
        assert(tudp_reply(turn, slot, slot->len) == 0);
        return TUDP_ANSWERED;
    }
    if (slot->data[0] == 'h') {
        stage->held++;
        held_seen++;
        return TUDP_HELD;
    }
    return slot->data[0] == 'd' ? TUDP_DROP(TUDP_MALFORMED) : TUDP_PASS;
}

static const uint8_t shared_tail[] = " and a tail";

static void toy_flush(tudp_stage *stage, tudp_turn *turn)
{
    tudp_sockaddr to = ipv4(0xc0000209, 99);
    uint8_t *room = turn->ops->room(turn, 4);
    memcpy(room, "head", 4);
    turn->ops->send(turn, 4, shared_tail, sizeof shared_tail - 1, &to, NULL);
    turn->counters[TUDP_HANDLED] += stage->held;
    stage->held = 0;
    flushed++;
}

static uint64_t toy_when = TUDP_NEVER;
static uint64_t toy_deadline(tudp_stage *stage) { return toy_when; }
static void toy_due(tudp_stage *stage, tudp_turn *turn) { toy_when = TUDP_NEVER; }

static void stages_see_packets_before_python(void)
{
    tudp_stage toy = {.abi = TUDP_ABI, .scratch = 10, .take = toy_take, .flush = toy_flush,
                      .deadline = toy_deadline, .due = toy_due};
    tudp_stage old = {.abi = TUDP_ABI + 1}, greedy = {.abi = TUDP_ABI, .scratch = 1000};
    tudp_sockaddr from = ipv4(0xc0000207, 4000);
    tudp_wire_datagram *d;
    uint32_t used = 0;
    open_batch(2048);
    assert(tudp_batch_add(b, &toy, &used) == 0 && used == 16);
    assert(tudp_batch_add(b, &old, &used) == -EPROTO);
    assert(tudp_batch_add(b, &greedy, &used) == -ENOSPC);
    tudp_wire_push(&wire, (const uint8_t *)"answer", 6, &from, NULL);
    tudp_wire_push(&wire, (const uint8_t *)"drop", 4, &from, NULL);
    tudp_wire_push(&wire, (const uint8_t *)"hold", 4, &from, NULL);
    tudp_wire_push(&wire, (const uint8_t *)"", 0, &from, NULL);
    tudp_wire_push(&wire, (const uint8_t *)"python", 6, &from, NULL);
    assert(tudp_batch_receive(b) == 5 && b->passed == 2 && held_seen == 1);
    assert(b->slots[3].verdict == TUDP_PASS && b->slots[4].scratch[toy.scratch_at] == 'p');
    b->turn.counters[TUDP_HANDLED] += 2;
    assert(tudp_batch_flush(b) == 0 && flushed == 1);
    d = tudp_wire_pop(&wire);
    assert(d->len == 6 && !memcmp(d->data, "answer", 6));
    free(d);
    d = tudp_wire_pop(&wire);
    assert(d->len == 15 && !memcmp(d->data, "head and a tail", 15));
    free(d);
    assert(!tudp_wire_pop(&wire));
    assert(b->turn.counters[TUDP_NATIVE_ANSWERS] == 1 && b->turn.counters[TUDP_MALFORMED] == 1);
    toy_when = b->turn.now - 1;
    assert(tudp_batch_deadline(b) == toy_when && tudp_batch_due(b) == TUDP_NEVER);
    ledgers_close(0);
    close_batch();
}

/* Random messages, sizes, clients and failures: order per client, exact ledger, no byte wrong. */
static void random_sends_arrive_in_order_or_are_counted(unsigned seed)
{
    static uint8_t payload[TUDP_LARGEST];
    uint32_t next[7] = {0}, heard[7] = {0}, sent = 0;
    static const int errors[] = {EAGAIN, ENOBUFS, EINVAL, EMSGSIZE, EIO, EPERM, EINTR, ECONNREFUSED};
    srand(seed);
    open_batch(2048);
    for (int round = 0; round < 300; round++) {
        int n = rand() % 200;
        for (int i = 0; i < n; i++) {
            uint32_t client = (uint32_t)rand() % 7, number = ++next[client];
            tudp_sockaddr to = ipv4(0xc0000200 + client, 4000);
            uint32_t len = rand() % 50 == 0 ? (uint32_t)rand() % 60000 + 4 : rand() % 5 ? 64 : 4 + (uint32_t)rand() % 100;
            memset(payload, (int)number, len);
            memcpy(payload, &number, 4);
            tudp_batch_push(b, payload, len, &to, NULL);
            sent++;
        }
        if (rand() % 3 == 0) {
            tudp_fault *f = &faults.fault[TUDP_CALL_SENDMMSG];
            f->from = f->calls + 1 + (uint64_t)rand() % 3;
            f->to = f->from + 1 + (uint64_t)rand() % 3;
            f->error = rand() % 4 ? errors[rand() % 8] : 0;
            f->most = 1 + rand() % 4;
        }
        tudp_batch_flush(b);
        wire.now += (uint64_t)rand() % 30000000;
        tudp_batch_clock(b);
        for (tudp_wire_datagram *d; (d = tudp_wire_pop(&wire)); free(d)) {
            uint32_t client = ntohl(d->peer.in4.sin_addr.s_addr) - 0xc0000200, number;
            assert(client < 7 && d->len >= 4);
            memcpy(&number, d->data, 4);
            assert(number > heard[client]); /* never twice, never late */
            heard[client] = number;
            for (uint32_t i = 4; i < d->len; i++)
                assert(d->data[i] == (uint8_t)number);
        }
        ledgers_close(0);
    }
    assert(b->turn.counters[TUDP_SEND_QUEUED] == sent);
    close_batch();
}

static void sizes_out_of_bounds_are_refused(void)
{
    tudp_sockaddr to = ipv4(0xc0000207, 4000);
    open_batch(2048);
    assert(b->turn.ops->room(&b->turn, TUDP_LARGEST + 1) == NULL);
    assert(b->turn.ops->room(&b->turn, 10) != NULL);
    assert(b->turn.ops->send(&b->turn, 11, NULL, 0, &to, NULL) == -1); /* more than was asked for */
    assert(b->turn.ops->room(&b->turn, 10) != NULL);
    assert(b->turn.ops->send(&b->turn, 10, shared_tail, TUDP_LARGEST - 9, &to, NULL) == -1);
    assert(b->turn.counters[TUDP_SEND_REFUSED] == 2);
    ledgers_close(0);
    close_batch();
}

static void the_wire_charges_as_linux_does(void)
{
    static const uint32_t table[][2] = {{0, 832}, {128, 832}, {200, 1280}, {600, 1280}, {1200, 2304}, {1400, 2304},
                                        {4000, 8448}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert(tudp_wire_charge(table[i][0]) == table[i][1]);
}

int main(void)
{
    the_wire_charges_as_linux_does();
    sizes_out_of_bounds_are_refused();
    stages_see_packets_before_python();
    for (unsigned seed = 1; seed <= 5; seed++)
        random_sends_arrive_in_order_or_are_counted(seed);
    puts("batch: ok");
    return 0;
}
