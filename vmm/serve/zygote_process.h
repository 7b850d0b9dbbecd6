/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a zygote does (zygote.h). Thread rule: the process's only thread.
 */
#ifndef VMM_SERVE_ZYGOTE_PROCESS_H
#define VMM_SERVE_ZYGOTE_PROCESS_H

#include "vmm/serve/zygote.h"

/*
 * Serves `listen_fd` and the connection `client_fd`, both its own and either
 * -1, to the end; `path` is removed when nobody is to connect any more, and may
 * be NULL. What stands in the way of the first clone is told on `said_fd` as a
 * struct zygote_message, as is that nothing does. An exit status.
 */
int zygote_run(const struct zygote_config *config, int listen_fd, int client_fd,
    const char *path, int said_fd);

#endif
