/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zygote of a template: the process that makes its clones.
 *
 * It holds the template's snapshot open and checked, so that a clone is a fork
 * of it that builds its machine, and keeps clones ready: as many as were
 * wanted at a time of late. It runs no guest, and reads nothing that one could
 * have written. Whatever it made ends with it.
 *
 * A client has a SOCK_SEQPACKET connection to it (clone_wire.h); clones that
 * it has taken end with that connection. pool.h is such a client.
 *
 * Thread rule: zygote_run is a process of its own with one thread. The
 * requests are those of this user's own processes, and are checked.
 */
#ifndef VMM_SERVE_ZYGOTE_H
#define VMM_SERVE_ZYGOTE_H

#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/jail_options.h"
#include "vmm/serve/template.h"

#define ZYGOTE_CLIENTS_MAX 256u
#define ZYGOTE_READY_MAX   64u /* of each kind */

struct zygote_config {
    const struct template *template;
    /* Options of `spore run` for its clones (--jail, --cgroup, --net...);
     * NULL-terminated, or NULL. */
    const char *const *run_options;
    const struct jail_options *jail; /* instead of theirs; or NULL */
    uint32_t keep;    /* plain clones ready at the least, whoever is there */
    uint64_t idle_ns; /* without a client it ends after this; 0: never */
};

/*
 * One of the caller's own: a child that ends, and clears up, when the
 * connection *ret_fd does. Before the process has other threads.
 */
CC_MUST_CHECK int zygote_start(
    const struct zygote_config *config, int *ret_fd, struct err *err);

/*
 * A connection to the one that this user's commands share, which is started
 * if there is none. -EAGAIN when it has too many clients.
 */
CC_MUST_CHECK int zygote_reach(
    const struct zygote_config *config, int *ret_fd, struct err *err);

#endif
