/* load_run.h: what the files of the load generator share. Not for users of load.h. */
#ifndef LOAD_RUN_H
#define LOAD_RUN_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "load.h"

#include <netinet/in.h>
#include <stdbool.h>

/* One request of the closed loop. */
typedef struct ask {
    uint64_t number; /* of this socket; number % in_flight is the place of the ask */
    uint64_t sent_at;
    bool waiting, lost; /* lost: the one before this was given up */
} ask;

/* One socket. */
typedef struct line {
    int fd;
    uint32_t id;        /* its place in the run, written into each payload */
    uint64_t next;      /* above every number that was sent */
    uint64_t *answered; /* open loop: one bit per number */
    uint64_t *train_at; /* open loop: when each train left */
} line;

typedef struct run {
    const load_job *job;
    load_report *report;
    line *lines;
    ask *asks;
    uint64_t now, window_from, window_to, stop_at;
    uint64_t cpu_from, watched_from;
    uint64_t waiting; /* closed loop: requests without an answer yet */
    uint64_t most;    /* open loop: numbers per line */
    uint32_t train;   /* datagrams that leave together from one source; 1 in the closed loop */
    uint32_t in_room, out_room; /* bytes per message */
    bool window_open;
    uint8_t *out, *in, *pattern;
    struct mmsghdr out_msgs[LOAD_BATCH], in_msgs[LOAD_BATCH];
    struct iovec out_iov[LOAD_BATCH], in_iov[LOAD_BATCH];
    union control {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(uint16_t))];
    } out_control[LOAD_BATCH], in_control[LOAD_BATCH];
} run;

/* load_message.c: what is sent, and what a reply is. */
uint32_t load_compose(const run *r, const line *l, uint64_t number, uint8_t *out);
bool load_numbered(const run *r, const line *l, unsigned i, uint64_t youngest, uint64_t *number);
bool load_fits(run *r, const line *l, unsigned i, uint64_t number);
void load_up(run *r, const line *l, unsigned i, uint64_t number, uint32_t each);
void load_push(run *r, const line *l, unsigned n, uint32_t each);
unsigned load_pull(run *r, const line *l);
int load_buffers(run *r);

#endif
