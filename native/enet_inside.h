/* enet_inside.h: the structures shared by enet_host.c, enet_half.c,
 * enet_receive.c, enet_send.c and enet_carry.c. Nobody else includes it.
 */
#ifndef EN_INSIDE_H
#define EN_INSIDE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "enet.h"
#include "enet_range.h"

enum {
    EN_WHEEL = 8192, /* slots of 1 ms */
    EN_HALF_OPEN_MS = 5000,
    EN_GUESSES = 16,
    EN_BUCKETS = 8192,
    EN_TIMERS_A_CALL = 1024,
    EN_RTO_MOST = 500,  /* ms; where doubling ends on all but long links */
    EN_RTO_LAST = 10000, /* ms; no timeout is longer: the round trip is what the peer says it is */
    EN_FEW = 4,       /* unacked commands that a peer finds without the map, whose every look misses the cache */
    EN_RTO_SLACK = 20, /* ms above the round trip; stock has none and resends what is merely slow to be acked */
};

typedef struct en_link {
    struct en_link *next, *prev;
} en_link;

static inline void en_list_init(en_link *list) { list->next = list->prev = list; }
static inline int en_list_empty(const en_link *list) { return list->next == list; }
static inline void en_list_add(en_link *list, en_link *item) /* at the end */
{
    item->next = list;
    item->prev = list->prev;
    list->prev->next = item;
    list->prev = item;
}
static inline void en_list_remove(en_link *item)
{
    item->next->prev = item->prev;
    item->prev->next = item->next;
    item->next = item->prev = NULL;
}

/* A command that waits to be sent, or that was sent and waits for its ack. A
 * message that is cut into fragments waits as one, and each fragment that leaves
 * becomes a command of its own. */
typedef struct en_out {
    en_link link; /* first: lists hold these */
    en_peer *peer;
    en_block *payload;
    uint32_t offset, length, charge; /* charge: its part of queued_bytes */
    uint32_t sent, timeout, queued;
    uint32_t order; /* of queueing; of sending while in flight */
    uint32_t count, index;
    uint16_t number, start;
    uint8_t type, flags, channel, sends;
    uint8_t in_flight; /* counted in in_flight_bytes */
} en_out;

/* A piece of a message that came in. */
typedef struct en_piece {
    struct en_piece *next, *prev;
    uint32_t offset, length;
    uint8_t data[];
} en_piece;

/* A message that waits for its turn, whole or in pieces. */
typedef struct en_wait {
    en_link link;
    uint16_t number, unreliable;
    uint32_t length; /* of the message */
    uint32_t count;  /* fragments; 0: whole */
    uint32_t got, bytes;
    uint32_t born;
    en_block *data;  /* whole, or NULL */
    en_block *seen;  /* bitmap of fragments */
    en_piece *first, *last;
} en_wait;

typedef struct en_channel {
    uint16_t out_reliable, out_unreliable;
    uint16_t in_reliable, in_unreliable;
    uint16_t used;         /* bit w: windows[w] is not 0 */
    uint16_t windows[16];  /* unacked commands by number >> 12 */
    uint32_t waiting, waiting_bytes;
    en_link reliable, unreliable; /* en_wait in order */
} en_channel;

typedef struct en_acks {
    struct en_acks *next;
    uint32_t count;
    struct { uint8_t channel; uint16_t number, time; } at[8];
} en_acks;

struct en_peer {
    en_link wheel;        /* first: wheel slots hold these */
    en_link all;          /* the host's list of peers */
    en_link dirty;        /* has something to send */
    tudp_sockaddr address;
    tudp_local local;
    tudp_key key;
    uint64_t hash;        /* of the address */
    void *user;
    uint32_t wheel_at;    /* ms, when in the wheel */
    uint32_t serial;      /* never used twice: the key of its unacked commands */
    uint16_t our_id, their_id;
    uint8_t session_out, session_in;
    uint8_t state, client;
    uint8_t checksum, compress, loopback, joined;
    uint8_t connect_id[4];
    uint8_t in_wheel, acked;
    en_word word;         /* told in the LEAVE row of a close of ours */
    uint32_t code;
    uint32_t user_data;
    uint32_t mtu, window, channels, their_incoming;
    uint32_t connected_at, last_heard, last_ack;
    uint32_t rtt, var, lowest_rtt, highest_var, last_rtt, last_var, epoch, rtt_min, jitter_max;
    uint32_t smooth, spread; /* 8 x round trip and 4 x deviation without rounding: for timeouts */
    uint32_t throttle, throttle_limit, throttle_counter, acceleration, deceleration, interval;
    uint32_t failing_since;
    uint8_t failing, has_epoch, has_resend_at;
    uint32_t resend_at;   /* no command in flight expires before this */
    uint32_t packets_sent, packets_lost, loss, loss_var, loss_epoch;
    uint32_t pass, pass_bytes;
    uint16_t control, group; /* last numbers used */
    uint32_t group_base;
    uint32_t groups_seen[32];
    uint32_t order;
    uint32_t in_flight_bytes, in_flight, queued_bytes, queued_reliable, queued_unreliable;
    en_link control_queue, resend, reliable, unreliable, sent;
    uint32_t few_key[EN_FEW]; /* of its unacked commands the first few; the rest are in the host's map */
    en_out *few[EN_FEW];
    uint32_t mapped;
    en_acks *acks, *acks_last;
    uint32_t ack_count;
    uint32_t groups, group_bytes, waiting_bytes;
    uint32_t full_since;
    uint8_t full, limited, malformed_count;
    uint32_t limited_since, limited_last, malformed_since;
    uint32_t tokens_at, tokens, byte_tokens;
    en_channel **channel; /* by number, made when used */
    en_peer_stats stats;
};

typedef struct en_half {
    tudp_key key;
    uint64_t hash;
    uint8_t connect_id[4];
    uint32_t window, incoming, interval, acceleration, deceleration;
    uint32_t data, born;
    uint32_t bytes_in, bytes_out;
    uint32_t next, prev; /* of the same address; index + 1 */
    uint16_t our_id, their_id, time, mtu;
    uint8_t channels, session_in, session_out;
    uint8_t checksum, compress, used, pinged, guesses; /* guesses: on the first of its address */
} en_half;

struct en_host {
    en_config config;
    en_pool pool;
    en_totals totals;
    uint64_t turn_now; /* ns */
    uint64_t ms;       /* turn_now in ms */
    uint32_t now;      /* the protocol's clock */
    uint32_t next_id, serials;
    uint64_t connect_ids;
    en_map by_id, by_client, by_address, by_prefix, bans, unacked;
    en_link peers, dirty, gone;
    uint32_t peer_count;
    uint64_t reassembly;
    /* half-open */
    en_half *half;
    uint32_t half_next, half_count;
    en_map half_by_id, half_by_address;
    uint64_t half_secret[2][2];
    uint64_t half_secret_at; /* ms */
    struct en_bucket { uint32_t tag, at, tokens; } *bucket;
    /* timers */
    uint32_t wheel_now;
    en_link wheel[EN_WHEEL];
    uint64_t wheel_used[EN_WHEEL / 64], wheel_words[EN_WHEEL / 4096]; /* bits: slots, words of those */
    uint32_t timed;
    /* events */
    en_event *event;
    uint32_t event_count, event_room;
    en_block **held; /* payloads that the turn's datagrams still point at */
    uint32_t held_count, held_room;
    en_range *coder;
    uint8_t scratch[2 * EN_MTU_MOST];
};

static inline int en_before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
#define EN_OF(type, member, pointer) ((type *)((char *)(pointer)-offsetof(type, member)))

/* enet_host.c */
void en_begin(en_host *h, uint64_t now);
/* Memory for so many rows that are no LEAVE. 0 or -1. */
int en_event_rows(en_host *h, uint32_t more);
en_event *en_event_add(en_host *h, en_peer *p, int kind);
uint64_t en_hash_key(const uint64_t secret[2], const tudp_key *key);
en_peer *en_find(en_host *h, const tudp_key *key, uint64_t hash, uint16_t our_id);
en_peer *en_peer_new(en_host *h, const tudp_key *key, uint64_t hash, uint16_t our_id, const tudp_sockaddr *address,
                     const tudp_local *local);
int en_peer_index(en_host *h, en_peer *p); /* after their_id is known; -1: no memory */
en_peer *en_find_client(en_host *h, const tudp_key *key, uint64_t hash, uint16_t their_id);
void en_peer_gone(en_host *h, en_peer *p, en_word word, uint32_t code, int by_peer);
en_channel *en_channel_of(en_host *h, en_peer *p, uint8_t channel);
void en_schedule(en_host *h, en_peer *p, uint32_t at);
void en_dirty(en_host *h, en_peer *p);
int en_prefix_full(en_host *h, const tudp_key *key);
int en_is_loopback(const tudp_key *key);
int en_banned(en_host *h, const tudp_key *key);
uint32_t en_window_for(uint32_t outgoing, uint32_t incoming);
/* Ends a peer that broke a cap: one DISCONNECT with our code, and the row. */
void en_expel(en_host *h, tudp_turn *turn, en_peer *p, en_word word);
/* Undoes compression and the checksum. 0 and the commands; -1: they are none; 1: no memory.
 * `owner` is the block that holds them when they were compressed. */
int en_open(en_host *h, const en_header *head, const uint8_t *data, uint32_t len, int checksum,
            const uint8_t connect_id[4], const uint8_t **commands, uint32_t *size, en_block **owner);

/* enet_half.c */
int en_half_init(en_host *h);
void en_half_end(en_host *h);
int en_half_connect(en_host *h, tudp_turn *turn, const uint8_t *data, uint32_t len, const en_header *head,
                    const tudp_key *key, uint64_t hash, const tudp_sockaddr *from, const tudp_local *local);
/* A datagram that belongs to no peer. Gives the new peer when it proves an
 * address, else a verdict. */
int en_half_take(en_host *h, tudp_turn *turn, const uint8_t *data, uint32_t len, const en_header *head,
                 const tudp_key *key, uint64_t hash, const tudp_sockaddr *from, const tudp_local *local,
                 en_peer **proven);

/* enet_receive.c */
/* Acts on commands. 0: all, 1: stopped without fault, -1: stopped at a fault. */
int en_receive(en_host *h, tudp_turn *turn, en_peer *p, const en_header *head, const uint8_t *commands, uint32_t size,
               en_block *owner);
void en_channel_end(en_host *h, en_peer *p, en_channel *c);

/* enet_send.c */
en_out *en_out_new(en_host *h, en_peer *p, uint8_t type, uint8_t flags, uint8_t channel);
void en_out_free(en_host *h, en_out *out);
int en_track(en_host *h, en_out *out); /* -1: no memory */
en_out *en_control(en_host *h, en_peer *p, uint8_t type, uint8_t flags);
void en_ack(en_host *h, en_peer *p, uint8_t channel, uint16_t number, uint16_t time);
/* Takes an ack; returns the type of the command that it removed, or 0. */
int en_acked(en_host *h, en_peer *p, uint8_t channel, uint16_t number);
void en_timer(en_host *h, tudp_turn *turn, en_peer *p);
/* A round trip was measured: `first` of a connection or a later one. */
static inline void en_smooth(en_peer *p, uint32_t sample, int first)
{
    if (first) {
        p->smooth = 8 * sample;
        p->spread = 2 * sample;
        return;
    }
    uint32_t trip = p->smooth / 8, away = sample > trip ? sample - trip : trip - sample;
    p->smooth += sample - trip;
    p->spread += away - p->spread / 4;
}
void en_queues_end(en_host *h, en_peer *p);
void en_say_now(en_host *h, tudp_turn *turn, en_peer *p, const en_command *command);
/* One datagram of commands in place at `at` behind its header; checksum and coder
 * applied. Returns its length. */
uint32_t en_seal(en_host *h, uint8_t *at, uint32_t header, uint32_t len, int checksum, const uint8_t connect_id[4],
                 int compress);

#endif
