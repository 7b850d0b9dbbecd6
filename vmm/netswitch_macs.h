/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which Ethernet address is behind which port of a switch (IEEE 802.1Q, 8.8).
 *
 * All memory is there from the start: a port has so many entries of its own,
 * and a port that claims more addresses loses the ones it used longest ago.
 * So a flood of source addresses costs nobody but who sent it. An address
 * stays with its port while it is heard there; another port gets it once it
 * was silent for a while, or when its port is gone.
 *
 * Thread rule: one thread. Addresses are guest-controlled; the hash is keyed,
 * so that they cannot be chosen to meet in one bucket.
 */
#ifndef VMM_NETSWITCH_MACS_H
#define VMM_NETSWITCH_MACS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define NETSWITCH_MACS_PER_PORT 64u
#define NETSWITCH_NO_PORT       UINT32_MAX

struct netswitch_mac {
    uint64_t mac;     /* 48 bits, the first octet in the highest byte of them */
    uint64_t used_ns; /* when it was last heard; 0: the entry is free */
    uint32_t next;    /* of its bucket */
};

struct netswitch_macs {
    struct netswitch_mac *entries; /* NETSWITCH_MACS_PER_PORT for each port */
    uint32_t *buckets;             /* index of the first entry */
    uint32_t ports;
    unsigned int bucket_bits;
    uint64_t key;
    uint64_t age_ns;
    uint64_t hold_ns;
    uint64_t evicted; /* entries that made room for others of their port */
    uint64_t refused; /* addresses that another port was holding */
};

/*
 * Room for `ports` ports, 1 to 65536. An entry counts for `age_ns` after it
 * was last heard, and is its port's alone for `hold_ns`. -ENOMEM.
 */
CC_MUST_CHECK int netswitch_macs_init(struct netswitch_macs *m, uint32_t ports,
    uint64_t age_ns, uint64_t hold_ns, struct err *err);
void netswitch_macs_fini(struct netswitch_macs *m);

/*
 * `mac` was heard on `port` at `now_ns` > 0; false if it is another port's,
 * which it then stays.
 */
bool netswitch_macs_learn(
    struct netswitch_macs *m, uint64_t mac, uint32_t port, uint64_t now_ns);

/* The port that `mac` is behind, NETSWITCH_NO_PORT if that is not known. */
uint32_t netswitch_macs_find(
    const struct netswitch_macs *m, uint64_t mac, uint64_t now_ns);

/* Forgets all that is behind `port`. */
void netswitch_macs_forget(struct netswitch_macs *m, uint32_t port);

/* The number of entries of `port` that count at `now_ns`. */
uint32_t netswitch_macs_count(
    const struct netswitch_macs *m, uint32_t port, uint64_t now_ns);

#endif
