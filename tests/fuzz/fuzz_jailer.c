/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of spore-jailer, arguments between NULs, and /proc/misc. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jail/jailer.h"
#include "jail/jailer_files.h"

#define ARGS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_options(const struct jailer_options *o)
{
    if (o->help || o->version)
        return;
    if (o->id == NULL || o->exec_file == NULL || o->base == NULL)
        abort();
    if (o->id[0] == '\0' || strlen(o->id) > 64 || strchr(o->id, '/') != NULL ||
        strchr(o->id, '.') != NULL)
        abort();
    if (o->uid == UINT32_MAX || o->gid == UINT32_MAX)
        abort();
    if (o->parent_cgroup != NULL && o->parent_cgroup[0] == '/')
        abort();
    if (o->cgroup_version != 1 && o->cgroup_version != 2)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    char *argv[ARGS_MAX + 1] = {NULL};
    struct jailer_options options;
    struct err err;
    int argc = 0;

    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    for (size_t at = 0; at <= size && argc < ARGS_MAX; argc++) {
        argv[argc] = text + at;
        at += strlen(text + at) + 1;
    }
    if (jailer_parse(argc, argv, &options, &err) == 0)
        check_options(&options);
    if (jailer_find_misc(text, "userfaultfd") >= 1 << 20)
        abort();
    free(text);
    return 0;
}
