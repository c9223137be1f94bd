/* A stock libenet client that goes through one script against an echo server and
 * says what went wrong first. usage: enet_client PORT [crc] [coder]
 *
 * Exit 0 and "ok" when: connected with 255 channels; reliable, sequenced and
 * unsequenced messages came back; fragments of both kinds came back, up to 1 MiB;
 * every channel echoed; and the three disconnects ended as they should.
 */
#include <enet/enet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL(...) (printf(__VA_ARGS__), putchar('\n'), exit(1))

static int crc, coder;
static ENetHost *host;
static ENetPeer *peer;

static ENetPacket *await(int channel, int ms)
{
    ENetEvent e;
    while (enet_host_service(host, &e, ms) > 0) {
        if (e.type == ENET_EVENT_TYPE_DISCONNECT)
            FAIL("disconnected with %u while waiting for a message", e.data);
        if (e.type == ENET_EVENT_TYPE_RECEIVE) {
            if (channel >= 0 && e.channelID != channel)
                FAIL("message on channel %d, expected %d", e.channelID, channel);
            return e.packet;
        }
    }
    return NULL;
}

static void join(int port, unsigned data)
{
    ENetAddress to;
    enet_address_set_host(&to, "127.0.0.1");
    to.port = (enet_uint16)port;
    host = enet_host_create(NULL, 1, 255, 0, 0);
    if (crc)
        host->checksum = enet_crc32;
    if (coder)
        enet_host_compress_with_range_coder(host);
    peer = enet_host_connect(host, &to, 255, data);
    ENetEvent e;
    if (enet_host_service(host, &e, 5000) <= 0 || e.type != ENET_EVENT_TYPE_CONNECT)
        FAIL("no connection");
}

static void echo(size_t size, int channel, unsigned flags)
{
    unsigned char *data = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * 7 + i / 251 + size);
    enet_peer_send(peer, (enet_uint8)channel, enet_packet_create(data, size, flags));
    ENetPacket *back = await(channel, 10000);
    if (!back)
        FAIL("no echo of %zu bytes on channel %d, flags %u", size, channel, flags);
    if (back->dataLength != size || memcmp(back->data, data, size))
        FAIL("echo of %zu bytes differs (%zu)", size, back->dataLength);
    enet_packet_destroy(back);
    free(data);
}

static void leave(int how, unsigned data)
{
    if (how == 0)
        enet_peer_disconnect(peer, data);
    else if (how == 1)
        enet_peer_disconnect_later(peer, data);
    else
        enet_peer_disconnect_now(peer, data);
    ENetEvent e;
    if (how < 2) {
        int got = 0;
        while (!got && enet_host_service(host, &e, 3000) > 0) {
            got = e.type == ENET_EVENT_TYPE_DISCONNECT;
            if (e.type == ENET_EVENT_TYPE_RECEIVE)
                enet_packet_destroy(e.packet);
        }
        if (!got)
            FAIL("disconnect %d was not answered", how);
    }
    enet_host_flush(host);
    enet_host_destroy(host);
}

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 7777;
    for (int i = 2; i < argc; i++) {
        crc |= !strcmp(argv[i], "crc");
        coder |= !strcmp(argv[i], "coder");
    }
    enet_initialize();
    join(port, 4242);
    size_t sizes[] = {1, 5, 100, 1300, 1372, 1373, 5000, 70000, 1 << 20};
    /* unreliable ones first: after a burst libenet's own throttle may drop them */
    for (size_t i = 0; i < 5; i++) {
        echo(sizes[i > 3 ? 3 : i], 4, 0);
        echo(sizes[i > 3 ? 3 : i], 5, ENET_PACKET_FLAG_UNSEQUENCED);
    }
    echo(9000, 6, ENET_PACKET_FLAG_UNRELIABLE_FRAGMENT);
    echo(60000, 6, ENET_PACKET_FLAG_UNRELIABLE_FRAGMENT);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        echo(sizes[i], (int)i % 3, ENET_PACKET_FLAG_RELIABLE);
    for (int channel = 0; channel < 255; channel++)
        echo(20 + (size_t)channel, channel, ENET_PACKET_FLAG_RELIABLE);
    leave(0, 11);
    join(port, 1);
    echo(3000, 254, ENET_PACKET_FLAG_RELIABLE);
    enet_peer_send(peer, 0, enet_packet_create("last", 4, ENET_PACKET_FLAG_RELIABLE));
    leave(1, 12);
    join(port, 2);
    echo(10, 0, ENET_PACKET_FLAG_RELIABLE);
    leave(2, 13);
    puts("ok");
    return 0;
}
