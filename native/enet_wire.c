/* enet_wire.c: see enet_wire.h. */
#include "enet_wire.h"

#include <string.h>

const uint8_t en_command_size[16] = {0, 8, 48, 44, 8, 4, 6, 8, 24, 8, 12, 16, 24, 0, 0, 0};

int en_header_read(const uint8_t *data, size_t len, en_header *out)
{
    if (len < 2)
        return -1;
    uint16_t word = en_get16(data);
    out->id = word & 0xfff;
    out->session = word >> 12 & 3;
    out->timed = (word & EN_SENT_TIME) != 0;
    out->compressed = (word & EN_COMPRESSED) != 0;
    out->size = out->timed ? 4 : 2;
    if (len < out->size)
        return -1;
    out->time = out->timed ? en_get16(data + 2) : 0;
    return 0;
}

uint8_t *en_header_write(uint8_t *to, uint16_t id, uint8_t session, int timed, uint16_t time)
{
    to = en_put16(to, (uint16_t)(id | session << 12 | (timed ? EN_SENT_TIME : 0)));
    return timed ? en_put16(to, time) : to;
}

static void read_greeting(const uint8_t *p, en_greeting *g, int connect)
{
    g->peer_id = en_get16(p + 4);
    g->incoming_session = p[6];
    g->outgoing_session = p[7];
    g->mtu = en_get32(p + 8);
    g->window = en_get32(p + 12);
    g->channels = en_get32(p + 16);
    g->incoming = en_get32(p + 20);
    g->outgoing = en_get32(p + 24);
    g->interval = en_get32(p + 28);
    g->acceleration = en_get32(p + 32);
    g->deceleration = en_get32(p + 36);
    memcpy(g->connect_id, p + 40, 4);
    g->data = connect ? en_get32(p + 44) : 0;
}

static uint8_t *write_greeting(uint8_t *to, const en_greeting *g, int connect)
{
    to = en_put16(to, g->peer_id);
    *to++ = g->incoming_session;
    *to++ = g->outgoing_session;
    to = en_put32(to, g->mtu);
    to = en_put32(to, g->window);
    to = en_put32(to, g->channels);
    to = en_put32(to, g->incoming);
    to = en_put32(to, g->outgoing);
    to = en_put32(to, g->interval);
    to = en_put32(to, g->acceleration);
    to = en_put32(to, g->deceleration);
    memcpy(to, g->connect_id, 4);
    to += 4;
    return connect ? en_put32(to, g->data) : to;
}

long en_command_read(const uint8_t *p, size_t left, en_command *out)
{
    if (left < 4)
        return -1;
    out->type = p[0] & 0x0f;
    size_t size = en_command_size[out->type];
    if (size == 0 || size > left)
        return -1;
    out->flags = p[0] & (EN_FLAG_ACK | EN_FLAG_UNSEQUENCED);
    out->channel = p[1];
    out->number = en_get16(p + 2);
    out->data = p + size;
    out->length = 0;
    switch (out->type) {
    case EN_ACKNOWLEDGE:
        out->u.ack.number = en_get16(p + 4);
        out->u.ack.time = en_get16(p + 6);
        return (long)size;
    case EN_CONNECT:
    case EN_VERIFY_CONNECT:
        read_greeting(p, &out->u.greeting, out->type == EN_CONNECT);
        return (long)size;
    case EN_DISCONNECT:
        out->u.reason = en_get32(p + 4);
        return (long)size;
    case EN_PING:
        return (long)size;
    case EN_BANDWIDTH_LIMIT:
        out->u.bandwidth.incoming = en_get32(p + 4);
        out->u.bandwidth.outgoing = en_get32(p + 8);
        return (long)size;
    case EN_THROTTLE_CONFIGURE:
        out->u.throttle.interval = en_get32(p + 4);
        out->u.throttle.acceleration = en_get32(p + 8);
        out->u.throttle.deceleration = en_get32(p + 12);
        return (long)size;
    case EN_SEND_RELIABLE:
        out->u.send.start = 0;
        out->length = en_get16(p + 4);
        break;
    case EN_SEND_FRAGMENT:
    case EN_SEND_UNRELIABLE_FRAGMENT:
        out->u.send.count = en_get32(p + 8);
        out->u.send.index = en_get32(p + 12);
        out->u.send.total = en_get32(p + 16);
        out->u.send.offset = en_get32(p + 20);
        /* fall through */
    default: /* SEND_UNRELIABLE, SEND_UNSEQUENCED */
        out->u.send.start = en_get16(p + 4);
        out->length = en_get16(p + 6);
    }
    if (out->length > left - size)
        return -1;
    return (long)(size + out->length);
}

uint8_t *en_command_write(uint8_t *to, const en_command *c)
{
    *to++ = c->type | c->flags;
    *to++ = c->channel;
    to = en_put16(to, c->number);
    switch (c->type) {
    case EN_ACKNOWLEDGE:
        to = en_put16(to, c->u.ack.number);
        return en_put16(to, c->u.ack.time);
    case EN_CONNECT:
    case EN_VERIFY_CONNECT:
        return write_greeting(to, &c->u.greeting, c->type == EN_CONNECT);
    case EN_DISCONNECT:
        return en_put32(to, c->u.reason);
    case EN_BANDWIDTH_LIMIT:
        to = en_put32(to, c->u.bandwidth.incoming);
        return en_put32(to, c->u.bandwidth.outgoing);
    case EN_THROTTLE_CONFIGURE:
        to = en_put32(to, c->u.throttle.interval);
        to = en_put32(to, c->u.throttle.acceleration);
        return en_put32(to, c->u.throttle.deceleration);
    case EN_SEND_RELIABLE:
        return en_put16(to, (uint16_t)c->length);
    case EN_SEND_FRAGMENT:
    case EN_SEND_UNRELIABLE_FRAGMENT:
        to = en_put16(to, c->u.send.start);
        to = en_put16(to, (uint16_t)c->length);
        to = en_put32(to, c->u.send.count);
        to = en_put32(to, c->u.send.index);
        to = en_put32(to, c->u.send.total);
        return en_put32(to, c->u.send.offset);
    case EN_SEND_UNRELIABLE:
    case EN_SEND_UNSEQUENCED:
        to = en_put16(to, c->u.send.start);
        return en_put16(to, (uint16_t)c->length);
    default: /* PING */
        return to;
    }
}

/* Four bytes at a step, by four tables made at load time. */
static uint32_t crc_table[4][256];

__attribute__((constructor)) static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        crc_table[0][i] = c;
    }
    for (int t = 1; t < 4; t++)
        for (uint32_t i = 0; i < 256; i++)
            crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 0xff];
}

uint32_t en_crc32(uint32_t crc, const uint8_t *p, size_t len)
{
    uint32_t c = ~crc;
    for (; len >= 4; len -= 4, p += 4) {
        c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        c = crc_table[3][c & 0xff] ^ crc_table[2][c >> 8 & 0xff] ^ crc_table[1][c >> 16 & 0xff] ^ crc_table[0][c >> 24];
    }
    for (; len; len--, p++)
        c = c >> 8 ^ crc_table[0][(c ^ *p) & 0xff];
    return ~c;
}

uint32_t en_checksum(const uint8_t *header, size_t header_size, const uint8_t connect_id[4],
                     const uint8_t *commands, size_t len)
{
    uint32_t crc = en_crc32(0, header, header_size);
    crc = en_crc32(crc, connect_id, 4);
    return en_crc32(crc, commands, len);
}
