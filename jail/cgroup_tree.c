/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cgroup_tree.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "jail/cgroup_places.h"
#include "vmm/base/fd.h"

/* How often others may be in the way before that is called an error. */
#define ATTEMPTS  1000u
#define DIR_MODE  0755
#define SWEEP_MAX 256u
/* For what a sweeper has locked, for as long as it takes to remove it. */
#define LOCK_ATTEMPTS 1000u
/* What a mark says: left when its maker ended, it may go; it is to stay. */
#define MARK_MADE '1'
#define MARK_LEFT '2'

/*
 * Hierarchies of version 2 let their owner set the first since Linux 5.7;
 * elsewhere it takes a privilege, and the second.
 */
static const char *const mark_names[] = {"user.spore", "trusted.spore"};

static bool set_mark(int fd, char mark)
{
    for (size_t i = 0; i < ARRAY_SIZE(mark_names); i++) {
        if (fsetxattr(fd, mark_names[i], &mark, sizeof(mark), 0) == 0)
            return true;
    }
    return false;
}

/* Its mark, or 0. */
static char get_mark(int fd)
{
    char mark;

    for (size_t i = 0; i < ARRAY_SIZE(mark_names); i++) {
        if (fgetxattr(fd, mark_names[i], &mark, sizeof(mark)) == 1)
            return mark;
    }
    return 0;
}

static int open_dir(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    return fd < 0 ? -errno : fd;
}

bool cgroup_name_is_valid(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t len = strlen(name);

    return len > 0 && len < CGROUP_NAME_MAX && name[0] != '.' &&
           strspn(name, allowed) == len;
}

/* What a failure to make `path` comes from, and what helps. */
static int explain_make(int rc, const char *path, struct err *err)
{
    if (rc == -EACCES || rc == -EPERM)
        return err_set(err, rc,
            "cgroup '%.128s' may not be made by this user: name one that was "
            "delegated to it with --cgroup (systemd-run --user --scope -p "
            "Delegate=yes ... starts a program in one)",
            path);
    if (rc == -EROFS)
        return err_set(err, rc,
            "cgroup '%.128s' cannot be made: the cgroup file system is mounted "
            "read-only, as it is in most containers",
            path);
    if (rc == -EAGAIN)
        return err_set(err, rc,
            "cgroup '%.128s' cannot be made: the limit cgroup.max.descendants "
            "or cgroup.max.depth above it is reached",
            path);
    return err_sys(err, rc, "cannot make cgroup '%.128s'", path);
}

/* Whether the name that a folder was opened by is still that folder. */
static bool is_linked(int parent, const char *name, int fd)
{
    struct stat by_name;
    struct stat by_fd;

    return fstatat(parent, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(fd, &by_fd) == 0 && by_name.st_ino == by_fd.st_ino &&
           by_name.st_dev == by_fd.st_dev;
}

/*
 * A folder that was there, locked by us by now: removed if its maker is gone
 * and nothing is in it. -EBUSY if it has no mark, -ENOENT if it is no longer
 * what its name says.
 */
static int remove_left_behind(int parent, const char *name, int fd)
{
    if (!is_linked(parent, name, fd))
        return -ENOENT;
    if (get_mark(fd) == 0)
        return -EBUSY;
    return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* fd_lock's kind of lock is for files that can be written. */
static int lock_dir(int fd, size_t attempts)
{
    for (size_t i = 0; i < attempts; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK)
            return -errno;
        (void)sched_yield();
    }
    return -EWOULDBLOCK;
}

/*
 * The folder itself, new, marked and locked: -ENOENT if another was faster in
 * some way, -EBUSY if it is another's.
 */
static int make_leaf(int parent, const char *name, int *ret_fd)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    bool is_new = mkdirat(parent, name, DIR_MODE) == 0;
    int rc;

    if (!is_new && errno != EEXIST)
        return -errno;
    fd = open_dir(parent, name);
    if (fd < 0)
        return fd;
    rc = lock_dir(fd, is_new ? 1 : LOCK_ATTEMPTS);
    if (rc < 0)
        return rc == -EWOULDBLOCK ? (is_new ? -ENOENT : -EBUSY) : rc;
    if (!is_new) {
        rc = remove_left_behind(parent, name, fd);
        return rc < 0 ? rc : -ENOENT; /* to be made anew */
    }
    if (!is_linked(parent, name, fd))
        return -ENOENT;
    (void)set_mark(fd, MARK_MADE);
    *ret_fd = fd_steal(&fd);
    return 0;
}

/*
 * One folder on the way down, made and marked if it is missing; *ret_unmarked
 * if it was made and cannot be marked.
 */
static int enter(int at, const char *name, bool *ret_unmarked)
{
    int fd = open_dir(at, name);
    bool made;

    *ret_unmarked = false;
    if (fd != -ENOENT)
        return fd;
    made = mkdirat(at, name, DIR_MODE) == 0;
    if (!made && errno != EEXIST)
        return -errno;
    fd = open_dir(at, name);
    if (fd >= 0 && made)
        *ret_unmarked = !set_mark(fd, MARK_MADE);
    return fd;
}

/* Once down the path: -ENOENT or -ENODEV if a folder went away meanwhile. */
static int make_once(int root, struct cgroup_tree *tree,
    cgroup_tree_visit visit, void *opaque, struct err *err)
{
    CC_CLEANUP(fd_closep) int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
    size_t end = 0;
    int rc;

    if (at < 0)
        return err_sys(err, errno, "cgroup");
    tree->made = strlen(tree->above);
    for (;;) {
        char path[CGROUP_PATH_MAX];
        char name[CGROUP_NAME_MAX + 128];
        size_t start;
        size_t len;
        bool unmarked;
        int fd;

        (void)snprintf(path, sizeof(path), "/%.*s", (int)end, tree->above);
        rc = visit == NULL ? 0 : visit(opaque, at, path, err);
        if (rc < 0)
            return rc;
        start = end + strspn(tree->above + end, "/");
        len = strcspn(tree->above + start, "/");
        if (len == 0)
            break;
        if (len >= sizeof(name))
            return err_set(
                err, ENAMETOOLONG, "cgroup '%.128s': too long", tree->above);
        memcpy(name, tree->above + start, len);
        name[len] = '\0';
        fd = enter(at, name, &unmarked);
        if (unmarked && end < tree->made)
            tree->made = end;
        end = start + len;
        if (fd < 0) {
            (void)snprintf(path, sizeof(path), "/%.*s", (int)end, tree->above);
            return explain_make(fd, path, err);
        }
        fd_closep(&at);
        at = fd;
    }
    rc = make_leaf(at, tree->name, &tree->fd);
    if (rc == -EBUSY)
        return err_set(err, EEXIST,
            "cgroup '/%.128s/%s' is in use: another machine is in it, or "
            "processes that one left behind (see its cgroup.procs)",
            tree->above, tree->name);
    if (rc < 0)
        return explain_make(rc, tree->name, err);
    return 0;
}

/* The folder at `path` below the mount, or -errno. */
static int open_path(int root, const char *path)
{
    int fd;

    if (path[0] == '\0')
        return fcntl(root, F_DUPFD_CLOEXEC, 3);
    fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

/* Whether the folder at `path`, if it is there, was made by one of us. */
static bool is_ours(const struct cgroup_tree *tree, const char *path)
{
    CC_CLEANUP(fd_closep) int fd = -1;

    if (strlen(path) > tree->made)
        return true;
    fd = open_path(tree->root, path);
    return fd == -ENOENT || (fd >= 0 && get_mark(fd) != 0);
}

static void remove_above(const struct cgroup_tree *tree)
{
    char path[CGROUP_PATH_MAX];
    bool gone = true;

    (void)snprintf(path, sizeof(path), "%s", tree->above);
    while (gone) {
        size_t len = strlen(path);
        char *slash;

        while (len > 0 && path[len - 1] == '/')
            path[--len] = '\0';
        if (len == 0 || !is_ours(tree, path))
            return;
        gone = unlinkat(tree->root, path, AT_REMOVEDIR) == 0 || errno == ENOENT;
        slash = strrchr(path, '/');
        path[slash == NULL ? 0 : slash - path] = '\0';
    }
}

int cgroup_tree_make(int root, const char *above, const char *name,
    cgroup_tree_visit visit, void *opaque, struct cgroup_tree *ret_tree,
    struct err *err)
{
    struct cgroup_tree tree = CGROUP_TREE_NONE;
    int rc = -ENOENT;

    assert(cgroup_name_is_valid(name));
    if (strlen(above) >= sizeof(tree.above))
        return err_set(
            err, ENAMETOOLONG, "cgroup '%.64s...': too long a path", above);
    if (cgroup_list_has(above, '/', "..") || cgroup_list_has(above, '/', "."))
        return err_set(err, EINVAL,
            "cgroup '%.128s': there can be no '.' or '..' in it", above);
    (void)snprintf(tree.above, sizeof(tree.above), "%s", above);
    (void)snprintf(tree.name, sizeof(tree.name), "%s", name);
    tree.root = root;
    for (size_t i = 0; i < ATTEMPTS && (rc == -ENOENT || rc == -ENODEV); i++)
        rc = make_once(root, &tree, visit, opaque, err);
    if (rc == -ENOENT || rc == -ENODEV)
        rc = err_set(err, EBUSY,
            "cgroup '/%.128s/%.64s' is removed by another whenever it is made",
            above, name);
    if (rc < 0) {
        remove_above(&tree);
        return rc;
    }
    *ret_tree = tree;
    return 0;
}

int cgroup_tree_remove(struct cgroup_tree *tree)
{
    CC_CLEANUP(fd_closep) int above = open_path(tree->root, tree->above);

    if (above < 0)
        return above;
    if (unlinkat(above, tree->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return -errno;
    remove_above(tree);
    return 0;
}

void cgroup_tree_leave(const struct cgroup_tree *tree)
{
    if (get_mark(tree->fd) != 0)
        (void)set_mark(tree->fd, MARK_LEFT);
}

size_t cgroup_tree_sweep(const struct cgroup_tree *tree)
{
    int above = open_path(tree->root, tree->above);
    DIR *dir = above < 0 ? NULL : fdopendir(above);
    size_t removed = 0;

    if (dir == NULL) {
        fd_closep(&above);
        return 0;
    }
    for (size_t seen = 0; seen < SWEEP_MAX;) {
        const struct dirent *entry = readdir(dir);
        CC_CLEANUP(fd_closep) int fd = -1;

        if (entry == NULL)
            break;
        if (entry->d_type != DT_DIR || !cgroup_name_is_valid(entry->d_name))
            continue;
        seen++;
        fd = open_dir(dirfd(dir), entry->d_name);
        /* One without a mark may be about to be locked by its maker. */
        if (fd >= 0 && get_mark(fd) == MARK_MADE && lock_dir(fd, 1) == 0 &&
            remove_left_behind(dirfd(dir), entry->d_name, fd) == 0)
            removed++;
    }
    (void)closedir(dir);
    return removed;
}

void cgroup_tree_close(struct cgroup_tree *tree)
{
    fd_closep(&tree->fd);
    fd_closep(&tree->root);
}
