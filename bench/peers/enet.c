/* The shortest libenet server: echoes what comes, or broadcasts 200 bytes for each
 * message that begins with B. Prints "ready PORT". usage: enet [PEERS] */
#include <enet/enet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    enet_initialize();
    ENetAddress at = {.host = ENET_HOST_ANY, .port = 0};
    enet_address_set_host(&at, "127.0.0.1");
    ENetHost *host = enet_host_create(&at, argc > 1 ? (size_t)atoi(argv[1]) : 4095, 2, 0, 0);
    if (!host)
        return 1;
    int size = 4 << 20;
    setsockopt(host->socket, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(host->socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    enet_socket_get_address(host->socket, &at);
    printf("ready %d\n", at.port);
    fflush(stdout);
    ENetEvent e;
    static unsigned char news[200];
    while (enet_host_service(host, &e, 1000) >= 0) {
        if (e.type != ENET_EVENT_TYPE_RECEIVE)
            continue;
        if (e.packet->dataLength && e.packet->data[0] == 'B') {
            enet_host_broadcast(host, 1, enet_packet_create(news, sizeof news, 0));
            enet_packet_destroy(e.packet);
        } else {
            enet_uint32 flags = e.packet->flags & ENET_PACKET_FLAG_RELIABLE;
            enet_peer_send(e.peer, e.channelID, enet_packet_create(e.packet->data, e.packet->dataLength, flags));
            enet_packet_destroy(e.packet);
        }
    }
    return 0;
}
