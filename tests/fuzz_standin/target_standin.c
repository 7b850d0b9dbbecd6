/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/target.h"

/* Any directory with a config.ron. */
int fuzz_target_open(
    const char *dir, struct fuzz_target *ret_target, struct err *err)
{
    struct fuzz_target target = {.dir = strdup(dir)};

    if (target.dir == NULL || access(dir, X_OK) < 0) {
        free(target.dir);
        return err_set(err, ENOENT, "%s: no target", dir);
    }
    *ret_target = target;
    return 0;
}

void fuzz_target_fini(struct fuzz_target *target)
{
    free(target->dir);
    target->dir = NULL;
}
