/* load_main.c: native/load.c as a program. Prints one JSON object on stdout.
 *
 *   bench/build/load 127.0.0.1:2000 --sockets 8 --in-flight 16 --seconds 2
 *   bench/build/load 127.0.0.1:2000 --rate 1000000 --sockets 4
 *   bench/build/load 127.0.0.1:5300 --names names.txt --in-flight 64
 *
 * A names file has one question per line: `name type`, type as a word or number.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "load: %s: %s\n", what, detail);
    exit(2);
}

static void parse_target(const char *text, load_job *job)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM}, *found;
    if (!colon || (size_t)(colon - text) >= sizeof host)
        fail(text, "expected ADDRESS:PORT, as 127.0.0.1:2000 or [::1]:2000");
    size_t from = text[0] == '[', len = (size_t)(colon - text) - 2 * from;
    memcpy(host, text + from, len);
    host[len] = 0;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        fail(text, "expected ADDRESS:PORT with a numeric address");
    memcpy(&job->to, found->ai_addr, found->ai_addrlen);
    job->to_len = found->ai_addrlen;
    freeaddrinfo(found);
}

static unsigned type_number(const char *word)
{
    static const struct { const char *word; unsigned number; } known[] = {
        {"A", 1}, {"NS", 2}, {"CNAME", 5}, {"SOA", 6}, {"PTR", 12}, {"MX", 15}, {"TXT", 16},
        {"AAAA", 28}, {"SRV", 33}, {"DS", 43}, {"DNSKEY", 48}, {"SVCB", 64}, {"HTTPS", 65}, {"CAA", 257}, {"ANY", 255}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(word, known[i].word) == 0)
            return known[i].number;
    return (unsigned)strtoul(strncasecmp(word, "TYPE", 4) == 0 ? word + 4 : word, NULL, 10);
}

/* One question as a wire message, with EDNS (1,232 bytes) when asked for; its length, 0 for a name that is none. */
static uint32_t question(const char *name, unsigned type, int edns, uint8_t *out)
{
    uint32_t at = 12;
    memset(out, 0, 12);
    out[2] = 1; /* RD */
    out[5] = 1; /* QDCOUNT */
    while (*name && strcmp(name, ".") != 0) {
        size_t len = strcspn(name, ".");
        if (!len || len > 63 || at + len + 6 > 12 + 255 + 4)
            return 0;
        out[at++] = (uint8_t)len;
        memcpy(out + at, name, len);
        at += (uint32_t)len;
        name += len + (name[len] == '.');
    }
    out[at++] = 0;
    out[at++] = (uint8_t)(type >> 8);
    out[at++] = (uint8_t)type;
    out[at++] = 0;
    out[at++] = 1;
    if (edns) {
        memcpy(out + at, "\0\0\x29\4\xd0\0\0\0\0\0\0", 11);
        out[11] = 1; /* ARCOUNT */
        at += 11;
    }
    return at;
}

static void read_names(const char *path, int edns, load_job *job)
{
    FILE *file = fopen(path, "r");
    char name[1024], type[32], line[2048];
    size_t used = 0, count = 0, size = 0, slots = 0;
    uint8_t *all = NULL;
    uint32_t *at = NULL;
    if (!file)
        fail(path, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%1023s %31s", name, type) != 2 || name[0] == '#')
            continue;
        if (used + 512 > size && !(all = realloc(all, size = size * 2 + 65536)))
            fail(path, "out of memory");
        if (count + 2 > slots && !(at = realloc(at, sizeof *at * (slots = slots * 2 + 4096))))
            fail(path, "out of memory");
        uint32_t len = question(name, type_number(type), edns, all + used);
        if (!len || !type_number(type))
            fail(path, line);
        at[count++] = (uint32_t)used;
        used += len;
        at[count] = (uint32_t)used;
    }
    fclose(file);
    job->questions = all;
    job->at = at;
    job->question_count = (uint32_t)count;
}

static void print(const load_job *job, const load_report *r)
{
    double seconds = (double)r->window_ns / 1e9;
    uint64_t n = r->window_answered ? r->window_answered : 1;
    printf("{\"sent\": %lu, \"answered\": %lu, \"late\": %lu, \"lost\": %lu, \"wrong\": %lu, \"repeated\": %lu, "
           "\"refused\": %lu, \"dropped_here\": %lu, \"seconds\": %.6f, \"window_sent\": %lu, "
           "\"window_answered\": %lu, \"offered\": %.1f, \"rate\": %.1f, \"goodput\": %.1f",
           r->sent, r->answered, r->late, r->lost, r->wrong, r->repeated, r->refused, r->dropped_here, seconds,
           r->window_sent, r->window_answered, (double)r->window_sent / seconds,
           (double)r->window_answered / seconds, (double)r->window_fresh / seconds);
    static const struct { const char *name; double share; } marks[] = {
        {"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}, {"max", 1}};
    printf(", \"latency_us\": {");
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        printf("%s\"%s\": %.1f", i ? ", " : "", marks[i].name, (double)load_percentile(r, marks[i].share) / 1e3);
    printf("}, \"own_cpu_us_per_reply\": %.3f, \"own_cpu_share\": %.3f", (double)r->own_cpu_ns / 1e3 / (double)n,
           (double)r->own_cpu_ns / (double)r->window_ns);
    if (job->watched_count)
        printf(", \"server_cpu_us_per_reply\": %.4f, \"server_cpu_share\": %.3f",
               (double)r->watched_cpu_ns / 1e3 / (double)n, (double)r->watched_cpu_ns / (double)r->window_ns);
    if (job->questions) {
        printf(", \"rcodes\": [");
        for (int i = 0; i < 16; i++)
            printf("%s%lu", i ? ", " : "", r->rcode[i]);
        printf("]");
    }
    printf("}\n");
}

static const struct option options[] = {
    {"sockets", 1, 0, 's'}, {"addresses", 1, 0, 'a'}, {"in-flight", 1, 0, 'm'}, {"size", 1, 0, 'b'},
    {"rate", 1, 0, 'r'},    {"train", 1, 0, 't'},     {"warmup", 1, 0, 'w'},    {"seconds", 1, 0, 'd'},
    {"timeout", 1, 0, 'o'}, {"fresh", 1, 0, 'f'},     {"watch", 1, 0, 'p'},     {"names", 1, 0, 'n'},
    {"edns", 0, 0, 'e'},    {"help", 0, 0, 'h'},    {0, 0, 0, 0}};

static const char usage[] =
    "usage: load ADDRESS:PORT [options]\n"
    "  --sockets N      client sockets (8)\n"
    "  --addresses N    source addresses each socket sends from in turn (1)\n"
    "  --in-flight M    closed loop: requests per socket (16)\n"
    "  --rate R         open loop: datagrams per second, answered or not\n"
    "  --train T        open loop: datagrams per system call, by UDP_SEGMENT\n"
    "  --size B         payload bytes, 16 to 65507 (64)\n"
    "  --warmup S --seconds S --timeout S --fresh S\n"
    "                   not measured (0.3), measured (2), lost after (1), goodput within (0.1)\n"
    "  --watch PID      read this process's CPU time over the window; up to 16 times\n"
    "  --names FILE     ask DNS questions: lines of `name type`; --edns: with EDNS\n"
    "example: load 127.0.0.1:2000 --sockets 8 --in-flight 16 --seconds 2\n";

int main(int argc, char **argv)
{
    static load_report report;
    load_job job = {.sockets = 8, .addresses = 1, .in_flight = 16, .size = 64,
                    .warmup = .3, .seconds = 2, .timeout = 1, .fresh = .1};
    const char *names = NULL;
    int edns = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 's': job.sockets = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'a': job.addresses = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'm': job.in_flight = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'b': job.size = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'r': job.rate = strtod(optarg, NULL); break;
        case 't': job.train = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'w': job.warmup = strtod(optarg, NULL); break;
        case 'd': job.seconds = strtod(optarg, NULL); break;
        case 'o': job.timeout = strtod(optarg, NULL); break;
        case 'f': job.fresh = strtod(optarg, NULL); break;
        case 'p':
            if (job.watched_count == LOAD_WATCHED)
                fail("--watch", "at most 16 processes");
            job.watched[job.watched_count++] = (pid_t)strtol(optarg, NULL, 10);
            break;
        case 'n': names = optarg; break;
        case 'e': edns = 1; break;
        case 'h': fputs(usage, stdout); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        return 2;
    }
    parse_target(argv[optind], &job);
    if (names)
        read_names(names, edns, &job);
    if (load_refusal(&job))
        fail(argv[optind], load_refusal(&job));
    int error = load_run(&job, &report);
    if (error)
        fail(argv[optind], strerror(-error));
    print(&job, &report);
    free((void *)job.questions);
    free((void *)job.at);
    return 0;
}
