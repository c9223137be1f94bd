/* cores A B: how far two cores are from one another, in ns: a word is handed over and back.
 *
 * A virtual machine is moved about by its host. What server and generator share costs
 * several times as much while their cores have no cache in common. Prints 0 when it cannot tell.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TRIPS = 500, ROUNDS = 10, PATIENCE = 300000000 };

static _Alignas(128) uint64_t word;
static _Alignas(128) uint64_t give_up;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int pin(const char *core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(core), &set);
    return sched_setaffinity(0, sizeof set, &set);
}

/* 0, or -1 when the other does not come. */
static int wait_for(uint64_t value)
{
    for (uint32_t spins = 1; __atomic_load_n(&word, __ATOMIC_ACQUIRE) != value; spins++)
        if (!(spins & 0xffff) && now() > give_up)
            return -1;
    return 0;
}

static void *other(void *core)
{
    if (pin(core) == 0)
        for (uint64_t i = 1; i <= TRIPS * ROUNDS && wait_for(2 * i - 1) == 0; i++)
            __atomic_store_n(&word, 2 * i, __ATOMIC_RELEASE);
    return NULL;
}

int main(int count, char **words)
{
    uint64_t best = UINT64_MAX, i = 0;
    pthread_t thread;
    give_up = now() + PATIENCE;
    if (count != 3 || pthread_create(&thread, NULL, other, words[2]) != 0 || pin(words[1]) != 0)
        return 1;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t began = now();
        for (int trip = 0; trip < TRIPS; trip++) {
            __atomic_store_n(&word, 2 * ++i - 1, __ATOMIC_RELEASE);
            if (wait_for(2 * i) != 0) {
                puts("0");
                return 0;
            }
        }
        uint64_t took = (now() - began) / TRIPS;
        best = took < best ? took : best;
    }
    pthread_join(thread, NULL);
    printf("%lu\n", (unsigned long)best);
    return 0;
}
