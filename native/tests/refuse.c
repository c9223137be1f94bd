/* refuse.c: see refuse.h. The linker sends calls of NAME to __wrap_NAME; the true one is __real_NAME. */
#include "refuse.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

static _Thread_local struct {
    const char *what;
    unsigned left;
    int error, done;
} state;

void refuse(const char *what, unsigned nth, int error)
{
    state.what = what;
    state.left = nth;
    state.error = error;
    state.done = 0;
}

int refused(void)
{
    state.what = NULL;
    return state.done;
}

static int now(const char *what)
{
    if (!state.what || strcmp(state.what, what) || --state.left)
        return 0;
    state.what = NULL;
    state.done = 1;
    errno = state.error;
    return 1;
}

#define MEMORY(type, name, failed, typed, given) \
    type __real_##name typed;                    \
    type __wrap_##name typed;                    \
    type __wrap_##name typed { return now("memory") ? (failed) : __real_##name given; }

MEMORY(void *, malloc, NULL, (size_t size), (size))
MEMORY(void *, calloc, NULL, (size_t count, size_t size), (count, size))
MEMORY(void *, realloc, NULL, (void *at, size_t size), (at, size))
MEMORY(void *, mmap, MAP_FAILED, (void *at, size_t size, int prot, int flags, int fd, off_t from),
       (at, size, prot, flags, fd, from))

#define CALL(name, typed, given) \
    long __real_##name typed;    \
    long __wrap_##name typed;    \
    long __wrap_##name typed { return now(#name) ? (state.error ? -1 : 0) : __real_##name given; }
#define CALL_INT(name, typed, given) \
    int __real_##name typed;         \
    int __wrap_##name typed;         \
    int __wrap_##name typed { return now(#name) ? (state.error ? -1 : 0) : __real_##name given; }

CALL_INT(madvise, (void *at, size_t size, int advice), (at, size, advice))
CALL_INT(socket, (int family, int type, int protocol), (family, type, protocol))
CALL_INT(bind, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len))
CALL_INT(connect, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len))
CALL_INT(setsockopt, (int fd, int level, int name, const void *value, socklen_t len), (fd, level, name, value, len))
CALL_INT(getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len))
CALL_INT(epoll_create1, (int flags), (flags))
CALL_INT(epoll_ctl, (int fd, int what, int other, struct epoll_event *event), (fd, what, other, event))
CALL_INT(epoll_wait, (int fd, struct epoll_event *events, int most, int ms), (fd, events, most, ms))
CALL(sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
CALL_INT(sendmmsg, (int fd, struct mmsghdr *messages, unsigned n, int flags), (fd, messages, n, flags))
CALL_INT(recvmmsg, (int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *wait),
         (fd, messages, n, flags, wait))
CALL(getrandom, (void *out, size_t len, unsigned flags), (out, len, flags))
CALL_INT(clock_gettime, (clockid_t id, struct timespec *out), (id, out))
