/* dns_forward_ports.c: the ports of a forwarder, what is drawn for each question, and its way out. */
#define _GNU_SOURCE 1
#include "dns_forward_parts.h"

#include <errno.h>
#include <sys/mman.h>

#define TRIES 16             /* to find a free port, or an id that the port has not had */
#define RANDOM 256           /* octets from the system at once */

/* In a page of its own, which a forked child finds wiped: it does not repeat its parent's numbers. */
struct dns_forward_random {
    uint32_t left;
    uint8_t octets[RANDOM];
};

int dns_forward_draw(dns_forward *f, void *out, size_t len)
{
    struct dns_forward_random *r = f->random;
    if (r->left < len) {
        int failed = f->calls->random(f->calls->ctx, r->octets, RANDOM);
        if (failed)
            return failed;
        r->left = RANDOM;
    }
    r->left -= (uint32_t)len;
    memcpy(out, r->octets + r->left, len);
    memset(r->octets + r->left, 0, len);
    return 0;
}

int dns_forward_random_new(dns_forward *f)
{
    void *page = mmap(NULL, sizeof *f->random, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    f->random = page == MAP_FAILED ? NULL : page;
    return f->random ? madvise(f->random, sizeof *f->random, MADV_WIPEONFORK) : -1;
}

void dns_forward_random_free(dns_forward *f)
{
    if (f->random)
        munmap(f->random, sizeof *f->random);
}

/* --- ports ------------------------------------------------------------------------ */

void dns_forward_close_port(dns_forward *f, uint16_t number)
{
    f->calls->close(f->calls->ctx, f->port[number].fd);
    f->port[number].fd = -1;
    f->open_ports--;
}

static void retire(dns_forward *f, dns_upstream *u, unsigned at)
{
    uint16_t number = u->pool[at];
    u->pool[at] = u->pool[--u->pools];
    f->port[number].retired = 1;
    if (!f->port[number].waiting)
        dns_forward_close_port(f, number);
}

/* RFC 5452: any port but the system's, and those whose replies are filtered or mean something else. */
static int denied(uint16_t port)
{
    return port < 1024 || port == 1900 || port == 5353 || port == 5355 || port == 11211;
}

static int open_port(dns_forward *f, uint16_t upstream, uint64_t now)
{
    uint16_t number = 0, wanted;
    dns_upstream *u = &f->upstream[upstream];
    while (number < DNS_FORWARD_PORTS && f->port[number].fd >= 0)
        number++;
    if (number == DNS_FORWARD_PORTS)
        return -EMFILE;
    int fd = -EADDRINUSE;
    for (int i = 0; i < TRIES && fd == -EADDRINUSE; i++) {
        if (dns_forward_draw(f, &wanted, sizeof wanted))
            return -EIO;
        if (!denied(wanted))
            fd = f->calls->open(f->calls->ctx, &u->to, wanted, number);
    }
    if (fd < 0)
        return fd;
    dns_port *p = &f->port[number];
    p->fd = fd;
    p->upstream = upstream;
    p->used = p->waiting = p->retired = p->refused = 0;
    p->born = now;
    u->pool[u->pools++] = number;
    f->open_ports++;
    return number;
}

/* A port for one question to this upstream, or a negative errno. */
static int choose_port(dns_forward *f, uint16_t upstream, uint64_t now)
{
    dns_upstream *u = &f->upstream[upstream];
    uint16_t dice;
    for (unsigned i = u->pools; i--;) {
        const dns_port *p = &f->port[u->pool[i]];
        if (p->used == DNS_FORWARD_USES || now - p->born > DNS_FORWARD_AGE)
            retire(f, u, i);
    }
    if (u->pools < DNS_FORWARD_POOL) {
        int made = open_port(f, upstream, now);
        if (made < 0 && !u->pools)
            return made;
    }
    if (dns_forward_draw(f, &dice, sizeof dice))
        return -EIO;
    return u->pool[dice % u->pools];
}

void dns_forward_done_with(dns_forward *f, uint16_t port, uint16_t use)
{
    dns_port *p = &f->port[port];
    if (!p->flight[use])
        return;
    p->flight[use] = 0;
    p->waiting--;
    if (p->retired && !p->waiting)
        dns_forward_close_port(f, port);
}

/* --- questions --------------------------------------------------------------------- */

void dns_forward_letters(const dns_flight *flight, const dns_attempt *attempt, uint8_t *out)
{
    for (unsigned i = 0; i < flight->name_len; i++) {
        uint8_t c = flight->name[i];
        int capital = c >= 'a' && c <= 'z' && attempt->letters[i >> 3] >> (i & 7) & 1;
        out[i] = capital ? c & 0xdf : c;
    }
}

static size_t write_question(const dns_upstream *u, const dns_flight *flight, const dns_attempt *attempt, uint16_t id,
                             uint8_t *out)
{
    size_t at = DNS_HEADER + flight->name_len;
    memset(out, 0, DNS_HEADER);
    dns_put16(out, id);
    dns_put16(out + 2, DNS_RD | (flight->checking_disabled ? DNS_CD : 0));
    out[5] = out[11] = 1;
    dns_forward_letters(flight, attempt, out + DNS_HEADER);
    dns_put16(out + at, flight->qtype);
    dns_put16(out + at + 2, DNS_IN);
    memcpy(out + at + 4, "\0\0\x29\4\xd0\0\0\0\0\0", 11);
    out[at + 11] = flight->dnssec_ok ? 0x80 : 0;
    at += 15;
    if (u->cookie_len) {
        dns_put16(out + at - 2, u->cookie_len + 4u);
        dns_put16(out + at, DNS_OPT_COOKIE);
        dns_put16(out + at + 2, u->cookie_len);
        memcpy(out + at + 4, u->cookie, u->cookie_len);
        at += 4u + u->cookie_len;
    }
    return at;
}

static int known_id(const dns_port *p, uint16_t id)
{
    for (unsigned i = 0; i < p->used; i++)
        if (p->id[i] == id)
            return 1;
    return 0;
}

/* One more question of a flight. 0, or a negative errno. */
int dns_forward_attempt(dns_forward *f, uint32_t number, uint16_t upstream, uint64_t now)
{
    dns_flight *flight = &f->flight[number - 1];
    dns_upstream *u = &f->upstream[upstream];
    dns_attempt *a = &flight->attempt[flight->attempts];
    uint16_t id;
    int port = choose_port(f, upstream, now), tries = TRIES;
    if (port < 0)
        return port;
    dns_port *p = &f->port[port];
    do
        if (!tries-- || dns_forward_draw(f, &id, sizeof id))
            return -EIO;
    while (known_id(p, id));
    memset(a->letters, 0, sizeof a->letters);
    if (u->mixed && dns_forward_draw(f, a->letters, (flight->name_len + 7u) / 8))
        return -EIO;
    a->upstream = upstream;
    a->port = (uint16_t)port;
    a->use = p->used++;
    p->id[a->use] = id;
    p->flight[a->use] = number;
    p->sent[a->use] = now;
    p->waiting++;
    flight->attempts++;
    u->asked++;
    if (f->outs == DNS_FORWARD_OUT)
        dns_forward_send_out(f);
    dns_forward_out *out = &f->out[f->outs++];
    out->port = (uint16_t)port;
    out->len = (uint16_t)write_question(u, flight, a, id, out->packet);
    if (f->tap && f->turn)
        dns_tap_upstream(f->tap, &u->to, out->packet, out->len, f->turn->wall, 0);
    return 0;
}

/* Sends what is queued, all of one port together. A port that cannot send fails as one that got no reply. */
void dns_forward_send_out(dns_forward *f)
{
    struct mmsghdr msgs[DNS_FORWARD_OUT];
    struct iovec iov[DNS_FORWARD_OUT];
    unsigned n = 0;
    uint32_t outs = f->outs;
    f->outs = 0;
    memset(msgs, 0, outs * sizeof msgs[0]);
    for (uint32_t i = 0; i < outs; i++) {
        uint16_t port = f->out[i].port;
        if (port == DNS_FORWARD_NONE)
            continue;
        n = 0;
        for (uint32_t k = i; k < outs; k++) {
            if (f->out[k].port != port)
                continue;
            f->out[k].port = DNS_FORWARD_NONE;
            iov[n] = (struct iovec){f->out[k].packet, f->out[k].len};
            msgs[n].msg_hdr.msg_iov = &iov[n];
            msgs[n++].msg_hdr.msg_iovlen = 1;
        }
        if (f->port[port].fd < 0)
            continue;
        for (unsigned done = 0; done < n;) {
            int sent = f->calls->send(f->calls->ctx, f->port[port].fd, msgs + done, n - done);
            if (sent <= 0 && sent != -EINTR) {
                if (sent == -ECONNREFUSED) { /* what an earlier question met */
                    f->port[port].refused = 1;
                    f->due = 1;
                }
                break; /* lost, as on the wire: its timeout tells */
            }
            done += sent > 0 ? (unsigned)sent : 0;
        }
    }
}
