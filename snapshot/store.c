/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define REF_DIGITS_MIN 4u /* of an abbreviated id */

int store_default_path(char **ret_path, struct err *err)
{
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    int n;

    if (data != NULL && data[0] == '/')
        n = asprintf(ret_path, "%s/spore/snapshots", data);
    else if (home != NULL && home[0] == '/')
        n = asprintf(ret_path, "%s/.local/share/spore/snapshots", home);
    else
        return err_set(err, EINVAL,
            "no place for snapshots: neither XDG_DATA_HOME nor HOME is set: "
            "give --store");
    return n < 0 ? err_sys(err, ENOMEM, "store") : 0;
}

/* mkdir -p, for this user only. */
static int make_directories(const char *path, struct err *err)
{
    char *part = strdup(path);
    int rc = 0;

    if (part == NULL)
        return err_sys(err, ENOMEM, "%s", path);
    for (char *slash = part; rc == 0 && slash != NULL;) {
        slash = strchr(slash + 1, '/');
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(part, 0700) < 0 && errno != EEXIST)
            rc = err_sys(err, errno, "%s", part);
        if (slash != NULL)
            *slash = '/';
    }
    free(part);
    return rc;
}

int store_open(
    struct store *store, const char *path, bool create, struct err *err)
{
    char *own = NULL;
    int rc = 0;
    int fd;

    if (path == NULL)
        rc = store_default_path(&own, err);
    else if (path[0] == '\0')
        rc = err_set(err, EINVAL, "the path of the store is empty");
    else if ((own = strdup(path)) == NULL)
        rc = err_sys(err, ENOMEM, "%s", path);
    if (rc < 0)
        return rc;
    if (create)
        rc = make_directories(own, err);
    fd = rc < 0 ? -1 : open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rc == 0 && fd < 0)
        rc = err_sys(err, errno, "snapshot store %s", own);
    if (rc < 0) {
        free(own);
        return rc;
    }
    *store = (struct store){.dir_fd = fd, .path = own};
    return 0;
}

void store_close(struct store *store)
{
    fd_closep(&store->dir_fd);
    free(store->path);
    store->path = NULL;
}

void store_dir_name(
    const struct snapshot_id *id, bool tmp, char ret_name[STORE_DIR_NAME_SIZE])
{
    char text[SNAPSHOT_ID_TEXT_SIZE];

    snapshot_id_to_text(id, text);
    (void)snprintf(ret_name, STORE_DIR_NAME_SIZE, "%s%s",
        tmp ? STORE_TMP_PREFIX : "", text);
}

int store_open_dir(const struct store *store, const struct snapshot_id *id,
    bool tmp, int *ret_fd, struct err *err)
{
    char name[STORE_DIR_NAME_SIZE];
    int fd;

    store_dir_name(id, tmp, name);
    fd = openat(
        store->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ENOENT,
            "there is no snapshot %s in %s: see spore snapshot ls", name,
            store->path);
    if (fd < 0)
        return err_sys(err, errno, "%s/%s", store->path, name);
    *ret_fd = fd;
    return 0;
}

int store_lock(const struct store *store, int *ret_fd, struct err *err)
{
    /* A description of its own: a flock belongs to that. */
    int fd = openat(store->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "%s", store->path);
    while (flock(fd, LOCK_EX) < 0) {
        int code = errno;

        if (code == EINTR)
            continue;
        (void)close(fd);
        return err_sys(err, code, "%s: cannot lock", store->path);
    }
    *ret_fd = fd;
    return 0;
}

/* Calls `entry` for each name in the directory; not 0 ends it. */
typedef int entry_fn(void *arg, const char *name);
static int each_entry(int dir_fd, entry_fn *entry, void *arg)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int rc = 0;

    if (dir == NULL) {
        rc = -errno;
        fd_closep(&fd);
        return rc;
    }
    while (rc == 0) {
        const struct dirent *d;

        errno = 0;
        d = readdir(dir);
        if (d == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            rc = entry(arg, d->d_name);
    }
    (void)closedir(dir);
    return rc;
}

/* ---- names ---- */

/* The id that the link `name` stands for; -ENOENT if it is no such link. */
static int read_name(
    const struct store *store, const char *name, struct snapshot_id *ret_id)
{
    char target[SNAPSHOT_ID_TEXT_SIZE + 1];
    ssize_t n;

    if (snapshot_name_check(name, NULL) < 0)
        return -ENOENT;
    n = readlinkat(store->dir_fd, name, target, sizeof(target));
    if (n != SNAPSHOT_ID_DIGITS)
        return -ENOENT;
    target[n] = '\0';
    return snapshot_id_from_text(target, ret_id) ? 0 : -ENOENT;
}

/* 0, -ENOENT, or why that cannot be said. */
static int find_snapshot(
    const struct store *store, const struct snapshot_id *id)
{
    char name[STORE_DIR_NAME_SIZE];
    struct stat st;

    store_dir_name(id, false, name);
    if (fstatat(store->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOENT;
}

int store_set_name(const struct store *store, const char *name,
    const struct snapshot_id *id, struct err *err)
{
    char target[SNAPSHOT_ID_TEXT_SIZE];
    struct snapshot_id old;

    snapshot_id_to_text(id, target);
    if (symlinkat(target, store->dir_fd, name) == 0)
        return 0;
    if (errno != EEXIST)
        return err_sys(err, errno, "%s/%s", store->path, name);
    /* Under the lock a name of nothing is what a dead process left. */
    if (read_name(store, name, &old) < 0 ||
        find_snapshot(store, &old) != -ENOENT)
        return err_set(err, EEXIST,
            "there is a snapshot '%s' in %s already: remove it (spore snapshot "
            "rm) or take another name",
            name, store->path);
    if (unlinkat(store->dir_fd, name, 0) < 0 ||
        symlinkat(target, store->dir_fd, name) < 0)
        return err_sys(err, errno, "%s/%s", store->path, name);
    return 0;
}

struct listing {
    const struct store *store;
    struct store_entry *entries;
    size_t count;
    size_t room;
};

static int list_entry(void *arg, const char *name)
{
    struct listing *list = arg;
    struct snapshot_id id;
    int rc;

    if (!snapshot_id_from_text(name, &id))
        return 0;
    rc = find_snapshot(list->store, &id);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 16 : list->room * 2;
        struct store_entry *bigger =
            reallocarray(list->entries, room, sizeof(*bigger));

        if (bigger == NULL)
            return -ENOMEM;
        list->entries = bigger;
        list->room = room;
    }
    list->entries[list->count++] = (struct store_entry){.id = id};
    return 0;
}

static int compare_entries(const void *a, const void *b)
{
    const struct store_entry *x = a;
    const struct store_entry *y = b;

    return memcmp(x->id.b, y->id.b, sizeof(x->id.b));
}

/* Gives the name to its snapshot in the sorted list. */
static int list_name(void *arg, const char *name)
{
    struct listing *list = arg;
    struct store_entry key = {.name = ""};
    struct store_entry *entry;

    if (list->count == 0 || read_name(list->store, name, &key.id) < 0)
        return 0;
    entry = bsearch(&key, list->entries, list->count, sizeof(*list->entries),
        compare_entries);
    /* One of several: the first of the alphabet, to be the same every time. */
    if (entry != NULL &&
        (entry->name[0] == '\0' || strcmp(name, entry->name) < 0))
        (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
    return 0;
}

int store_list(const struct store *store, struct store_entry **ret_entries,
    size_t *ret_count, struct err *err)
{
    struct listing list = {.store = store};
    int rc = each_entry(store->dir_fd, list_entry, &list);

    if (rc == 0 && list.count > 0) {
        qsort(list.entries, list.count, sizeof(*list.entries), compare_entries);
        rc = each_entry(store->dir_fd, list_name, &list);
    }
    if (rc < 0) {
        free(list.entries);
        return err_sys(err, rc, "%s", store->path);
    }
    *ret_entries = list.entries;
    *ret_count = list.count;
    return 0;
}

/* Whether `ref` can be the beginning of an id. */
static bool is_prefix(const char *ref)
{
    size_t len = strlen(ref);

    return len >= REF_DIGITS_MIN && len < SNAPSHOT_ID_DIGITS &&
           strspn(ref, "0123456789abcdef") == len;
}

static int find_prefix(const struct store *store, const char *ref,
    struct snapshot_id *ret_id, struct err *err)
{
    struct store_entry *entries;
    size_t found = 0;
    size_t count;
    int rc = store_list(store, &entries, &count, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++) {
        char text[SNAPSHOT_ID_TEXT_SIZE];

        snapshot_id_to_text(&entries[i].id, text);
        if (strncmp(text, ref, strlen(ref)) == 0 && found++ == 0)
            *ret_id = entries[i].id;
    }
    free(entries);
    if (found > 1)
        return err_set(err, ENOTUNIQ,
            "'%s' is the beginning of %zu ids: give more digits", ref, found);
    return found == 1 ? 0 : -ENOENT;
}

int store_find(const struct store *store, const char *ref,
    struct snapshot_id *ret_id, struct err *err)
{
    struct snapshot_id id;
    int rc = -ENOENT;

    if (snapshot_id_from_text(ref, &id) || read_name(store, ref, &id) == 0)
        rc = find_snapshot(store, &id);
    else if (is_prefix(ref))
        rc = find_prefix(store, ref, &id, err);
    if (rc == -ENOTUNIQ)
        return rc;
    if (rc == -ENOENT)
        return err_set(err, ENOENT,
            "there is no snapshot '%.80s' in %s: see spore snapshot ls", ref,
            store->path);
    if (rc < 0)
        return err_sys(err, rc, "%s: %.80s", store->path, ref);
    *ret_id = id;
    return 0;
}

/* ---- removal ---- */

static int remove_file(void *arg, const char *name)
{
    const int *dir_fd = arg;

    return unlinkat(*dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int store_remove_tmp(
    const struct store *store, const struct snapshot_id *id, int dir_fd)
{
    char name[STORE_DIR_NAME_SIZE];
    int rc;

    store_dir_name(id, true, name);
    rc = each_entry(dir_fd, remove_file, &dir_fd);
    if (rc == 0 && unlinkat(store->dir_fd, name, AT_REMOVEDIR) < 0 &&
        errno != ENOENT)
        rc = -errno;
    return rc;
}

struct name_removal {
    const struct store *store;
    const struct snapshot_id *id; /* NULL: names of nothing */
};

static int remove_name(void *arg, const char *name)
{
    const struct name_removal *r = arg;
    struct snapshot_id id;

    if (read_name(r->store, name, &id) < 0)
        return 0;
    if (r->id == NULL ? find_snapshot(r->store, &id) != -ENOENT
                      : !snapshot_id_equal(&id, r->id))
        return 0;
    return unlinkat(r->store->dir_fd, name, 0) < 0 ? -errno : 0;
}

int store_remove(
    struct store *store, const struct snapshot_id *id, struct err *err)
{
    CC_CLEANUP(fd_closep) int lock_fd = -1;
    CC_CLEANUP(fd_closep) int dir_fd = -1;
    const struct name_removal names = {.store = store, .id = id};
    char name[STORE_DIR_NAME_SIZE];
    char tmp_name[STORE_DIR_NAME_SIZE];
    int rc = store_lock(store, &lock_fd, err);

    if (rc == 0)
        rc = store_open_dir(store, id, false, &dir_fd, err);
    if (rc < 0)
        return rc;
    store_dir_name(id, false, name);
    store_dir_name(id, true, tmp_name);
    /* What it becomes is no left-over for as long as we live. */
    (void)flock(dir_fd, LOCK_EX | LOCK_NB);
    if (renameat(store->dir_fd, name, store->dir_fd, tmp_name) < 0)
        return err_sys(err, errno, "%s/%s: cannot remove", store->path, name);
    rc = each_entry(store->dir_fd, remove_name, (void *)(uintptr_t)&names);
    fd_closep(&lock_fd);
    if (rc == 0)
        rc = store_remove_tmp(store, id, dir_fd);
    if (rc < 0)
        return err_sys(err, rc, "%s/%s: cannot remove", store->path, tmp_name);
    return 0;
}

struct cleaning {
    const struct store *store;
    int removed;
};

static int clean_entry(void *arg, const char *name)
{
    const size_t prefix = sizeof(STORE_TMP_PREFIX) - 1;
    struct cleaning *c = arg;
    CC_CLEANUP(fd_closep) int dir_fd = -1;
    struct snapshot_id id;
    int rc;

    if (strncmp(name, STORE_TMP_PREFIX, prefix) != 0 ||
        !snapshot_id_from_text(name + prefix, &id) ||
        store_open_dir(c->store, &id, true, &dir_fd, NULL) < 0)
        return 0;
    if (flock(dir_fd, LOCK_EX | LOCK_NB) < 0)
        return 0; /* its saver lives */
    rc = store_remove_tmp(c->store, &id, dir_fd);
    if (rc < 0)
        log_warn("snapshot", "%s/%s: cannot remove this left-over: %s",
            c->store->path, name, strerrordesc_np(-rc));
    else
        c->removed++;
    return 0;
}

int store_clean(struct store *store, struct err *err)
{
    CC_CLEANUP(fd_closep) int lock_fd = -1;
    struct cleaning c = {.store = store};
    const struct name_removal names = {.store = store};
    int rc = store_lock(store, &lock_fd, err);

    if (rc < 0)
        return rc;
    rc = each_entry(store->dir_fd, clean_entry, &c);
    if (rc == 0)
        rc = each_entry(store->dir_fd, remove_name, (void *)(uintptr_t)&names);
    return rc < 0 ? err_sys(err, rc, "%s", store->path) : c.removed;
}
