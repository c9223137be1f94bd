/* dns_forward_calls.c: the kernel as dns_forward.c sees it: one epoll descriptor over all ports. */
#define _GNU_SOURCE 1
#include "dns_forward.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

typedef struct kernel {
    dns_forward_calls calls;
    int epoll;
} kernel;

static int give_up(int fd)
{
    int error = errno;
    close(fd);
    return -error;
}

static int open_port(void *ctx, const tudp_sockaddr *to, uint16_t port, uint32_t number)
{
    kernel *k = ctx;
    int family = to->sa.sa_family, six = family == AF_INET6;
    tudp_sockaddr own = {.sa = {.sa_family = to->sa.sa_family}};
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = number}};
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (six)
        own.in6.sin6_port = htons(port);
    else
        own.in4.sin_port = htons(port);
    if (bind(fd, &own.sa, six ? sizeof own.in6 : sizeof own.in4) < 0 ||
        connect(fd, &to->sa, six ? sizeof to->in6 : sizeof to->in4) < 0 ||
        epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return give_up(fd);
    return fd;
}

static void close_port(void *ctx, int fd) { close(fd); }

static int ready_ports(void *ctx, uint32_t *numbers, int most)
{
    struct epoll_event events[64];
    int n = epoll_wait(((kernel *)ctx)->epoll, events, most < 64 ? most : 64, 0);
    for (int i = 0; i < n; i++)
        numbers[i] = events[i].data.u32;
    return n < 0 ? -errno : n;
}

static int send_many(void *ctx, int fd, struct mmsghdr *msgs, unsigned n)
{
    int sent = sendmmsg(fd, msgs, n, 0);
    return sent < 0 ? -errno : sent;
}

static int receive_many(void *ctx, int fd, struct mmsghdr *msgs, unsigned n)
{
    int got = recvmmsg(fd, msgs, n, 0, NULL);
    return got < 0 ? -errno : got;
}

static int random_octets(void *ctx, void *out, size_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : -EIO; /* whole up to 256 octets */
}

dns_forward_calls *dns_forward_kernel(void)
{
    kernel *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->epoll = -1;
    k->calls = (dns_forward_calls){k, open_port, close_port, ready_ports, send_many, receive_many, random_octets};
    return &k->calls;
}

int dns_forward_kernel_open(dns_forward_calls *calls)
{
    kernel *k = calls->ctx;
    if (k->epoll < 0)
        k->epoll = epoll_create1(EPOLL_CLOEXEC);
    return k->epoll < 0 ? -errno : k->epoll;
}

void dns_forward_kernel_close(dns_forward_calls *calls)
{
    kernel *k = calls->ctx;
    if (k->epoll >= 0)
        close(k->epoll);
    k->epoll = -1;
}

void dns_forward_kernel_free(dns_forward_calls *calls)
{
    if (calls)
        dns_forward_kernel_close(calls);
    free(calls ? calls->ctx : NULL);
}
