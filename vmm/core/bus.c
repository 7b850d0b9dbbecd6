/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/core/bus.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/num.h"

void bus_init(struct bus *bus)
{
    *bus = (struct bus){0};
}

/* Index of the first range that starts above `address`. */
static unsigned int upper_bound(const struct bus *bus, uint64_t address)
{
    unsigned int low = 0;
    unsigned int high = bus->count;

    while (low < high) {
        unsigned int mid = low + (high - low) / 2;

        if (bus->ranges[mid].start <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int bus_add(struct bus *bus, uint64_t start, uint64_t len, struct device *dev)
{
    unsigned int at = upper_bound(bus, start);
    uint64_t end;

    assert(len > 0 && dev->ops->access != NULL);
    if (!num_add(start, len, &end))
        return -EINVAL;
    if (bus->count == BUS_RANGES_MAX)
        return -ENOSPC;
    if (at > 0 && bus->ranges[at - 1].start + bus->ranges[at - 1].len > start)
        return -EEXIST;
    if (at < bus->count && bus->ranges[at].start < end)
        return -EEXIST;
    memmove(&bus->ranges[at + 1], &bus->ranges[at],
        (bus->count - at) * sizeof(bus->ranges[0]));
    bus->ranges[at] =
        (struct bus_range){.start = start, .len = len, .dev = dev};
    bus->count++;
    return 0;
}

static const struct bus_range *find(
    const struct bus *bus, uint64_t address, uint32_t len)
{
    unsigned int at = upper_bound(bus, address);
    const struct bus_range *r;

    if (at == 0)
        return NULL;
    r = &bus->ranges[at - 1];
    return num_range_within(address - r->start, len, r->len) ? r : NULL;
}

bool bus_access(struct bus *bus, uint64_t address, uint8_t *data, uint32_t len,
    bool is_write)
{
    const struct bus_range *r = NULL;
    struct bus_access access = {.value = UINT64_MAX, .is_write = is_write};

    assert(len >= 1 && len <= sizeof(access.value));
    if (num_is_pow2(len))
        r = find(bus, address, len);
    if (r == NULL) {
        (void)__atomic_fetch_add(&bus->misses, 1, __ATOMIC_RELAXED);
        if (!is_write)
            memset(data, 0xff, len);
        return false;
    }
    access.offset = address - r->start;
    access.len = (uint8_t)len;
    if (is_write) {
        access.value = 0;
        memcpy(&access.value, data, len);
    }
    device_lock(r->dev);
    r->dev->ops->access(r->dev, &access);
    device_unlock(r->dev);
    if (!is_write)
        memcpy(data, &access.value, len);
    return true;
}
