/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/template_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/store.h"
#include "vmm/base/fd.h"
#include "vmm/folder.h"
#include "vmm/serve/template.h"
#include "vmm/serve/template_json.h"
#include "vmm/words.h"

/* What the names of folders begin with; mkdtemp's six letters are behind it. */
#define PREFIX ".t-"

#define HELP "make one with spore template build"

/* The folder of all: beside the store of snapshots. */
static int find_all(char **ret_path, struct err *err)
{
    static const char sub[] = "/snapshots";
    char *path;
    int rc = store_default_path(&path, err);
    size_t size;

    if (rc < 0)
        return rc;
    size = strlen(path) - (sizeof(sub) - 1);
    rc = asprintf(ret_path, "%.*s/templates", (int)size, path);
    free(path);
    return rc < 0 ? err_sys(err, ENOMEM, "templates") : 0;
}

/* -ENOENT, without a text, if there are none. */
static int open_all(bool create, struct store *ret_all, struct err *err)
{
    char *path;
    int rc = find_all(&path, err);

    if (rc < 0)
        return rc;
    if (!create && access(path, F_OK) < 0 && errno == ENOENT)
        rc = -ENOENT;
    else /* a folder for this user only, with its parents */
        rc = store_open(ret_all, path, true, err);
    free(path);
    return rc;
}

static bool is_folder_name(const char *name)
{
    size_t size = sizeof(PREFIX) - 1;

    return strncmp(name, PREFIX, size) == 0 && strlen(name) == size + 6 &&
           strchr(name, '/') == NULL;
}

/* What a name leads to. -ENOENT, also for what is no name of ours. */
static int read_name(int all_fd, const char *name, char ret_folder[NAME_MAX])
{
    ssize_t n = readlinkat(all_fd, name, ret_folder, NAME_MAX - 1);

    if (n < 0)
        return errno == EINVAL ? -ENOENT : -errno;
    ret_folder[n] = '\0';
    return is_folder_name(ret_folder) ? 0 : -ENOENT;
}

static int no_template(const char *name, struct err *err)
{
    return err_set(err, ENOENT, "there is no template '%s': " HELP, name);
}

static int open_folder(const struct store *all, const char *folder,
    struct template_place *ret_place, struct err *err)
{
    struct template_place place = {
        .fd = openat(all->dir_fd, folder,
            O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};

    if (place.fd < 0)
        return err_sys(err, errno, "%s/%s", all->path, folder);
    if (asprintf(&place.path, "%s/%s", all->path, folder) < 0) {
        fd_closep(&place.fd);
        return err_sys(err, ENOMEM, "%s", folder);
    }
    *ret_place = place;
    return 0;
}

int template_place_open(
    const char *name, struct template_place *ret_place, struct err *err)
{
    char folder[NAME_MAX];
    struct store all;
    int rc = template_name_check(name, err);

    if (rc == 0)
        rc = open_all(false, &all, err);
    if (rc == -ENOENT)
        return no_template(name, err);
    if (rc < 0)
        return rc;
    rc = read_name(all.dir_fd, name, folder);
    if (rc == -ENOENT)
        rc = no_template(name, err);
    else if (rc < 0)
        rc = err_sys(err, rc, "template %s", name);
    else
        rc = open_folder(&all, folder, ret_place, err);
    store_close(&all);
    return rc;
}

void template_place_close(struct template_place *place)
{
    fd_closep(&place->fd);
    free(place->path);
    place->path = NULL;
}

/* With `waits`, until it can be had; -EWOULDBLOCK if another has it. */
static int lock(int fd, bool waits)
{
    while (flock(fd, waits ? LOCK_EX : LOCK_EX | LOCK_NB) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* ---- what is there ------------------------------------------------------- */

/* All entries of the folder, or of its names those that are folders'. */
static int read_all(const struct store *all, bool folders, struct words *ret)
{
    int fd = openat(all->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *e;

    if (dir == NULL) {
        int rc = -errno;

        fd_closep(&fd);
        return rc;
    }
    while ((e = readdir(dir)) != NULL) {
        if (folders ? is_folder_name(e->d_name)
                    : template_name_is_valid(e->d_name))
            words_add(ret, e->d_name);
    }
    (void)closedir(dir);
    return ret->failed ? -ENOMEM : 0;
}

static bool is_named(const struct store *all, const char *folder)
{
    struct words names = {0};
    /* What cannot be told is let be. */
    bool named = read_all(all, false, &names) < 0;

    for (size_t i = 0; !named && i < names.count; i++) {
        char target[NAME_MAX];

        named = read_name(all->dir_fd, names.list[i], target) == 0 &&
                strcmp(target, folder) == 0;
    }
    words_fini(&names);
    return named;
}

/*
 * Removes what the dead left. The lock first: who had it may have given the
 * folder its name just then.
 */
static void clean(const struct store *all)
{
    struct words folders = {0};

    if (read_all(all, true, &folders) == 0) {
        for (size_t i = 0; i < folders.count; i++) {
            struct template_place place;

            if (open_folder(all, folders.list[i], &place, NULL) < 0)
                continue;
            if (lock(place.fd, false) == 0 && !is_named(all, folders.list[i]))
                folder_remove(place.path);
            template_place_close(&place);
        }
    }
    words_fini(&folders);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int template_place_list(char ***ret_names, struct err *err)
{
    struct words found = {0};
    struct words names = {0};
    struct store all;
    int rc = open_all(false, &all, err);

    if (rc == 0) {
        rc = read_all(&all, false, &found);
        for (size_t i = 0; rc == 0 && i < found.count; i++) {
            char folder[NAME_MAX];

            if (read_name(all.dir_fd, found.list[i], folder) == 0)
                words_add(&names, found.list[i]);
        }
        if (rc < 0 || names.failed)
            rc = err_sys(err, rc < 0 ? rc : ENOMEM, "%s", all.path);
        store_close(&all);
    } else if (rc == -ENOENT) {
        rc = 0;
    }
    words_fini(&found);
    if (rc == 0) {
        if (names.count > 0)
            qsort(names.list, names.count, sizeof(*names.list), by_name);
        *ret_names = words_steal(&names);
        if (*ret_names == NULL)
            rc = err_sys(err, ENOMEM, "templates");
    }
    words_fini(&names);
    return rc;
}

/* ---- making -------------------------------------------------------------- */

static int make_folder(
    const struct store *all, struct template_place *ret_place, struct err *err)
{
    struct template_place place = {.fd = -1};
    int rc = 0;

    if (asprintf(&place.path, "%s/" PREFIX "XXXXXX", all->path) < 0)
        return err_sys(err, ENOMEM, "template");
    if (mkdtemp(place.path) == NULL) {
        rc = err_sys(err, errno, "%s", place.path);
        free(place.path);
        return rc;
    }
    place.fd =
        open(place.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (place.fd < 0)
        rc = -errno;
    /* Somebody who cleans up may have it; then it is gone. */
    if (rc == 0)
        rc = lock(place.fd, true);
    if (rc == 0 && access(place.path, F_OK) < 0)
        rc = -EAGAIN;
    if (rc < 0) {
        if (rc != -EAGAIN)
            (void)err_sys(err, rc, "%s", place.path);
        template_place_close(&place);
        return rc;
    }
    *ret_place = place;
    return 0;
}

static int exists(const char *name, struct err *err)
{
    return err_set(err, EEXIST,
        "there is a template '%s' already: --replace puts the new one in its "
        "place",
        name);
}

int template_place_begin(const char *name, bool replaces,
    struct template_place *ret_place, struct err *err)
{
    char folder[NAME_MAX];
    struct store all;
    int rc = template_name_check(name, err);

    if (rc == 0)
        rc = open_all(true, &all, err);
    if (rc < 0)
        return rc;
    if (!replaces && read_name(all.dir_fd, name, folder) == 0) {
        rc = exists(name, err);
    } else {
        clean(&all);
        do {
            rc = make_folder(&all, ret_place, err);
        } while (rc == -EAGAIN);
    }
    store_close(&all);
    return rc;
}

/* A link under a name of its own first: its renaming replaces what is there. */
static int replace_name(
    const struct store *all, const char *folder, const char *name)
{
    char temporary[NAME_MAX];
    int rc;

    (void)snprintf(temporary, sizeof(temporary), ".l%s", folder);
    if (unlinkat(all->dir_fd, temporary, 0) < 0 && errno != ENOENT)
        return -errno;
    if (symlinkat(folder, all->dir_fd, temporary) < 0)
        return -errno;
    if (renameat(all->dir_fd, temporary, all->dir_fd, name) == 0)
        return 0;
    rc = -errno;
    (void)unlinkat(all->dir_fd, temporary, 0);
    return rc;
}

static int write_file(
    const struct template_place *place, const char *text, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(place->fd, "template.json",
        O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));

    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    return rc < 0 ? err_sys(err, rc, "%s/template.json", place->path) : 0;
}

int template_place_describe(const struct template_place *place,
    const struct template *t, struct err *err)
{
    char *json;
    int rc = template_json_write(t, &json, err);

    if (rc < 0)
        return rc;
    rc = write_file(place, json, err);
    free(json);
    return rc;
}

int template_place_publish(const struct template_place *place, const char *name,
    bool replaces, struct err *err)
{
    const char *folder = strrchr(place->path, '/') + 1;
    struct store all;
    int rc = 0;

    if (fsync(place->fd) < 0)
        return err_sys(err, errno, "%s", place->path);
    rc = open_all(true, &all, err);
    if (rc < 0)
        return rc;
    if (replaces)
        rc = replace_name(&all, folder, name);
    else if (symlinkat(folder, all.dir_fd, name) < 0)
        rc = -errno;
    if (rc == 0 && fsync(all.dir_fd) < 0)
        rc = -errno;
    if (rc == -EEXIST)
        rc = exists(name, err);
    else if (rc < 0)
        rc = err_sys(err, rc, "template %s", name);
    else if (replaces)
        clean(&all);
    store_close(&all);
    return rc;
}

void template_place_abandon(struct template_place *place)
{
    if (place->fd >= 0)
        folder_remove(place->path);
    template_place_close(place);
}

int template_place_remove(const char *name, struct err *err)
{
    char folder[NAME_MAX];
    struct store all;
    int rc = template_name_check(name, err);

    if (rc == 0)
        rc = open_all(false, &all, err);
    if (rc == -ENOENT)
        return no_template(name, err);
    if (rc < 0)
        return rc;
    rc = read_name(all.dir_fd, name, folder);
    if (rc == 0 && unlinkat(all.dir_fd, name, 0) < 0)
        rc = -errno;
    if (rc == -ENOENT)
        rc = no_template(name, err);
    else if (rc < 0)
        rc = err_sys(err, rc, "template %s", name);
    else
        clean(&all);
    store_close(&all);
    return rc;
}
