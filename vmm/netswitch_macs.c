/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/netswitch_macs.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "vmm/base/clock.h"

#define NONE      UINT32_MAX
#define PORTS_MAX 65536u

int netswitch_macs_init(struct netswitch_macs *m, uint32_t ports,
    uint64_t age_ns, uint64_t hold_ns, struct err *err)
{
    uint32_t count = ports * NETSWITCH_MACS_PER_PORT;

    assert(ports > 0 && ports <= PORTS_MAX);
    *m = (struct netswitch_macs){
        .ports = ports, .age_ns = age_ns, .hold_ns = hold_ns};
    while ((UINT32_C(1) << m->bucket_bits) < count)
        m->bucket_bits++;
    /* Without entropy yet, early in a boot, the clock has to do. */
    if (getrandom(&m->key, sizeof(m->key), GRND_NONBLOCK) != sizeof(m->key))
        m->key = clock_now_ns();
    m->key |= 1;
    m->entries = calloc(count, sizeof(m->entries[0]));
    m->buckets = malloc(((size_t)1 << m->bucket_bits) * sizeof(m->buckets[0]));
    if (m->entries == NULL || m->buckets == NULL) {
        netswitch_macs_fini(m);
        return err_sys(err, ENOMEM, "switch: table of addresses");
    }
    for (size_t i = 0; i < (size_t)1 << m->bucket_bits; i++)
        m->buckets[i] = NONE;
    return 0;
}

void netswitch_macs_fini(struct netswitch_macs *m)
{
    free(m->entries);
    free(m->buckets);
    m->entries = NULL;
    m->buckets = NULL;
}

static uint32_t *bucket_of(const struct netswitch_macs *m, uint64_t mac)
{
    uint64_t h = (mac ^ (m->key >> 16)) * m->key;

    h ^= h >> 32;
    h *= UINT64_C(0x9e3779b97f4a7c15);
    return &m->buckets[h >> (64 - m->bucket_bits)];
}

static uint32_t entry_of(const struct netswitch_macs *m, uint64_t mac)
{
    uint32_t i = *bucket_of(m, mac);

    while (i != NONE && m->entries[i].mac != mac)
        i = m->entries[i].next;
    return i;
}

static bool is_older(uint64_t used_ns, uint64_t now_ns, uint64_t than_ns)
{
    return now_ns > used_ns && now_ns - used_ns > than_ns;
}

static void free_entry(struct netswitch_macs *m, uint32_t entry)
{
    uint32_t *at = bucket_of(m, m->entries[entry].mac);

    while (*at != entry) {
        assert(*at != NONE);
        at = &m->entries[*at].next;
    }
    *at = m->entries[entry].next;
    m->entries[entry].used_ns = 0;
}

bool netswitch_macs_learn(
    struct netswitch_macs *m, uint64_t mac, uint32_t port, uint64_t now_ns)
{
    uint32_t first = port * NETSWITCH_MACS_PER_PORT;
    uint32_t i = entry_of(m, mac);
    uint32_t *bucket;

    assert(port < m->ports && now_ns > 0);
    if (i != NONE && i / NETSWITCH_MACS_PER_PORT == port) {
        m->entries[i].used_ns = now_ns;
        return true;
    }
    if (i != NONE && !is_older(m->entries[i].used_ns, now_ns, m->hold_ns)) {
        m->refused++;
        return false;
    }
    if (i != NONE)
        free_entry(m, i);
    i = first;
    for (uint32_t k = first; k < first + NETSWITCH_MACS_PER_PORT; k++) {
        if (m->entries[k].used_ns < m->entries[i].used_ns)
            i = k;
    }
    if (m->entries[i].used_ns != 0) {
        if (!is_older(m->entries[i].used_ns, now_ns, m->age_ns))
            m->evicted++;
        free_entry(m, i);
    }
    bucket = bucket_of(m, mac);
    m->entries[i] =
        (struct netswitch_mac){.mac = mac, .used_ns = now_ns, .next = *bucket};
    *bucket = i;
    return true;
}

uint32_t netswitch_macs_find(
    const struct netswitch_macs *m, uint64_t mac, uint64_t now_ns)
{
    uint32_t i = entry_of(m, mac);

    if (i == NONE || is_older(m->entries[i].used_ns, now_ns, m->age_ns))
        return NETSWITCH_NO_PORT;
    return i / NETSWITCH_MACS_PER_PORT;
}

void netswitch_macs_forget(struct netswitch_macs *m, uint32_t port)
{
    uint32_t first = port * NETSWITCH_MACS_PER_PORT;

    for (uint32_t i = first; i < first + NETSWITCH_MACS_PER_PORT; i++) {
        if (m->entries[i].used_ns != 0)
            free_entry(m, i);
    }
}

uint32_t netswitch_macs_count(
    const struct netswitch_macs *m, uint32_t port, uint64_t now_ns)
{
    uint32_t first = port * NETSWITCH_MACS_PER_PORT;
    uint32_t count = 0;

    for (uint32_t i = first; i < first + NETSWITCH_MACS_PER_PORT; i++) {
        if (m->entries[i].used_ns != 0 &&
            !is_older(m->entries[i].used_ns, now_ns, m->age_ns))
            count++;
    }
    return count;
}
