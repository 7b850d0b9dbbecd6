/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An address space of devices: one bus for port I/O, one for MMIO.
 *
 * Thread rule: ranges are added before the first vCPU runs and never change
 * while one does; bus_access is called from any vCPU thread and takes the
 * device's lock. Guest-controlled: address, length and data of an access.
 */
#ifndef VMM_CORE_BUS_H
#define VMM_CORE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/core/device.h"

#define BUS_RANGES_MAX 128

struct bus_range {
    uint64_t start;
    uint64_t len;
    struct device *dev; /* borrowed */
};

struct bus {
    uint64_t misses; /* accesses that met no device; relaxed atomic */
    unsigned int count;
    struct bus_range ranges[BUS_RANGES_MAX]; /* sorted, disjoint */
};

void bus_init(struct bus *bus);

/* 0, -EEXIST if the range overlaps another, -ENOSPC if the table is full. */
CC_MUST_CHECK int bus_add(
    struct bus *bus, uint64_t start, uint64_t len, struct device *dev);

/*
 * Carries out one access of `len` bytes (1 to 8) at `data`. An access that
 * meets no device, straddles the end of one, or is not 1, 2, 4 or 8 bytes
 * reads all ones and writes nothing; then the result is false.
 */
bool bus_access(struct bus *bus, uint64_t address, uint8_t *data, uint32_t len,
    bool is_write);

#endif
