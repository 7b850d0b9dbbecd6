/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/fd.h"

static int make_room(struct inputs *inputs)
{
    size_t room = inputs->room == 0 ? 64 : inputs->room * 2;
    struct fuzz_input *list;
    char **names;

    if (inputs->count < inputs->room)
        return 0;
    list = reallocarray(inputs->list, room, sizeof(*list));
    if (list == NULL)
        return -ENOMEM;
    inputs->list = list;
    names = reallocarray(inputs->names, room, sizeof(*names));
    if (names == NULL)
        return -ENOMEM;
    inputs->names = names;
    inputs->room = room;
    return 0;
}

static int add_file(struct inputs *inputs, const char *path, struct err *err)
{
    uint8_t *data = NULL;
    size_t size = 0;
    char *name;
    int rc;

    if (inputs->count == INPUTS_MAX || make_room(inputs) < 0)
        return err_set(err, E2BIG, "%s: more than %u inputs", path, INPUTS_MAX);
    rc = fd_read_file(path, INPUT_FILE_MAX, &data, &size, err);
    if (rc < 0)
        return rc;
    if (size > INPUTS_BYTES - inputs->bytes) {
        free(data);
        return err_set(err, E2BIG, "%s: more than %llu MiB of inputs", path,
            (unsigned long long)(INPUTS_BYTES >> 20));
    }
    name = strdup(path);
    if (name == NULL) {
        free(data);
        return err_sys(err, ENOMEM, "%s", path);
    }
    inputs->list[inputs->count] =
        (struct fuzz_input){.bytes = data, .size = size};
    inputs->names[inputs->count++] = name;
    inputs->bytes += size;
    return 0;
}

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int add_dir(struct inputs *inputs, const char *path, struct err *err)
{
    struct dirent **found;
    int count = scandir(path, &found, is_shown, alphasort);
    int rc = 0;

    if (count < 0)
        return err_sys(err, errno, "%s", path);
    for (int i = 0; i < count; i++) {
        struct stat st;
        char *file = NULL;

        if (rc == 0 && asprintf(&file, "%s/%s", path, found[i]->d_name) < 0) {
            file = NULL;
            rc = err_sys(err, ENOMEM, "%s", path);
        }
        if (rc == 0 && stat(file, &st) == 0 && S_ISREG(st.st_mode))
            rc = add_file(inputs, file, err);
        free(file);
        free(found[i]);
    }
    free(found);
    return rc;
}

int inputs_add(struct inputs *inputs, const char *path, struct err *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return err_sys(err, errno, "%s", path);
    if (S_ISDIR(st.st_mode))
        return add_dir(inputs, path, err);
    return add_file(inputs, path, err);
}

void inputs_fini(struct inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++) {
        free((void *)(uintptr_t)inputs->list[i].bytes);
        free(inputs->names[i]);
    }
    free(inputs->list);
    free(inputs->names);
    *inputs = (struct inputs){0};
}
