/* The shortest libenet echo server: each message on its channel, with its delivery.
 * Prints "ready PORT". */
#include <enet/enet.h>
#include <stdio.h>

int main(void)
{
    enet_initialize();
    ENetAddress at = {.port = 0};
    enet_address_set_host(&at, "127.0.0.1");
    ENetHost *host = enet_host_create(&at, 32, 255, 0, 0);
    if (!host)
        return 1;
    enet_socket_get_address(host->socket, &at);
    printf("ready %d\n", at.port);
    fflush(stdout);
    ENetEvent e;
    while (enet_host_service(host, &e, 1000) >= 0) {
        if (e.type != ENET_EVENT_TYPE_RECEIVE)
            continue;
        enet_uint32 flags = e.packet->flags & (ENET_PACKET_FLAG_RELIABLE | ENET_PACKET_FLAG_UNSEQUENCED);
        enet_peer_send(e.peer, e.channelID, enet_packet_create(e.packet->data, e.packet->dataLength, flags));
        enet_packet_destroy(e.packet);
    }
    return 0;
}
