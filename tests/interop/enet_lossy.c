/* A libenet client speaks to an echo server through a relay that loses 10 %, doubles
 * 5 % and reorders 5 % of the datagrams in both directions, by a seed.
 * usage: enet_lossy PORT SEED COUNT. Prints what came back:
 *   reliable COUNT DIGEST sequenced N unsequenced N
 * and exits 1 when a reliable message is missing, twice or out of order, a sequenced
 * one late or twice, or an unsequenced one twice.
 */
#include <arpa/inet.h>
#include <enet/enet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FAIL(...) (printf(__VA_ARGS__), putchar('\n'), exit(1))
enum { HELD = 512 };

static uint64_t state;
static uint32_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}
static int chance(double p) { return draw() < p * 4294967296.0; }

static struct {
    int fd;
    size_t len;
    struct sockaddr_in to;
    uint64_t at;
    unsigned char data[1500];
} held[HELD];
static int held_count;
static int front, back;
static struct sockaddr_in client, server;

static uint64_t ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pass(int fd, const unsigned char *data, size_t len, const struct sockaddr_in *to)
{
    if (chance(0.10))
        return;
    int copies = 1 + chance(0.05);
    for (int i = 0; i < copies; i++) {
        if (chance(0.05) && held_count < HELD) {
            int h = held_count++;
            held[h].fd = fd;
            held[h].len = len;
            held[h].to = *to;
            held[h].at = ms() + 2 + draw() % 10;
            memcpy(held[h].data, data, len);
        } else {
            sendto(fd, data, len, 0, (const struct sockaddr *)to, sizeof *to);
        }
    }
}

static void relay(void)
{
    unsigned char data[1500];
    socklen_t size = sizeof client;
    ssize_t n;
    while ((n = recvfrom(front, data, sizeof data, 0, (struct sockaddr *)&client, &size)) > 0)
        pass(back, data, (size_t)n, &server);
    while ((n = recv(back, data, sizeof data, 0)) > 0)
        pass(front, data, (size_t)n, &client);
    uint64_t now = ms();
    for (int i = 0; i < held_count;) {
        if (held[i].at > now) {
            i++;
            continue;
        }
        sendto(held[i].fd, held[i].data, held[i].len, 0, (struct sockaddr *)&held[i].to, sizeof held[i].to);
        held[i] = held[--held_count];
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    state = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
    long count = atol(argv[3]);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    front = socket(AF_INET, SOCK_DGRAM, 0);
    back = socket(AF_INET, SOCK_DGRAM, 0);
    bind(front, (struct sockaddr *)&at, sizeof at);
    bind(back, (struct sockaddr *)&at, sizeof at);
    getsockname(front, (struct sockaddr *)&at, &size);
    fcntl(front, F_SETFL, O_NONBLOCK);
    fcntl(back, F_SETFL, O_NONBLOCK);

    enet_initialize();
    ENetHost *host = enet_host_create(NULL, 1, 3, 0, 0);
    ENetAddress to = {.host = htonl(INADDR_LOOPBACK), .port = ntohs(at.sin_port)};
    ENetPeer *peer = enet_host_connect(host, &to, 3, 0);
    long sent = 0, reliable = 0, sequenced = 0, unsequenced = 0;
    uint32_t last = 0;
    uint64_t digest = 14695981039346656037u, quiet = ms();
    unsigned char *seen = calloc(1, (size_t)count + 1);
    int connected = 0;
    while (ms() - quiet < 3000 || reliable < count) {
        ENetEvent e;
        if (ms() - quiet > 20000)
            FAIL("nothing for 20 s after %ld of %ld reliable messages", reliable, count);
        relay();
        while (enet_host_service(host, &e, 0) > 0) {
            quiet = ms();
            if (e.type == ENET_EVENT_TYPE_CONNECT)
                connected = 1;
            else if (e.type == ENET_EVENT_TYPE_DISCONNECT)
                FAIL("disconnected after %ld of %ld reliable messages", reliable, count);
            else if (e.type == ENET_EVENT_TYPE_RECEIVE) {
                uint32_t n;
                memcpy(&n, e.packet->data, 4);
                if (e.channelID == 0) {
                    if (n != (uint32_t)reliable)
                        FAIL("reliable message %u came when %ld was next", n, reliable);
                    reliable++;
                    for (size_t i = 0; i < e.packet->dataLength; i++)
                        digest = (digest ^ e.packet->data[i]) * 1099511628211u;
                } else if (e.channelID == 1) {
                    if (n <= last)
                        FAIL("sequenced message %u came after %u", n, last);
                    last = n;
                    sequenced++;
                } else {
                    if (seen[n]++)
                        FAIL("unsequenced message %u came twice", n);
                    unsequenced++;
                }
                enet_packet_destroy(e.packet);
            }
        }
        if (connected && sent < count && sent - reliable < 200) {
            unsigned char body[600];
            uint32_t n = (uint32_t)sent++;
            memset(body, (int)n, sizeof body);
            memcpy(body, &n, 4);
            size_t len = n % 100 == 7 ? sizeof body : 4 + n % 40;
            enet_peer_send(peer, 0, enet_packet_create(body, len, ENET_PACKET_FLAG_RELIABLE));
            n++;
            memcpy(body, &n, 4);
            enet_peer_send(peer, 1, enet_packet_create(body, 8, 0));
            n--;
            memcpy(body, &n, 4);
            enet_peer_send(peer, 2, enet_packet_create(body, 8, ENET_PACKET_FLAG_UNSEQUENCED));
        }
        if (sent == count || sent - reliable >= 200)
            usleep(200);
    }
    printf("reliable %ld %016llx sequenced %ld unsequenced %ld\n", reliable, (unsigned long long)digest, sequenced,
           unsequenced);
    return 0;
}
