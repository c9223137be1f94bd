/* enet_wire.h: ENet 1.3 on the wire: the datagram header, the twelve commands,
 * the checksum. Big-endian, no padding. Pure functions over byte ranges; called by
 * enet.c, the binding and the fuzz targets. No allocation.
 */
#ifndef EN_WIRE_H
#define EN_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
    EN_ACKNOWLEDGE = 1,
    EN_CONNECT,
    EN_VERIFY_CONNECT,
    EN_DISCONNECT,
    EN_PING,
    EN_SEND_RELIABLE,
    EN_SEND_UNRELIABLE,
    EN_SEND_FRAGMENT,
    EN_SEND_UNSEQUENCED,
    EN_BANDWIDTH_LIMIT,
    EN_THROTTLE_CONFIGURE,
    EN_SEND_UNRELIABLE_FRAGMENT,
    EN_TYPES,

    EN_FLAG_ACK = 0x80,
    EN_FLAG_UNSEQUENCED = 0x40,

    EN_SENT_TIME = 0x8000,
    EN_COMPRESSED = 0x4000,
    EN_NO_ID = 0xfff,
    EN_CONTROL = 0xff,

    EN_MTU_LEAST = 576,
    EN_MTU_MOST = 4096,
    EN_MTU = 1392,
    EN_WINDOW_LEAST = 4096,
    EN_WINDOW_MOST = 65536,
    EN_COMMANDS_MOST = 32,
    EN_FRAGMENTS_MOST = 1048576,
};

typedef struct en_header {
    uint16_t id;
    uint16_t time;
    uint8_t session;
    uint8_t timed;
    uint8_t compressed;
    uint8_t size; /* 2 or 4; the checksum is not counted */
} en_header;

/* The fields of CONNECT and VERIFY_CONNECT. `connect_id` is 4 opaque bytes. */
typedef struct en_greeting {
    uint16_t peer_id;
    uint8_t incoming_session, outgoing_session;
    uint32_t mtu, window, channels, incoming, outgoing;
    uint32_t interval, acceleration, deceleration;
    uint8_t connect_id[4];
    uint32_t data; /* CONNECT only */
} en_greeting;

typedef struct en_command {
    uint8_t type;  /* 1..12 */
    uint8_t flags; /* EN_FLAG_ACK | EN_FLAG_UNSEQUENCED */
    uint8_t channel;
    uint16_t number;
    union {
        struct { uint16_t number, time; } ack;
        en_greeting greeting;
        uint32_t reason; /* DISCONNECT */
        struct { uint32_t incoming, outgoing; } bandwidth;
        struct { uint32_t interval, acceleration, deceleration; } throttle;
        struct {
            uint16_t start; /* unreliable number, group, or number of fragment 0 */
            uint32_t count, index, total, offset;
        } send;
    } u;
    const uint8_t *data; /* of the sending commands, inside the datagram */
    uint32_t length;
} en_command;

/* Bytes of each command without its data, by type; 0 for unknown types. */
extern const uint8_t en_command_size[16];

static inline uint16_t en_get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t en_get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint8_t *en_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}
static inline uint8_t *en_put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
    return p + 4;
}

/* 0, or -1 when the datagram is shorter than its own header. */
int en_header_read(const uint8_t *data, size_t len, en_header *out);

/* Writes the header (2 or 4 bytes) and returns its end. */
uint8_t *en_header_write(uint8_t *to, uint16_t id, uint8_t session, int timed, uint16_t time);

/* Reads the command at `data`. Returns the bytes it takes, its data included, or
 * -1: too short, unknown type, or data beyond the end. Judges no other field. */
long en_command_read(const uint8_t *data, size_t left, en_command *out);

/* Writes a command without its data and returns its end. `to` has 48 bytes. */
uint8_t *en_command_write(uint8_t *to, const en_command *command);

/* zlib's crc32: start with 0, feed ranges in order. */
uint32_t en_crc32(uint32_t crc, const uint8_t *data, size_t len);

/* The checksum of a datagram whose field at `at` counts as `connect_id`. */
uint32_t en_checksum(const uint8_t *header, size_t header_size, const uint8_t connect_id[4],
                     const uint8_t *commands, size_t len);

#endif
