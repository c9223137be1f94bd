/* Lists from text, of every kind: each line is taken, handed back or skipped, and every rule is found again. */
#include <assert.h>
#include <stdlib.h>

#include "../dns_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const dns_key key = {{3, 5}};
    dns_names set[DNS_LIST_SETS] = {0};
    dns_list list = {.set = {&set[0], &set[1], &set[2], &set[3]}};
    size_t names = 0;
    if (size < 1)
        return 0;
    size = size > 4096 ? 4096 : size;
    list.rules = dns_rules_new(0, 0, &key);
    assert(list.rules && dns_list_read(&list, data[0] % 3, data + 1, size - 1) == 0);
    for (int i = 0; i < DNS_LIST_SETS; i++) {
        names += set[i].count;
        dns_names_seal(&set[i]);
        for (size_t k = 0; k < set[i].count; k++)
            assert(dns_names_find(&set[i], set[i].at[k].hash) == set[i].at[k].line);
    }
    assert(names == list.count && list.rules->count <= list.count);
    for (size_t i = 0; i < list.lefts; i++)
        assert(list.left[i].start < list.left[i].end && list.left[i].end <= size - 1);
    for (int i = 0; i < DNS_LIST_SETS; i++)
        dns_names_free(&set[i]);
    dns_rules_free(list.rules);
    free(list.left);
    return 0;
}
