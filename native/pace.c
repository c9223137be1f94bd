/* pace.c: a short rest before another look at a queue that fills as fast as it is emptied.
 *
 * A server that keeps up with its clients finds a few datagrams at each look, and pays for two
 * system calls, a wake-up of the client and the shared cache lines with every few. Behind a rest
 * of some 40 us there are more, answered together for less. Clients that ask again only when they
 * have their answer may lose by it: so both ways are tried in turn, and the rest is taken only
 * while as many datagrams come with it as without.
 */
#include "batch.h"

#define REST 40000u           /* ns */
#define FEW 32u               /* datagrams of a look, below which there is a rest */
#define TRIAL 4000000u        /* ns that one way is tried */
#define HOLD 250000000u       /* ns that the better one is kept */
#define SAME(with, without) ((with) >= (without) - (without) / 16)

/* Datagrams per second since the trial began, but never 0. */
static uint64_t rate(const tudp_batch *b, uint64_t took)
{
    return (b->turn.counters[TUDP_RECEIVED] - b->pace.received) * 1000000000u / (took + 1) + 1;
}

static void begin(tudp_batch *b, uint8_t state, uint8_t resting)
{
    b->pace.since = b->turn.now;
    b->pace.received = b->turn.counters[TUDP_RECEIVED];
    b->pace.state = state;
    b->pace.resting = resting;
}

/* A trial that was longer than it should be saw the traffic pause: it says nothing. */
static void judge(tudp_batch *b)
{
    uint64_t took = b->turn.now - b->pace.since;
    if (b->pace.state == TUDP_PACE_HELD) {
        if (took >= HOLD)
            begin(b, TUDP_PACE_WITHOUT, 0);
    } else if (took >= 2 * TRIAL) {
        begin(b, TUDP_PACE_WITHOUT, 0);
    } else if (took >= TRIAL && b->pace.state == TUDP_PACE_WITHOUT) {
        b->pace.rate = rate(b, took);
        begin(b, TUDP_PACE_WITH, 1);
    } else if (took >= TRIAL) {
        begin(b, TUDP_PACE_HELD, SAME(rate(b, took), b->pace.rate));
    }
}

void tudp_batch_rest(tudp_batch *b, uint32_t got)
{
    if (!b->calls->rest)
        return;
    judge(b);
    if (!b->pace.resting || got >= FEW)
        return;
    b->calls->rest(b->calls->ctx, REST);
    tudp_batch_clock(b);
}
