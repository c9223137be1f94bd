/* enet.h: an ENet 1.3 host, both roles, without a socket.
 *
 * Datagrams and a time come in through en_take, en_due and en_flush; datagrams
 * leave through the turn's call table; joins, messages and leaves are rows of an
 * event array. The same functions serve the native stage, the Python sans-io
 * face, plain C tests and the fuzzer. One thread; no allocation per packet once
 * the pools have grown. Wire: enet_wire.h.
 */
#ifndef EN_H
#define EN_H

#include "enet_memory.h"
#include "enet_wire.h"
#include "tudp.h"

enum { EN_RELIABLE = 0, EN_SEQUENCED = 1, EN_UNSEQUENCED = 2 };

enum { EN_IDLE, EN_CONNECTING, EN_CONNECTED, EN_DRAINING, EN_CLOSING, EN_GONE };

/* Why a connection ended. The order is that of peers/peer.py. */
typedef enum en_word {
    EN_LEFT,
    EN_TIMEOUT,
    EN_KICKED,
    EN_BANNED,
    EN_SLOW,
    EN_FLOOD,
    EN_HOARDING,
    EN_TOO_BIG,
    EN_BAD, /* "malformed" */
    EN_REPLACED,
    EN_REFUSED,
    EN_FULL,
    EN_STOPPING,
    EN_WORDS
} en_word;

/* Reasons on the wire that are ours; games use 0..0x7fffffff. */
enum {
    EN_CODE_FULL = (int)0xffffff01,
    EN_CODE_BANNED,
    EN_CODE_REFUSED,
    EN_CODE_SLOW,
    EN_CODE_FLOOD,
    EN_CODE_HOARDING,
    EN_CODE_TOO_BIG,
    EN_CODE_MALFORMED,
    EN_CODE_STOPPING,
    EN_CODE_KICKED
};

/* All sizes in bytes, times in ms, rates per second; 0 of a rate is "no limit". */
typedef struct en_config {
    uint64_t secret[2]; /* random; keys every hash and seeds the connect ids */
    uint64_t memory;    /* at 80 % of it connections are refused, at 95 % unreliable data is shed */
    uint64_t reassembly_bytes;
    uint32_t max_peers, per_prefix;
    uint32_t half_open; /* entries for addresses that have not proven themselves */
    uint32_t channels, mtu;
    uint32_t max_message, max_fragments, max_groups, group_bytes;
    uint32_t max_waiting, waiting_bytes, queue_bytes, queue_age;
    uint32_t max_acks, rate, byte_rate, max_malformed;
    uint32_t ping;
    uint32_t clock;     /* added to the ms clock: tests start it near its wrap */
    uint8_t checksum;   /* 0 never, 1 always, 2 as the client does */
    uint8_t compress;   /* a client that compresses from its first datagram */
    uint8_t accept;     /* answers CONNECT */
    uint8_t silent;     /* refuses without a word */
    uint8_t limit_loopback;
} en_config;

void en_config_default(en_config *config);

/* Of one peer, since it joined. */
typedef struct en_peer_stats {
    uint64_t datagrams_in, datagrams_out, bytes_in, bytes_out;
    uint64_t messages_in[3], messages_out[3];
    uint32_t resent, given_up, duplicates, old_numbers, out_of_order;
    uint32_t dropped_throttle, dropped_queue, dropped_limited;
    uint32_t compressed_in, compressed_out, malformed;
    uint64_t plain_out, coded_out; /* bytes before and after the coder */
} en_peer_stats;

typedef struct en_host en_host;
typedef struct en_peer en_peer;

enum { EN_EVENT_JOIN, EN_EVENT_MESSAGE, EN_EVENT_LEAVE };

typedef struct en_event {
    en_peer *peer; /* stands until en_events_done */
    const uint8_t *data;
    en_block *owner; /* NULL: `data` lies in the datagram, good until the turn ends */
    uint32_t length;
    uint32_t code; /* LEAVE: the reason; JOIN: user data */
    uint8_t kind, channel, delivery;
    uint8_t word;  /* LEAVE: en_word */
    uint8_t by_peer;
    uint8_t joined; /* LEAVE: there was a JOIN */
    uint8_t ends;  /* the last row of a datagram, which is then counted */
} en_event;

/* Of the whole host. */
typedef struct en_totals {
    uint64_t joins, leaves, connects, answered, refused, proofs, guesses, half_dropped, pings_for_proof;
    uint64_t datagrams_in, datagrams_out, bytes_in, bytes_out;
    uint64_t unproven_in, unproven_out; /* bytes from and to addresses without proof */
    uint64_t acks_in, acks_out, messages_in, messages_out, resent, shed, over_commands;
} en_totals;

en_host *en_host_new(const en_config *config); /* NULL: out of memory */
void en_host_free(en_host *host);
/* The limits of another config from now on; secret, clock, table sizes and what peers
 * have agreed on stay. */
void en_host_limits(en_host *host, const en_config *config);
const en_config *en_host_config(const en_host *host);

/* One datagram. Returns what a stage's take() returns; HELD when it made events,
 * of which the last has `ends` set. `data` must stay until the events are done. */
int en_take(en_host *host, tudp_turn *turn, const uint8_t *data, uint32_t len, const tudp_sockaddr *from,
            const tudp_local *local);
/* Runs timers that are due at turn->now, at most 1,024 peers a call. */
void en_due(en_host *host, tudp_turn *turn);
/* Builds datagrams for every peer that has something to say. */
void en_flush(en_host *host, tudp_turn *turn);
/* CLOCK_MONOTONIC ns of the next timer, the last turn's time when there is work
 * left, or TUDP_NEVER. */
uint64_t en_deadline(const en_host *host);

/* Rows stand until en_events_done; handlers may add some while they are read. */
uint32_t en_event_count(const en_host *host);
en_event *en_event_at(en_host *host, uint32_t index);
void en_events_done(en_host *host);

/* Opens a connection as a client. NULL: no memory or no id left. */
en_peer *en_connect(en_host *host, uint64_t now, const tudp_sockaddr *to, uint32_t channels, uint32_t data);

enum { EN_TOO_LONG = -1, EN_BAD_CHANNEL = -2, EN_CLOSED = -3, EN_NO_MEMORY = -4 };
/* Queues `payload`, of which it takes a reference of its own. 1: queued, 0: the
 * queue dropped it (a reliable one also ends the peer as `slow`), or an error. */
int en_send(en_host *host, en_peer *peer, en_block *payload, uint8_t channel, uint8_t delivery, int fragment);
en_block *en_payload(en_host *host, const uint8_t *data, uint32_t len);
void en_payload_drop(en_host *host, en_block *payload);

enum { EN_CLOSE_NOW, EN_CLOSE, EN_CLOSE_DRAINED };
/* Ends a connection: at once with one unacknowledged DISCONNECT, with an
 * acknowledged one, or with that after all that is queued has arrived. The LEAVE
 * row carries `word` and comes when it has ended. */
void en_close(en_host *host, en_peer *peer, int how, uint32_t code, en_word word);

/* A peer that has joined us, as bytes for another process of this machine: writes them to `out` if they fit `room`
 * and returns how many they are; 0: it cannot be carried. NULL and 0 only count. */
uint64_t en_peer_save(en_host *host, en_peer *peer, uint8_t *out, uint64_t room);
/* That peer, with all that is queued, under way and waiting; it makes no JOIN row. NULL: these are no bytes of this
 * version, its place is taken, or no memory. */
en_peer *en_peer_load(en_host *host, uint64_t now, const uint8_t *data, uint64_t len);
/* Ends a peer without a word to anybody: no row, no datagram. Between turns only. */
void en_peer_forget(en_host *host, en_peer *peer);

/* Datagrams of the address are `denied` until `until` (ns; 0 lifts the ban). */
int en_ban(en_host *host, const uint8_t ip[16], uint64_t until);

const en_totals *en_host_totals(const en_host *host);
uint32_t en_host_peers(const en_host *host);
uint32_t en_host_half_open(const en_host *host);
uint64_t en_host_memory(const en_host *host);

/* What is to be known of a peer. */
typedef struct en_peer_view {
    uint32_t rtt, rtt_variance, rtt_min, jitter_max, loss, loss_variance, throttle, mtu, window, channels;
    uint32_t in_flight_bytes, in_flight_commands, queued_reliable, queued_unreliable, queued_bytes;
    uint32_t queue_age, oldest_unacked, fragments_open, fragment_bytes, waiting_bytes;
    uint32_t idle, connected, user_data, max_unreliable;
    uint16_t our_id, their_id;
    uint8_t state, checksum, compress, connect_id[4];
    tudp_sockaddr address;
    tudp_key key;
    en_peer_stats stats;
} en_peer_view;

void en_peer_look(const en_host *host, const en_peer *peer, en_peer_view *out);
void *en_peer_user(const en_peer *peer);
void en_peer_set_user(en_peer *peer, void *user);
int en_peer_state(const en_peer *peer);

#endif
