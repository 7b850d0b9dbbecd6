/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/folder.h"

#include <errno.h>
#include <fts.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int folder_make_beside(const char *path, char **ret_dir, struct err *err)
{
    size_t size = strlen(path);
    char *dir;

    while (size > 1 && path[size - 1] == '/')
        size--;
    if (asprintf(&dir, "%.*s.XXXXXX", (int)size, path) < 0)
        return err_sys(err, ENOMEM, "%s", path);
    if (mkdtemp(dir) == NULL) {
        int rc = err_sys(err, errno, "%s", path);

        free(dir);
        return rc;
    }
    *ret_dir = dir;
    return 0;
}

void folder_remove(const char *dir)
{
    char *roots[] = {(char *)(uintptr_t)dir, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *found;

    if (walk == NULL)
        return;
    while ((found = fts_read(walk)) != NULL) {
        if (found->fts_info == FTS_DP)
            (void)rmdir(found->fts_accpath);
        else if (found->fts_info != FTS_D)
            (void)unlink(found->fts_accpath);
    }
    (void)fts_close(walk);
}
