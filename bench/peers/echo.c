/* echo.c: the peer to beat. A UDP echo that does nothing but echo: recvmmsg,
 * sendmmsg, batches of 64, one thread, blocking. With `gso` the replies of one
 * batch that go to one client leave as one UDP_SEGMENT message.
 *
 *   bench/build/echo PORT [gso]       binds 127.0.0.1, prints "ready PORT"
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define BATCH 64
#define SLOT 2112 /* not a multiple of 4096: slots shall not share cache sets */

static uint8_t slots[BATCH][SLOT];
static struct mmsghdr in[BATCH], out[BATCH];
static struct iovec in_iov[BATCH], out_iov[BATCH];
static struct sockaddr_in from[BATCH];
static union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(uint16_t))]; } control[BATCH];

static void send_all(int fd, struct mmsghdr *msgs, int n)
{
    for (int done = 0; done < n;) {
        int sent = sendmmsg(fd, msgs + done, (unsigned)(n - done), 0);
        if (sent > 0)
            done += sent;
        else if (errno != EINTR)
            done++;
    }
}

/* Replies to one client and of one size become one message. Returns how many messages. */
static int group(int n)
{
    uint8_t taken[BATCH] = {0};
    int messages = 0, iov = 0;
    for (int i = 0; i < n; i++) {
        if (taken[i])
            continue;
        struct msghdr *m = &out[messages].msg_hdr;
        int first = iov, len = (int)in[i].msg_len;
        for (int k = i; k < n; k++) {
            if (taken[k] || (int)in[k].msg_len != len || from[k].sin_port != from[i].sin_port ||
                from[k].sin_addr.s_addr != from[i].sin_addr.s_addr || (iov - first + 1) * len > 65507)
                continue;
            taken[k] = 1;
            out_iov[iov++] = (struct iovec){slots[k], (size_t)len};
        }
        *m = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i],
                             .msg_iov = out_iov + first, .msg_iovlen = (size_t)(iov - first)};
        if (iov - first > 1) {
            struct cmsghdr *c = &control[messages].align;
            uint16_t size = (uint16_t)len;
            *c = (struct cmsghdr){.cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof size)};
            memcpy(CMSG_DATA(c), &size, sizeof size);
            m->msg_control = c;
            m->msg_controllen = CMSG_SPACE(sizeof size);
        }
        messages++;
    }
    return messages;
}

int main(int argc, char **argv)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int gso = argc > 2 && strcmp(argv[2], "gso") == 0, size = 4 << 20, fd = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t len = sizeof here;
    here.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) != 0) {
        perror("echo");
        return 3;
    }
    getsockname(fd, (struct sockaddr *)&here, &len);
    printf("ready %d\n", ntohs(here.sin_port));
    fflush(stdout);
    for (int i = 0; i < BATCH; i++) {
        in_iov[i] = (struct iovec){slots[i], SLOT};
        in[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_iov = &in_iov[i], .msg_iovlen = 1};
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++)
            in[i].msg_hdr.msg_namelen = sizeof from[i];
        int n = recvmmsg(fd, in, BATCH, MSG_WAITFORONE, NULL);
        if (n <= 0)
            continue;
        if (gso) {
            send_all(fd, out, group(n));
            continue;
        }
        for (int i = 0; i < n; i++) {
            out_iov[i] = (struct iovec){slots[i], in[i].msg_len};
            out[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i],
                                             .msg_iov = &out_iov[i], .msg_iovlen = 1};
        }
        send_all(fd, out, n);
    }
}
