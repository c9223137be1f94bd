/* Plain C test of dns_forward.c and dns_forward_reply.c, on a network made of memory. */
#include "forward_net.h"

static void a_question_goes_out_and_its_reply_comes_back_and_is_kept(void)
{
    dns_forward *f = made("", 1, 1);
    memcpy(f->upstream[0].cookie, "12345678", 8);
    f->upstream[0].cookie_len = 8;
    assert(ask(f, 1) == TUDP_HELD && turn.held == 1 && !net.sents);
    dns_forward_flush(f, &turn);
    assert(net.sents == 1 && net.sent_len[0] == 31 + 11 + 12 && net.ports[0] >= 1024);
    reply(0);
    arrive(f);
    assert(net.answered == 1 && net.answer_len == 47 && !memcmp(net.answers, "\0\7\x81\x80", 4) && turn.held == 0);
    assert(net.words[TUDP_HANDLED] == 1 && net.words[TUDP_NATIVE_ANSWERS] == 1);
    assert(f->cache->entries == 1 && f->flights == 0 && f->upstream[0].answered == 1);
    gone(f);
}

static void equal_questions_are_one_and_the_oldest_of_too_many_is_dropped(void)
{
    dns_forward *f = made("", 1, 1);
    for (int i = 0; i < DNS_FORWARD_WAITERS_EACH + 5; i++)
        assert(ask(f, 1) == TUDP_HELD);
    dns_forward_flush(f, &turn);
    assert(net.sents == 1 && net.words[TUDP_QUEUE_FULL] == 5 && turn.held == DNS_FORWARD_WAITERS_EACH);
    reply(0);
    arrive(f);
    assert(net.answered == DNS_FORWARD_WAITERS_EACH && turn.held == 0 && f->cache->count.hits == 0);
    gone(f);
}

static void a_wrong_field_is_never_taken(void)
{
    for (unsigned at = 0; at < 31; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            dns_forward *f = made("", 1, 1);
            if ((at == 2 && bit != 7) || (at == 3) || (at > 5 && at < 12))
                bit = 8; /* flags and counts are judged elsewhere */
            ask(f, 1);
            dns_forward_flush(f, &turn);
            reply(0);
            if (bit < 8) {
                net.reply[at] ^= (uint8_t)(1u << bit);
                arrive(f);
                assert(!net.answered && !f->cache->entries);
                assert(at == 2 || handed(f, DNS_HANDED_MISMATCH) == 1);
            }
            gone(f);
        }
    }
}

static unsigned forgeries = 300000;

/* F8: replies to questions that are on their way, each wrong in one field by chance. */
static void forgeries_by_the_hundred_thousand_are_not_taken(void)
{
    dns_forward *f = made("", 1, 1);
    unsigned told = 0, round = 0;
    uint64_t dice = 1;
    while (told < forgeries) {
        uint32_t first = net.sents;
        for (unsigned i = 0; i < 32; i++)
            ask(f, round++);
        dns_forward_flush(f, &turn);
        for (uint32_t i = first; i < net.sents; i++) {
            dice = dice * 6364136223846793005u + 1442695040888963407u;
            unsigned at = dice >> 63 ? dice >> 62 & 1 : 12 + (dice >> 50) % 19; /* the id, or the question */
            reply(i);
            net.reply[at] ^= (uint8_t)(1u << (dice >> 40) % 8);
            dns_forward_came(f, &turn, (uint16_t)net.number[net.sent_fd[i]], net.reply, net.reply_len);
            told++;
            assert(!net.answered && !f->cache->entries);
        }
        while (dns_forward_handed(f))
            ;
        turn.now += 1000000;
        net.sents = 0;
        net.reply_len = 0;
    }
    assert(f->count.questions == told && f->count.ignored > told / 2);
    gone(f);
}

static int of_the_system(void *ctx, void *out, size_t len) { return getrandom(out, len, 0) == (ssize_t)len ? 0 : -EIO; }

/* F8: ids are as even as they should be, and what a child draws is not what its parent had in store. */
static void what_is_drawn_is_even_and_no_child_repeats_its_parent(void)
{
    static uint32_t seen[256];
    dns_forward_calls system = calls;
    system.random = of_the_system;
    dns_forward *f = made("", 1, 1);
    f->calls = &system;
    uint16_t drawn[32], theirs[2][32];
    for (unsigned i = 0; i < 1000000; i++) {
        assert(!dns_forward_draw(f, drawn, 2));
        seen[drawn[0] >> 8]++;
    }
    double chi = 0;
    for (unsigned i = 0; i < 256; i++)
        chi += (seen[i] - 1e6 / 256) * (seen[i] - 1e6 / 256) / (1e6 / 256);
    assert(chi > 130 && chi < 420); /* 255 degrees: 7 deviations either way */
    for (int child = 0; child < 2; child++) {
        int ends[2];
        assert(!pipe(ends));
        pid_t pid = fork();
        if (!pid)
            _exit(dns_forward_draw(f, drawn, sizeof drawn) || write(ends[1], drawn, sizeof drawn) != sizeof drawn);
        assert(pid > 0 && read(ends[0], theirs[child], sizeof drawn) == sizeof drawn && waitpid(pid, NULL, 0) == pid);
        close(ends[0]);
        close(ends[1]);
    }
    assert(!dns_forward_draw(f, drawn, sizeof drawn));
    assert(memcmp(theirs[0], theirs[1], sizeof drawn) && memcmp(theirs[0], drawn, sizeof drawn) &&
           memcmp(theirs[1], drawn, sizeof drawn));
    f->calls = &calls;
    gone(f);
}

/* F9: who knows ports of four workers learns nothing about whose the next ones are. */
static void a_port_does_not_tell_which_worker_asked(void)
{
    enum { WORKERS = 4, EACH = 10000, PARTS = 64 };
    static uint32_t known[PARTS][WORKERS], low = 65535;
    unsigned right = 0, asked = 0;
    dns_forward_calls system = calls;
    system.random = of_the_system;
    for (int guess = 0; guess < 2; guess++) {
        for (unsigned worker = 0; worker < WORKERS; worker++) {
            dns_forward *f = made("", 1, 1);
            f->calls = &system;
            for (unsigned i = 0; i < EACH; i++) {
                net.opened = 0;
                ask(f, i);
                dns_forward_hand(f, f->active[0], DNS_HANDED_ODD, 0);
                while (dns_forward_handed(f))
                    ;
                f->outs = 0;
                if (!net.opened) {
                    turn.now += DNS_FORWARD_AGE + 1; /* every question gets a port of its own */
                    continue;
                }
                unsigned part = net.ports[0] * PARTS / 65536, best = 0;
                low = net.ports[0] < low ? net.ports[0] : low;
                turn.now += DNS_FORWARD_AGE + 1;
                if (!guess) {
                    known[part][worker]++;
                    continue;
                }
                for (unsigned other = 1; other < WORKERS; other++)
                    best = known[part][other] > known[part][best] ? other : best;
                right += best == worker;
                asked++;
            }
            net.closed = net.opened = 0;
            f->calls = &calls;
            dns_cache *cache = f->cache;
            dns_forward_free(f);
            dns_cache_free(cache);
        }
    }
    assert(asked > WORKERS * EACH / 2 && low >= 1024);
    assert(right < asked * 0.265); /* chance, one in a hundred, and three deviations of so many */
}

static void garbage_is_waited_through(void)
{
    dns_forward *f = made("", 1, 1);
    ask(f, 1);
    dns_forward_flush(f, &turn);
    for (uint32_t n = 0; n < 12; n++) {
        reply(0);
        net.reply_len = n ? n : 1;
        arrive(f);
        assert(!net.answered && f->flights == 1);
    }
    reply(0);
    arrive(f);
    assert(net.answered == 1);
    gone(f);
}

static void what_is_odd_is_the_owners(void)
{
    assert(ODD("\x81\x80", "\0\1\0\0\0\0", A) == 0);
    assert(ODD("\x83\x80", "\0\1\0\0\0\0", A) == DNS_HANDED_TRUNCATED);
    assert(ODD("\x81\x82", "\0\0\0\0\0\0", "") == DNS_HANDED_RCODE);
    assert(ODD("\x81\x85", "\0\0\0\0\0\0", "") == DNS_HANDED_RCODE);
    assert(ODD("\x81\x80", "\0\2\0\0\0\0", A OTHER) == DNS_HANDED_ODD);
    assert(ODD("\x81\x80", "\0\2\0\0\0\0", ALIAS OTHER) == 0);
    assert(ODD("\x81\x80", "\0\2\0\0\0\0", ALIAS ALIAS) == DNS_HANDED_ODD);
    assert(ODD("\x81\x80", "\0\2\0\0\0\0", ALIAS A) == DNS_HANDED_ODD);
    assert(ODD("\x81\x80", "\0\1\0\0\0\1", A OTHER) == 0);
    assert(ODD("\x81\x80", "\0\1\0\1\0\0", A OTHER) == 0);
    assert(ODD("\x81\x80", "\0\2\0\0\0\0", A) == DNS_HANDED_ODD);
    assert(ODD("\x81\x80", "\0\1\0\0\0\0", "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\5\1\2\3\4\5") == DNS_HANDED_ODD);
    assert(odd("\4test", 6, "\x81\x80", "\0\2\0\0\0\0", ALIAS OTHER, sizeof(ALIAS OTHER) - 1) == DNS_HANDED_ODD);
    /* BADCOOKIE in the OPT */
    assert(ODD("\x81\x87", "\0\0\0\0\0\1", "\0\0\x29\4\xd0\1\0\0\0\0\0") == DNS_HANDED_RCODE);
}

/* F5: a reply that is longer than we take may have come in fragments, whatever it says. */
static void what_is_too_long_is_asked_again_by_tcp(void)
{
    static const uint32_t lengths[] = {1232, 1233, 1500, DNS_FORWARD_SLOT, DNS_FORWARD_SLOT + 1, 4096, 65535};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        dns_forward *f = made("", 1, 1);
        ask(f, 1);
        dns_forward_flush(f, &turn);
        reply(0);
        memset(net.reply + 47, 0, sizeof net.reply - 47);
        net.reply[11] = 1;
        memcpy(net.reply + 47, "\0\0\x29\4\xd0\0\0\0\0", 9); /* OPT, padded */
        dns_put16(net.reply + 56, lengths[i] - 58);
        dns_put16(net.reply + 58, 12);
        dns_put16(net.reply + 60, lengths[i] - 62);
        net.reply_len = lengths[i];
        arrive(f);
        assert(i == 0 ? net.answered == 1 : !net.answered && handed(f, DNS_HANDED_TRUNCATED) == 1);
        gone(f);
    }
}

static void what_is_not_asked_for_is_not_given(void)
{
    dns_forward *f = made("", 1, 1);
    ask(f, 1);
    dns_forward_flush(f, &turn);
    reply(0);
    memcpy(net.reply + 6, "\0\1\0\1\0\1", 6);
    memcpy(net.reply + 47, OTHER OTHER, 38);
    net.reply_len = 85;
    arrive(f);
    assert(net.answered == 1 && net.answer_len == 47 && !memcmp(net.answers + 6, "\0\1\0\0\0\0", 6));
    gone(f);
}

static void time_hands_back_and_takes_a_server_out(void)
{
    dns_forward *f = made("", 1, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert(f->upstream[0].usable && ask(f, i) == TUDP_HELD);
        dns_forward_flush(f, &turn);
        turn.now = dns_forward_deadline(f);
        assert(turn.now != TUDP_NEVER);
        dns_forward_due(f, &turn);
        assert(handed(f, DNS_HANDED_TIMEOUT) == 1 && dns_forward_deadline(f) == TUDP_NEVER && turn.held == 0);
    }
    assert(!f->upstream[0].usable && ask(f, 9) == 0);
    reply(0); /* late: it only tells the time it took */
    arrive(f);
    assert(!net.answered && f->upstream[0].answered == 1 && f->upstream[0].failures == 0);
    gone(f);
}

static void a_slow_server_is_hedged_by_the_next(void)
{
    dns_forward *f = made("", 1, 2);
    ask(f, 1);
    dns_forward_flush(f, &turn);
    turn.now += 20000000;
    assert(dns_forward_deadline(f) == turn.now);
    dns_forward_due(f, &turn);
    dns_forward_flush(f, &turn);
    assert(net.sents == 2 && net.upstream[net.sent_fd[0]] == 1 && net.upstream[net.sent_fd[1]] == 2);
    ask(f, 2);
    dns_forward_flush(f, &turn);
    turn.now += 20000000;
    dns_forward_due(f, &turn);
    dns_forward_flush(f, &turn);
    assert(net.sents == 3 && f->upstream[1].hedged == 1); /* one in twenty, and one always */
    reply(1);
    arrive(f);
    assert(net.answered == 1);
    reply(0);
    arrive(f);
    assert(net.answered == 1 && f->upstream[0].answered == 1);
    gone(f);
}

static void errors_of_the_system_are_the_owners(void)
{
    dns_forward *f = made("", 1, 1);
    net.random_error = 1;
    assert(ask(f, 1) == 0 && turn.held == 0 && f->flights == 0);
    net.random_error = 0;
    net.error = -EMFILE;
    assert(ask(f, 1) == 0 && turn.held == 0 && f->flights == 0);
    net.error = 0;
    for (unsigned i = 0; i < 40; i++)
        assert(ask(f, i) == TUDP_HELD);
    net.error = -ECONNREFUSED;
    dns_forward_flush(f, &turn);
    turn.now++;
    dns_forward_due(f, &turn);
    net.error = 0;
    assert(handed(f, DNS_HANDED_REFUSED) == 40 && turn.held == 0);
    gone(f);
}

static void memory_is_bounded_and_given_back(void)
{
    dns_forward *f = made("", 1, 1);
    unsigned held = 0, passed = 0;
    for (unsigned i = 0; i < DNS_FORWARD_FLIGHTS + 100; i++) {
        int said = ask(f, i);
        held += said == TUDP_HELD;
        passed += said != TUDP_HELD;
        if (net.sents > 4000)
            net.sents = 0;
    }
    assert(held == DNS_FORWARD_FLIGHTS && passed == 100 && f->open_ports <= DNS_FORWARD_PORTS);
    turn.now = dns_forward_deadline(f);
    dns_forward_due(f, &turn);
    assert(handed(f, DNS_HANDED_TIMEOUT) == held && turn.held == 0 && f->flights == 0);
    f->upstream[0].usable = 1;
    assert(ask(f, 1) == TUDP_HELD);
    dns_forward_detach(f);
    assert(net.words[TUDP_STOPPING] == 1);
    gone(f);
}

static void a_zone_bounds_what_is_asked(void)
{
    static const char name[] = "\1x\4corp\4test";
    dns_forward *f = made("\4corp\4test", 11, 1);
    dns_query q;
    memset(&q, 0, sizeof q);
    q.qclass = DNS_IN;
    q.qtype = DNS_A;
    dns_query_name(&q, (const uint8_t *)name, sizeof name, &server.key);
    assert(dns_forward_takes(f, &q));
    dns_query_name(&q, (const uint8_t *)name + 2, sizeof name - 2, &server.key);
    assert(dns_forward_takes(f, &q));
    dns_query_name(&q, (const uint8_t *)"\6x\4corp\4test", 13, &server.key);
    assert(!dns_forward_takes(f, &q));
    dns_query_name(&q, (const uint8_t *)"\4test", 6, &server.key);
    assert(!dns_forward_takes(f, &q));
    dns_query_name(&q, (const uint8_t *)name, sizeof name, &server.key);
    q.qtype = DNS_ANY;
    assert(!dns_forward_takes(f, &q));
    gone(f);
}

/* test_dns_forward [FORGERIES] */
int main(int argc, char **argv)
{
    if (argc > 1)
        forgeries = (unsigned)atoi(argv[1]);
    a_question_goes_out_and_its_reply_comes_back_and_is_kept();
    equal_questions_are_one_and_the_oldest_of_too_many_is_dropped();
    a_wrong_field_is_never_taken();
    forgeries_by_the_hundred_thousand_are_not_taken();
    what_is_drawn_is_even_and_no_child_repeats_its_parent();
    a_port_does_not_tell_which_worker_asked();
    garbage_is_waited_through();
    what_is_odd_is_the_owners();
    what_is_too_long_is_asked_again_by_tcp();
    what_is_not_asked_for_is_not_given();
    time_hands_back_and_takes_a_server_out();
    a_slow_server_is_hedged_by_the_next();
    errors_of_the_system_are_the_owners();
    memory_is_bounded_and_given_back();
    a_zone_bounds_what_is_asked();
    return 0;
}
