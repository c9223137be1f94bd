/* A forwarder at its edges: whom it asks, ports and numbers that cannot be had, replies of every oddity, clients too
 * late, answers that are not kept, no room. */
#include "forward_net.h"
#include "refuse.h"

/* A question of any form: its octets go behind the header. */
static int ask_of(dns_forward *f, const char *name, size_t len, int qtype, unsigned flags, int dnssec, uint16_t view)
{
    uint8_t msg[600] = {0, 9};
    dns_query q;
    dns_client client = {.ip_len = 4};
    dns_put16(msg + 2, DNS_RD | flags);
    msg[5] = 1;
    memcpy(msg + 12, name, len);
    dns_put16(msg + 12 + len, (uint32_t)qtype);
    msg[15 + len] = 1;
    size_t n = 16 + len;
    if (dnssec) {
        msg[11] = 1;
        memcpy(msg + n, "\0\0\x29\4\xd0\0\0\x80\0\0\0", 11);
        n += 11;
        if (dnssec == 2) { /* with a cookie */
            msg[n - 1] = 12;
            memcpy(msg + n, "\0\x0a\0\x08" "abcdefgh", 12);
            n += 12;
        }
    }
    tudp_slot slot = {.data = msg, .len = (uint32_t)n};
    assert(dns_query_parse(msg, n, &server.key, &q) == 0);
    if (!dns_forward_takes(f, &q))
        return 0;
    return dns_forward_ask(f, &turn, &slot, &client, &q, view);
}

#define NAME "\3www\4test"
#define ASK(f, qtype, flags, dnssec, view) ask_of(f, NAME, sizeof NAME, qtype, flags, dnssec, view)

static void there_are_only_so_many_upstreams_and_each_way_to_choose(void)
{
    dns_forward *f = made("", 1, DNS_FORWARD_UPSTREAMS);
    tudp_sockaddr to = {.in4.sin_family = AF_INET};
    unsigned seen[4] = {0};
    assert(dns_forward_add(f, &to) == -1);
    dns_forward_free(NULL);
    for (int i = 0; i < DNS_FORWARD_UPSTREAMS; i++)
        f->upstream[i].usable = i < 4;
    f->upstream[0].rtt = 900, f->upstream[1].rtt = 100, f->upstream[2].rtt = 500, f->upstream[3].rtt = 700;
    static const int policies[] = {DNS_ROUND_ROBIN, DNS_BY_HASH, DNS_FASTEST};
    for (int p = 0; p < 3; p++) {
        f->policy = (uint8_t)policies[p];
        memset(seen, 0, sizeof seen);
        for (unsigned i = 0; i < 400; i++) {
            assert(ask(f, i) == TUDP_HELD);
            const dns_flight *x = &f->flight[f->active[0] - 1];
            seen[x->attempt[0].upstream]++;
            dns_forward_hand(f, f->active[0], DNS_HANDED_ODD, 0);
            while (dns_forward_handed(f))
                ;
            f->outs = 0;
        }
        if (p == 0)
            assert(seen[0] == 100 && seen[1] == 100 && seen[2] == 100 && seen[3] == 100);
        else if (p == 1)
            assert(seen[0] > 50 && seen[1] > 50 && seen[2] > 50 && seen[3] > 50);
        else
            assert(seen[1] > 360 && seen[1] < 400); /* one in twenty goes to any */
    }
    net.random_error = 1; /* without dice the first */
    ((uint32_t *)f->random)[0] = 0;
    assert(ask(f, 1000) == 0);
    net.random_error = 0;
    gone(f);
}

static void what_is_asked_elsewhere(void)
{
    dns_forward *f = made("\4test", 6, 1);
    dns_query q;
    memset(&q, 0, sizeof q);
    q.qclass = DNS_IN;
    dns_query_name(&q, (const uint8_t *)NAME, sizeof NAME, &server.key);
    q.qtype = DNS_RRSIG;
    assert(!dns_forward_takes(f, &q));
    q.qtype = DNS_A, q.qclass = DNS_CH;
    assert(!dns_forward_takes(f, &q));
    q.qclass = DNS_IN;
    assert(dns_forward_takes(f, &q));
    dns_query_name(&q, (const uint8_t *)"\3www\4tesu", 10, &server.key);
    assert(!dns_forward_takes(f, &q));
    dns_query_name(&q, (const uint8_t *)"\5atest", 7, &server.key); /* ends so, but not at a label */
    assert(!dns_forward_takes(f, &q));
    uint8_t big[DNS_FORWARD_PACKET + 1] = {0};
    tudp_slot slot = {.data = big, .len = sizeof big};
    dns_client client = {.ip_len = 4};
    assert(dns_forward_ask(f, &turn, &slot, &client, &q, 0) == 0);
    gone(f);
}

/* Only what is the same question in every respect waits for the same reply. */
static void questions_that_differ_fly_alone(void)
{
    dns_forward *f = made("", 1, 1);
    assert(ASK(f, DNS_A, 0, 0, 0) == TUDP_HELD && ASK(f, DNS_A, 0, 0, 0) == TUDP_HELD && f->flights == 1);
    assert(ASK(f, DNS_A, DNS_CD, 0, 0) == TUDP_HELD && ASK(f, DNS_A, 0, 1, 0) == TUDP_HELD);
    assert(ASK(f, DNS_A, 0, 0, 3) == TUDP_HELD && ASK(f, DNS_TXT, 0, 0, 0) == TUDP_HELD && f->flights == 5);
    assert(ASK(f, DNS_A, DNS_CD, 0, 0) == TUDP_HELD && f->flights == 5);
    /* the same hash, and yet another */
    dns_query q;
    memset(&q, 0, sizeof q);
    dns_query_name(&q, (const uint8_t *)NAME, sizeof NAME, &server.key);
    q.qtype = DNS_A;
    uint64_t hash = dns_forward_key(&q, 0);
    uint32_t number = dns_forward_find(f, hash, &q, 0);
    assert(number && !dns_forward_find(f, hash, &q, 1));
    q.qtype = DNS_MX;
    assert(!dns_forward_find(f, hash, &q, 0));
    q.qtype = DNS_A, q.dnssec_ok = 1;
    assert(!dns_forward_find(f, hash, &q, 0));
    q.dnssec_ok = 0, q.flags = DNS_CD;
    assert(!dns_forward_find(f, hash, &q, 0));
    q.flags = 0, q.name[1] = 'x';
    assert(!dns_forward_find(f, hash, &q, 0));
    q.name_len--;
    assert(!dns_forward_find(f, hash, &q, 0));
    dns_forward_flush(f, &turn);
    uint32_t cd = 0; /* the one that does not want its answer checked */
    while (!(net.sent[cd][3] & 0x10))
        cd++;
    reply(cd);
    memcpy(net.reply + 6, "\0\1\0\0\0\0", 6);
    memcpy(net.reply + 12, net.sent[cd] + 12, sizeof NAME + 4);
    memcpy(net.reply + 12 + sizeof NAME + 4, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", 16);
    net.reply_len = 12 + sizeof NAME + 4 + 16;
    arrive(f);
    assert(net.answered == 2 && net.answers[3] & 0x10);
    gone(f);
}

static void flights_and_ports_come_to_an_end(void)
{
    dns_forward *f = made("", 1, 1);
    dns_query q;
    memset(&q, 0, sizeof q);
    dns_query_name(&q, (const uint8_t *)NAME, sizeof NAME, &server.key);
    f->flights = DNS_FORWARD_FLIGHTS;
    assert(!dns_forward_fly(f, 1, &q, 0, 1) && ask(f, 77) == 0); /* every place is taken, though some may wait */
    f->flights = 0;
    assert(ask(f, 1) == TUDP_HELD);
    dns_forward_done_with(f, f->flight[0].attempt[0].port, f->flight[0].attempt[0].use);
    dns_forward_done_with(f, f->flight[0].attempt[0].port, f->flight[0].attempt[0].use); /* once is enough */
    /* no port is to be had, but some are open; then none is */
    net.open_error = -EMFILE;
    assert(ask(f, 2) == TUDP_HELD && f->open_ports == 1);
    turn.now += DNS_FORWARD_AGE + 1;
    assert(ask(f, 3) == 0);
    net.open_error = -EADDRINUSE; /* every one that is drawn is taken */
    assert(ask(f, 4) == 0);
    net.open_error = 0;
    assert(ask(f, 5) == TUDP_HELD);
    /* the table of ports is full of those that still wait */
    for (int i = 0; i < DNS_FORWARD_PORTS; i++)
        if (f->port[i].fd < 0)
            f->port[i].fd = 9999;
    f->upstream[0].pools = 0;
    assert(ask(f, 6) == 0);
    for (int i = 0; i < DNS_FORWARD_PORTS; i++)
        if (f->port[i].fd == 9999)
            f->port[i].fd = -1;
    gone(f);
    /* numbers run out at each draw: for the port, for the choice, the id, the letters */
    for (unsigned left = 0; left < 8; left += 2) {
        f = made("", 1, 1);
        uint8_t drain[256];
        assert(!dns_forward_draw(f, drain, 256 - left)); /* so many octets are left */
        net.random_error = 1;
        assert(ask(f, 1) == 0 && turn.held == 0 && f->flights == 0);
        net.random_error = 0;
        assert(ask(f, 1) == TUDP_HELD);
        gone(f);
    }
    f = made("", 1, 1);
    assert(ask(f, 1) == TUDP_HELD);
    dns_port *p = &f->port[f->flight[0].attempt[0].port];
    p->used = DNS_FORWARD_USES - 1; /* every id that is drawn was had: they are made the same here */
    gone(f);
}

static int always_9(void *ctx, void *out, size_t len)
{
    memset(out, 0x99, len);
    return 0;
}

static void an_id_is_never_used_twice_on_a_port(void)
{
    dns_forward *f = made("", 1, 1);
    dns_forward_calls same = calls;
    same.random = always_9;
    f->calls = &same;
    assert(ask(f, 1) == TUDP_HELD && ask(f, 2) == TUDP_HELD); /* from two ports, where need be */
    for (unsigned i = 3; i < 40; i++)
        ask(f, i);
    assert(f->flights < 40);
    f->calls = &calls;
    gone(f);
}

static void what_is_sent_and_fails(void)
{
    dns_forward *f = made("", 1, 1);
    for (unsigned i = 0; i < DNS_FORWARD_OUT + 1; i++) /* more than wait: sent in between */
        assert(ask(f, i) == TUDP_HELD);
    assert(net.sents == DNS_FORWARD_OUT && f->outs == 1);
    uint16_t port = f->out[0].port;
    int fd = f->port[port].fd;
    f->port[port].fd = -1; /* closed meanwhile */
    dns_forward_flush(f, &turn);
    assert(net.sents == DNS_FORWARD_OUT);
    f->port[port].fd = fd;
    static const int errors[] = {-ENOBUFS, -EPERM, 0};
    for (int i = 0; i < 3; i++) {
        ask(f, 100 + (unsigned)i);
        net.error = errors[i];
        dns_forward_flush(f, &turn);
        net.error = 0;
        assert(!f->port[port].refused);
    }
    dns_forward_flush(f, &turn); /* nothing is queued */
    gone(f);
}

static int interrupted;
static int now_and_then(void *ctx, int fd, struct mmsghdr *msgs, unsigned n)
{
    return interrupted++ % 2 ? net_send(ctx, fd, msgs, 1) : -EINTR;
}

static void an_interrupted_call_goes_on(void)
{
    dns_forward *f = made("", 1, 1);
    dns_forward_calls own = calls;
    own.send = now_and_then;
    f->calls = &own;
    for (unsigned i = 0; i < 5; i++)
        ask(f, i);
    dns_forward_flush(f, &turn);
    assert(net.sents == 5);
    f->calls = &calls;
    gone(f);
}

static int ready_many(void *ctx, uint32_t *numbers, int most)
{
    for (int i = 0; i < most; i++)
        numbers[i] = i ? (uint32_t)i + 500 : net.number[net.reply_fd]; /* beyond the table, and closed ones */
    return most;
}
static int ready_not(void *ctx, uint32_t *numbers, int most) { return -EINTR; }

static int receive_full(void *ctx, int fd, struct mmsghdr *msgs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        msgs[i].msg_len = 3; /* nothing of sense */
    return (int)n;
}
static int receive_refused(void *ctx, int fd, struct mmsghdr *msgs, unsigned n) { return -ECONNREFUSED; }
static int receive_interrupted(void *ctx, int fd, struct mmsghdr *msgs, unsigned n) { return -EINTR; }
static int receive_again(void *ctx, int fd, struct mmsghdr *msgs, unsigned n) { return -EAGAIN; }

static void receiving_is_bounded_and_its_errors_are_told(void)
{
    dns_forward *f = made("", 1, 1);
    dns_forward_calls own = calls;
    f->calls = &own;
    ask(f, 1);
    dns_forward_flush(f, &turn);
    reply(0);
    own.ready = ready_many;
    own.receive = receive_full;
    arrive(f);
    assert(f->count.ignored == 4 * 4 * DNS_FORWARD_IN);
    own.receive = receive_again;
    arrive(f);
    own.receive = receive_interrupted;
    arrive(f);
    own.ready = ready_not;
    arrive(f);
    assert(f->flights == 1);
    own.ready = net_ready;
    own.receive = receive_refused;
    arrive(f);
    assert(handed(f, DNS_HANDED_REFUSED) == 1 && f->upstream[0].closed == 1);
    /* a datagram that ends everybody's wait closes a port that takes no more: the rest of the batch is not read */
    f->calls = &calls;
    gone(f);
}

static void hedging_has_a_budget_and_a_second_of_its_own(void)
{
    dns_forward *f = made("", 1, 2);
    ask(f, 1);
    dns_forward_flush(f, &turn);
    turn.now += 20000000;
    f->window = turn.now - 1000000000u; /* nothing was asked in this second */
    dns_forward_due(f, &turn);
    assert(f->upstream[1].hedged == 0);
    ask(f, 2);
    f->window = turn.now;
    f->window_asked = 40; /* one in twenty of these */
    dns_forward_flush(f, &turn);
    turn.now += 20000000;
    net.open_error = -EMFILE; /* there is no port to hedge from */
    dns_forward_due(f, &turn);
    assert(f->upstream[1].hedged == 0 && f->window_hedged == 1);
    net.open_error = 0;
    ask(f, 3);
    turn.now += 20000000;
    f->upstream[1].usable = 0; /* nor another to ask */
    dns_forward_due(f, &turn);
    f->upstream[1].usable = 1;
    ask(f, 4);
    f->upstream[1].rtt = 900000000; /* the second one's time is the longer */
    turn.now += 20000000;
    dns_forward_due(f, &turn);
    assert(f->upstream[1].hedged == 1);
    dns_forward_flush(f, &turn);
    gone(f);
}

/* The reply to question 0 with what stands behind the question, and what became of it; the forwarder goes on. */
static unsigned get(dns_forward *f, const char *flags, const char *counts, const char *records, size_t len)
{
    net.sents = net.answered = 0;
    static unsigned number = 5000;
    assert(ask(f, number++) == TUDP_HELD);
    reply_with(f, flags, counts, records, len);
    const dns_waiter *w = dns_forward_handed(f);
    assert((w != NULL) == !net.answered);
    return w ? w->reason : 0;
}

#define GET(flags, counts, records) get(f, flags, counts, records, sizeof(records) - 1)
#define SOA(owner) owner "\0\6\0\1\0\0\0\x3c\0\x16\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1"
#define SIG(covered) "\xc0\x0c\0\x2e\0\1\0\0\0\x3c\0\x13\0" covered "\10\2\0\0\0\x3c\0\0\0\1\0\0\0\1\0\1\0"

static int on_a_list(void *self, uint16_t view, const dns_query *q) { return q->name[1] == 'f'; }

static void records_of_every_oddity(void)
{
    dns_forward *f = made("", 1, 1);
    memcpy(f->upstream[0].cookie, "12345678", 8);
    assert(GET("\x81\x83", "\0\0\0\1\0\0", SOA("\4test\0")) == 0); /* it is not there, says its zone */
    assert(GET("\x81\x80", "\0\0\0\1\0\0", SOA("\xc0\x15")) == 0);
    assert(GET("\x81\x80", "\0\1\0\1\0\0", ALIAS SOA("\0")) == 0);
    assert(GET("\x81\x80", "\0\0\0\3\0\0", SOA("\4test\0") "\4test\0\0\x2f\0\1\0\0\0\x3c\0\3\0\0\1" /* NSEC */
               "\4test\0\0\x32\0\1\0\0\0\x3c\0\x06\1\0\0\0\0\0") == 0);
    assert(GET("\x81\x80", "\0\2\0\0\0\0", A SIG("\1")) == 0); /* signed */
    assert(GET("\x81\x80", "\0\2\0\0\0\0", ALIAS SIG("\5")) == DNS_HANDED_ODD || net.answered);
    assert(GET("\x81\x80", "\0\1\0\0\0\0", SIG("\x0f")) == DNS_HANDED_ODD); /* of something else */
    assert(GET("\x81\x80", "\0\1\0\0\0\0", "\xc0\x0c\0\x2e\0\1\0\0\0\x3c\0\1\0") == DNS_HANDED_ODD);
    assert(GET("\x81\x80", "\0\2\0\0\0\0", A ALIAS) == DNS_HANDED_ODD); /* an alias behind the end */
    assert(GET("\x81\x80", "\0\1\0\0\0\0", "\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\xff") == DNS_HANDED_ODD);
    assert(GET("\x81\x80", "\0\1\0\0\0\0", "\xc0\x0c\0\1\0\3\0\0\0\x3c\0\4\1\2\3\4") == DNS_HANDED_ODD); /* of CH */
    assert(GET("\x81\x80", "\0\1\0\0\0\0", "\xc0\xff\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4") == DNS_HANDED_ODD);
    assert(GET("\x81\x80", "\0\0\0\1\0\0", "\3foo\0\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4") == DNS_HANDED_ODD || net.answered);
    f->listed = on_a_list;
    assert(GET("\x81\x80", "\0\2\0\0\0\0", ALIAS OTHER) == DNS_HANDED_ODD); /* to a name that is blocked */
    assert(GET("\x81\x80", "\0\1\0\0\0\0", "\xc0\x0c\0\5\0\1\0\0\0\x3c\0\5\3goo\0") == DNS_HANDED_ODD || net.answered);
    f->listed = NULL;
    /* options: too short, too long, a cookie of another, of the wrong size, and ours */
#define OPTED(options, len) "\0\0\x29\4\xd0\0\0\0\0\0" len options
    assert(GET("\x81\x80", "\0\1\0\0\0\1", A OPTED("\0\x0a\0\x10" "12345678abcdefgh", "\x14")) == 0 && !f->upstream[0].cookie_len);
    f->upstream[0].cookie_len = 8;
    assert(GET("\x81\x80", "\0\1\0\0\0\1", A OPTED("\0\x0a\0\xff", "\x04")) == 0);
    assert(GET("\x81\x80", "\0\1\0\0\0\1", A OPTED("\0\x0a\0\x08" "12345678", "\x0c")) == 0);
    assert(GET("\x81\x80", "\0\1\0\0\0\1", A OPTED("\0\x0a\0\x10" "xxxxxxxxabcdefgh", "\x14")) == 0);
    assert(GET("\x81\x80", "\0\1\0\0\0\1", A OPTED("\0\x0a\0\x29" "12345678abcdefghabcdefghabcdefghabcdefghx", "\x2d")) == 0);
    assert(GET("\x81\x80", "\0\1\0\0\0\1", A OPTED("\0\x05\0\1x\0\x0a\0\x10" "12345678abcdefgh\0", "\x1a")) == 0);
    assert(f->upstream[0].cookie_len == 16 && !memcmp(f->upstream[0].cookie, "12345678abcdefgh", 16));
    assert(GET("\x81\x80", "\0\1\0\0\0\1", A "\0\0\x10\0\1\0\0\0\0\0\2\1x") == 0); /* beside it, a record that is none of ours */
    /* no question back: only the two that some servers give so */
    for (int rcode = 1; rcode < 6; rcode++) {
        net.sents = net.answered = 0;
        ask(f, 9000 + (unsigned)rcode);
        dns_forward_flush(f, &turn);
        reply(0);
        net.reply[3] = (uint8_t)(0x80 | rcode);
        net.reply[5] = net.reply[7] = 0;
        net.reply_len = 12;
        arrive(f);
        assert(handed(f, rcode == DNS_FORMERR || rcode == DNS_NOTIMP ? DNS_HANDED_RCODE : DNS_HANDED_MISMATCH) == 1);
    }
    net.sents = net.answered = 0;
    ask(f, 9100);
    dns_forward_flush(f, &turn);
    reply(0);
    net.reply[2] = 1; /* a question, not a reply */
    arrive(f);
    assert(!net.answered && f->flights == 1);
    gone(f);
    f = made("\4test", 6, 1); /* of a zone: its records alone */
    assert(GET("\x81\x80", "\0\1\0\1\0\0", A SOA("\0")) == 0);
    assert(GET("\x81\x80", "\0\1\0\1\0\0", A SOA("\4tesu\0")) == 0 && net.answers[9] == 0);
    gone(f);
    /* more records than are judged, and more octets than a reply written anew has */
    f = made("", 1, 1);
    char many[2000];
    for (int i = 0; i < 101; i++)
        memcpy(many + i * 11, "\0\0\x0a\0\1\0\0\0\x3c\0\0", 11);
    net.error = 0;
    assert(get(f, "\x81\x80", "\0\0\0\x65\0\0", many, 101 * 11) == DNS_HANDED_ODD);
    gone(f);
}

/* Targets that are told by pointers and may not be written so: more octets than a reply written anew has. */
static void a_reply_that_grows_too_long_is_the_owners(void)
{
    dns_forward *f = made("", 1, 1);
    net.sents = 0;
    assert(ask_of(f, "\3srv\4test", 10, DNS_SRV, 0, 0, 0) == TUDP_HELD);
    dns_forward_flush(f, &turn);
    uint8_t *at = net.reply + 12 + 10 + 4;
    reply(0);
    memcpy(net.reply + 12, net.sent[0] + 12, 14);
    unsigned target = 0, count = 0;
    for (; at + 240 < net.reply + 1232; count++) {
        memcpy(at, "\xc0\x0c\0\x21\0\1\0\0\0\x3c\0\x08\0\0\0\0\0\1", 18);
        at[17] = (uint8_t)count;
        at += 18;
        if (!target) {
            target = (unsigned)(at - net.reply);
            at[-7] = 6 + 193;
            for (int i = 0; i < 3; i++) {
                *at++ = 63;
                memset(at, 't', 63);
                at += 63;
            }
            *at++ = 0;
        } else {
            dns_put16(at, DNS_POINTER | target);
            at += 2;
        }
    }
    dns_put16(net.reply + 6, count);
    net.reply_len = (uint32_t)(at - net.reply);
    arrive(f);
    const dns_waiter *w = dns_forward_handed(f);
    assert(w && w->reason == DNS_HANDED_ODD && !net.answered);
    gone(f);
}

static void clients_that_waited_too_long_or_find_no_room(void)
{
    dns_forward *f = made("", 1, 1);
    assert(ASK(f, DNS_A, 0, 2, 0) == TUDP_HELD); /* with a cookie, which is not ours to check */
    dns_forward_flush(f, &turn);
    turn.now += DNS_FORWARD_TOO_LATE + 1;
    reply(0);
    memcpy(net.reply + 12, net.sent[0] + 12, sizeof NAME + 4);
    memcpy(net.reply + 12 + sizeof NAME + 4, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", 16);
    net.reply_len = 12 + sizeof NAME + 4 + 16;
    arrive(f);
    assert(!net.answered && net.words[TUDP_STALE] == 1 && turn.held == 0);
    for (int no_room = 1; no_room <= 2; no_room++) { /* once, then even after what waits was sent */
        net.sents = net.answered = 0;
        ask(f, (unsigned)no_room);
        dns_forward_flush(f, &turn);
        reply(0);
        net.no_room = no_room;
        arrive(f);
        assert(net.answered == (no_room == 1) && turn.held == 0);
        net.no_room = 0;
    }
    dns_server with = server; /* cookies are checked where there are secrets */
    with.secrets = 1;
    f->server = &with;
    net.sents = net.answered = 0;
    dns_cache_flush_view(f->cache, 0);
    assert(ASK(f, DNS_A, 0, 2, 0) == TUDP_HELD);
    dns_forward_flush(f, &turn);
    reply(0);
    memcpy(net.reply + 12, net.sent[0] + 12, sizeof NAME + 4);
    memcpy(net.reply + 12 + sizeof NAME + 4, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", 16);
    net.reply_len = 12 + sizeof NAME + 4 + 16;
    arrive(f);
    assert(net.answered == 1 && net.answer_len > 47);
    f->server = &server;
    gone(f);
}

static void an_answer_that_is_not_kept_is_given_to_those_who_wait(void)
{
    dns_forward *f = made("", 1, 1);
    ask(f, 1);
    dns_forward_flush(f, &turn);
    reply(0);
    memset(net.reply + 31 + 6, 0, 4); /* TTL 0 */
    arrive(f);
    assert(net.answered == 1 && f->cache->entries == 0);
    gone(f);
}

static void a_tap_is_told_of_both_ways(void)
{
    dns_forward *f = made("", 1, 2);
    dns_tap *t = calloc(1, sizeof *t + 65536);
    t->mask = 65535;
    t->share = UINT32_MAX;
    f->tap = t;
    f->turn = NULL;
    ask(f, 1);
    dns_forward_flush(f, &turn);
    assert(dns_tap_waiting(t) > 0);
    turn.now += 20000000;
    dns_forward_due(f, &turn); /* hedged: both reply, the second too late to be asked for */
    dns_forward_flush(f, &turn);
    uint64_t before = dns_tap_waiting(t);
    reply(1);
    net.reply[12] ^= 1; /* of another question: not noted as a reply */
    arrive(f);
    assert(dns_tap_waiting(t) == before && handed(f, DNS_HANDED_MISMATCH) == 1);
    ask(f, 2);
    dns_forward_flush(f, &turn);
    before = dns_tap_waiting(t);
    reply(net.sents - 1);
    f->port[net.number[net.reply_fd]].sent[f->port[net.number[net.reply_fd]].used - 1] = 0; /* its time is not known */
    arrive(f);
    assert(dns_tap_waiting(t) > before);
    t->share = 0;
    tudp_sockaddr six = {.in6.sin6_family = AF_INET6};
    before = dns_tap_waiting(t);
    dns_tap_upstream(t, &six, net.reply, 12, 1, 2);
    assert(dns_tap_waiting(t) == before);
    t->share = UINT32_MAX;
    dns_tap_upstream(t, &six, net.reply, 12, 1, 2);
    assert(dns_tap_waiting(t) > before);
    dns_client client = {.ip_len = 4};
    dns_tap_answer(t, &client, net.reply, 12, net.reply, 3, 1, 2); /* too short to say whose it is */
    f->tap = NULL;
    free(t);
    gone(f);
}

int main(void)
{
    there_are_only_so_many_upstreams_and_each_way_to_choose();
    what_is_asked_elsewhere();
    questions_that_differ_fly_alone();
    flights_and_ports_come_to_an_end();
    an_id_is_never_used_twice_on_a_port();
    what_is_sent_and_fails();
    an_interrupted_call_goes_on();
    receiving_is_bounded_and_its_errors_are_told();
    hedging_has_a_budget_and_a_second_of_its_own();
    records_of_every_oddity();
    a_reply_that_grows_too_long_is_the_owners();
    clients_that_waited_too_long_or_find_no_room();
    an_answer_that_is_not_kept_is_given_to_those_who_wait();
    a_tap_is_told_of_both_ways();
    puts("dns forward edges: ok");
    return 0;
}
