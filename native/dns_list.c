/* dns_list.c: see dns_list.h. */
#include "dns_list.h"

#include <stdlib.h>
#include <strings.h>

/* --- names with lines ------------------------------------------------------ */

int dns_names_add(dns_names *names, uint64_t hash, uint32_t line)
{
    if (names->count == names->room) {
        size_t room = names->room ? 2 * names->room : 64;
        dns_named *at = realloc(names->at, room * sizeof *at);
        if (!at)
            return -1;
        names->at = at;
        names->room = room;
    }
    names->at[names->count++] = (dns_named){.hash = hash, .line = line};
    return 0;
}

static int is_before(const dns_named *a, const dns_named *b)
{
    return a->hash != b->hash ? a->hash < b->hash : a->line < b->line;
}

/* Within its bucket: a few names. */
static void insert(dns_named *at, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        dns_named one = at[i];
        size_t k = i;
        for (; k && is_before(&one, &at[k - 1]); k--)
            at[k] = at[k - 1];
        at[k] = one;
    }
}

static int by_hash(const void *left, const void *right)
{
    return is_before(left, right) ? -1 : is_before(right, left);
}

/* Into as many buckets as names, by the top bits of the hash, which is even over
 * them. 0 or -1 without memory. */
static int sort_by_bucket(dns_names *names)
{
    unsigned bits = 1;
    while (bits < 31 && (size_t)1 << bits < names->count) /* not reached: 31, by less than 2^31 names */
        bits++;
    size_t buckets = (size_t)1 << bits;
    uint32_t *place = calloc(buckets + 1, sizeof *place);
    dns_named *to = malloc(names->count * sizeof *to);
    if (!place || !to) {
        free(place);
        free(to);
        return -1;
    }
    for (size_t i = 0; i < names->count; i++)
        place[(names->at[i].hash >> (64 - bits)) + 1]++;
    for (size_t i = 0; i < buckets; i++)
        place[i + 1] += place[i];
    for (size_t i = 0; i < names->count; i++)
        to[place[names->at[i].hash >> (64 - bits)]++] = names->at[i];
    for (size_t i = 0, from = 0; i < buckets; from = place[i++])
        if (place[i] - from < 32) /* one name many times fills a bucket */
            insert(to + from, place[i] - from);
        else
            qsort(to + from, place[i] - from, sizeof *to, by_hash);
    free(place);
    free(names->at);
    names->at = to;
    names->room = names->count;
    return 0;
}

void dns_names_seal(dns_names *names)
{
    size_t kept = 0;
    if (names->count && (names->count > UINT32_MAX || sort_by_bucket(names) < 0)) /* not reached: 2^32 names */
        qsort(names->at, names->count, sizeof *names->at, by_hash);
    for (size_t i = 0; i < names->count; i++)
        if (!kept || names->at[kept - 1].hash != names->at[i].hash)
            names->at[kept++] = names->at[i];
    names->count = names->sealed = kept;
}

uint32_t dns_names_find(const dns_names *names, uint64_t hash)
{
    size_t low = 0, high = names->sealed;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (names->at[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low < names->sealed && names->at[low].hash == hash ? names->at[low].line : 0;
}

void dns_names_free(dns_names *names)
{
    free(names->at);
    memset(names, 0, sizeof *names);
}

/* --- lines ------------------------------------------------------------------ */

typedef struct piece {
    const uint8_t *at;
    size_t len;
} piece;

static int is_blank(uint8_t c) { return c == ' ' || c == '\t'; }

static piece stripped(const uint8_t *at, size_t len)
{
    while (len && (is_blank(*at) || *at == '\r'))
        at++, len--;
    while (len && (is_blank(at[len - 1]) || at[len - 1] == '\r'))
        len--;
    return (piece){at, len};
}

/* Only printable ASCII and blanks: what else a line may hold is for Python. */
static int is_plain(piece line)
{
    for (size_t i = 0; i < line.len; i++)
        if ((line.at[i] < ' ' && line.at[i] != '\t') || line.at[i] > '~')
            return 0;
    return 1;
}

/* The wire form of a name without escapes; 0 when Python must look at it. */
static size_t to_wire(piece text, uint8_t out[DNS_NAME_MAX])
{
    size_t used = 1, label = 0; /* out[label]: the length octet of the label being written */
    if (text.len && text.at[text.len - 1] == '.')
        text.len--;
    if (!text.len || (text.len == 1 && *text.at == '@'))
        return 0;
    for (size_t i = 0; i <= text.len; i++) {
        if (i == text.len || text.at[i] == '.') {
            size_t size = used - label - 1;
            if (!size || size > 63 || used >= DNS_NAME_MAX)
                return 0;
            out[label] = (uint8_t)size;
            label = used++;
        } else if (text.at[i] == '\\' || used >= DNS_NAME_MAX) {
            return 0;
        } else {
            out[used++] = text.at[i];
        }
    }
    out[label] = 0;
    return used;
}

/* The rules that wait go into the tables. 0 or -1 without memory. */
static int settle(dns_list *list)
{
    for (unsigned i = 0; i < list->waiting; i++) {
        const dns_list_rule *rule = &list->wait[i];
        int allow = rule->set == DNS_LIST_ALLOW_EXACT || rule->set == DNS_LIST_ALLOW_BELOW;
        int below = rule->set == DNS_LIST_BELOW || rule->set == DNS_LIST_ALLOW_BELOW;
        if (dns_rules_enter(list->rules, &rule->q, DNS_RULE_EXACT | (below ? DNS_RULE_BELOW : 0),
                            allow ? DNS_RULE_ALLOW : DNS_RULE_NXDOMAIN, 0) < 0 ||
            dns_names_add(list->set[rule->set], rule->q.hash, rule->line) < 0)
            return -1;
        list->count++;
    }
    list->waiting = 0;
    return 0;
}

/* One rule, whose place in the tables is on its way from memory until the next few are
 * read too. 1; 0 when the name is not one for C; -1 without memory. Without `take` it is only judged. */
static int enter(dns_list *list, int set, piece name, uint32_t line, int take)
{
    uint8_t wire[DNS_NAME_MAX];
    size_t len = to_wire(name, wire);
    if (!len || !take)
        return len > 0;
    if (list->waiting == DNS_LIST_WAITING && settle(list) < 0)
        return -1;
    dns_list_rule *rule = &list->wait[list->waiting++];
    rule->set = (uint8_t)set;
    rule->line = line;
    dns_query_name(&rule->q, wire, len, &list->rules->key);
    dns_rules_expect(list->rules, &rule->q);
    return 1;
}

static piece next_word(piece *line)
{
    while (line->len && is_blank(*line->at))
        line->at++, line->len--;
    piece word = {line->at, 0};
    while (line->len && !is_blank(*line->at))
        line->at++, line->len--, word.len++;
    return word;
}

static void cut_comment(piece *line)
{
    const uint8_t *mark = memchr(line->at, '#', line->len);
    if (mark)
        line->len = (size_t)(mark - line->at);
}

/* Names that hosts files give to the machine itself. */
static int is_local(piece word)
{
    static const struct {
        uint8_t len;
        char text[22];
    } local[] = {{9, "localhost"},     {21, "localhost.localdomain"}, {5, "local"},        {13, "broadcasthost"},
                 {13, "ip6-localhost"}, {12, "ip6-loopback"},          {12, "ip6-localnet"}, {15, "ip6-mcastprefix"},
                 {12, "ip6-allnodes"},  {14, "ip6-allrouters"},        {12, "ip6-allhosts"}, {7, "0.0.0.0"}};
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if (local[i].len == word.len && !strncasecmp(local[i].text, (const char *)word.at, word.len))
            return 1;
    return 0;
}

static int enter_words(dns_list *list, piece words, uint32_t number, int take)
{
    int done = 1;
    for (piece word; done > 0 && (word = next_word(&words)).len;)
        if (!is_local(word))
            done = enter(list, DNS_LIST_EXACT, word, number, take);
    return done;
}

/* A line is taken whole or not at all. */
static int take_hosts(dns_list *list, piece line, uint32_t number)
{
    cut_comment(&line);
    next_word(&line);
    piece rest = line, first = next_word(&rest);
    if (!next_word(&rest).len) /* one name is whole by itself */
        return first.len && !is_local(first) ? enter(list, DNS_LIST_EXACT, first, number, 1) : 1;
    return enter_words(list, line, number, 0) ? enter_words(list, line, number, 1) : 0;
}

static int take_plain(dns_list *list, piece line, uint32_t number)
{
    cut_comment(&line);
    piece word = next_word(&line);
    if (word.len >= 2 && word.at[0] == '*' && word.at[1] == '.')
        word.at += 2, word.len -= 2;
    return enter(list, DNS_LIST_BELOW, word, number, 1);
}

/* [@@][||]name[^], without options and wildcards. */
static int take_adblock(dns_list *list, piece line, uint32_t number)
{
    int allow = line.len >= 2 && line.at[0] == '@' && line.at[1] == '@';
    line.at += 2 * allow, line.len -= 2u * (size_t)allow;
    int below = line.len >= 2 && line.at[0] == '|' && line.at[1] == '|';
    line.at += 2 * below, line.len -= 2u * (size_t)below;
    if (line.len && line.at[line.len - 1] == '^')
        line.len--;
    for (size_t i = 0; i < line.len; i++)
        if (memchr("*/:^ \t|$", line.at[i], 8))
            return 0;
    int set = allow ? below ? DNS_LIST_ALLOW_BELOW : DNS_LIST_ALLOW_EXACT : below ? DNS_LIST_BELOW : DNS_LIST_EXACT;
    return enter(list, set, line, number, 1);
}

static int leave(dns_list *list, size_t start, size_t end, uint32_t number)
{
    if (list->lefts == list->left_room) {
        size_t room = list->left_room ? 2 * list->left_room : 64;
        dns_list_line *left = realloc(list->left, room * sizeof *left);
        if (!left)
            return -1;
        list->left = left;
        list->left_room = room;
    }
    list->left[list->lefts++] = (dns_list_line){start, end, number};
    return 0;
}

uint32_t dns_list_lines(const uint8_t *text, size_t len)
{
    const uint64_t ones = 0x0101010101010101u, low = 0x7f * ones;
    uint32_t lines = 1;
    size_t at = 0;
    for (uint64_t w; len - at >= 8; at += 8) {
        memcpy(&w, text + at, 8);
        w ^= '\n' * ones;
        w = ~(((w & low) + low) | w) & ~low; /* the top bit of each octet that was \n */
        lines += (uint32_t)__builtin_popcountll(w);
    }
    for (; at < len; at++)
        lines += text[at] == '\n';
    return lines;
}

int dns_list_read(dns_list *list, int kind, const uint8_t *text, size_t len)
{
    int (*take)(dns_list *, piece, uint32_t) =
        kind == DNS_LIST_HOSTS ? take_hosts : kind == DNS_LIST_PLAIN ? take_plain : take_adblock;
    uint32_t number = 0;
    for (size_t at = 0; at < len; number++) {
        const uint8_t *mark = memchr(text + at, '\n', len - at);
        size_t end = mark ? (size_t)(mark - text) : len, start = at;
        piece line = stripped(text + start, end - start);
        at = end + 1;
        if (!line.len || memchr("#!;[", *line.at, 4))
            continue;
        int done = is_plain(line) ? take(list, line, number + 1) : 0;
        if (done < 0 || (!done && leave(list, start, end, number + 1) < 0))
            return -1;
    }
    return settle(list);
}
