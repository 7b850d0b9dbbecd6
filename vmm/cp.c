/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cp.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/base/fd.h"
#include "vmm/config_text.h"
#include "vmm/guest_copy.h"
#include "vmm/rundir.h"
#include "vmm/vm_client.h"

static const char help[] =
    "usage: spore cp [options] SOURCE DESTINATION\n"
    "\n"
    "Copies a file or a tree. One of the two is ID:PATH, a path in a machine\n"
    "that runs, which begins with a slash.\n"
    "\n"
    "Into a DESTINATION that is a folder, or ends with a slash, goes SOURCE\n"
    "under its own name; any other DESTINATION is the new name. A SOURCE that\n"
    "ends with /. stands for what is in it. Modes are kept; links are copied\n"
    "as links, but for SOURCE itself; devices, sockets and pipes are not.\n"
    "\n"
    "  -a, --archive           keep owners, times and set-id bits too\n"
    "      --max-size SIZE     what a machine may send at most: 64G by "
    "default\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit status: 0, or 125 if it failed.\n";

/* One side of a copy. */
struct side {
    char id[RUNDIR_ID_SIZE]; /* empty: the host */
    const char *path;
};

struct cp {
    struct side src;
    struct side dst;
    struct guest_copy_options options;
    bool help;
};

/* "ID:PATH" if what is before the first colon can be an id and no path. */
static struct side parse_side(const char *text)
{
    struct side side = {.path = text};
    const char *colon = strchr(text, ':');
    size_t len;

    if (colon == NULL)
        return side;
    len = (size_t)(colon - text);
    if (len == 0 || len > RUNDIR_ID_MAX || memchr(text, '/', len) != NULL)
        return side;
    memcpy(side.id, text, len);
    side.id[len] = '\0';
    side.path = colon + 1;
    return side;
}

static int parse(struct cp *cp, int argc, char **argv, struct err *err)
{
    static const struct option options[] = {{"archive", no_argument, NULL, 'a'},
        {"max-size", required_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int opt;
    int rc = 0;

    cp->options.max_bytes = GUEST_COPY_BYTES_DEFAULT;
    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while (rc == 0 &&
           (opt = getopt_long(argc, argv, ":ah", options, NULL)) != -1) {
        if (opt == 'a')
            cp->options.archive = true;
        else if (opt == 'h')
            cp->help = true;
        else if (opt == 'm')
            rc = config_parse_size(optarg, &cp->options.max_bytes, err);
        else
            return err_set(err, EINVAL,
                "an option is unknown or lacks its value: see spore cp --help");
    }
    if (rc < 0 || cp->help)
        return rc;
    if (argc - optind != 2)
        return err_set(err, EINVAL,
            "a SOURCE and a DESTINATION are needed: see spore cp --help");
    cp->src = parse_side(argv[optind]);
    cp->dst = parse_side(argv[optind + 1]);
    if ((cp->src.id[0] == '\0') == (cp->dst.id[0] == '\0'))
        return err_set(err, EINVAL,
            "one of SOURCE and DESTINATION must be ID:PATH, the other a path");
    return 0;
}

/*
 * The last component of a path: "." where it has none or that is one. What is
 * before it is left in `path`, without trailing slashes: "." if nothing is.
 */
static const char *split(char *path)
{
    size_t len = strlen(path);
    char *slash;

    while (len > 1 && path[len - 1] == '/')
        path[--len] = '\0';
    slash = strrchr(path, '/');
    if (slash == NULL)
        return path;
    if (slash[1] == '\0')
        return ".";
    return slash + 1;
}

/* What is before the last component of a path; NULL without memory. */
static char *folder_of(const char *path, const char *base)
{
    return base == path ? strdup(".") : strndup(path, (size_t)(base - path));
}

static bool is_contents(const char *base)
{
    return strcmp(base, ".") == 0 || base[0] == '\0';
}

static bool ends_with_slash(const char *path)
{
    size_t len = strlen(path);

    return len > 0 && path[len - 1] == '/';
}

static int connect_agent(const char *id, int *ret_fd, struct err *err)
{
    int rc = vm_client_connect_agent(id, ret_fd, err);

    if (rc < 0)
        return rc;
    rc = fd_set_nonblocking(*ret_fd, false);
    return rc < 0 ? err_sys(err, rc, "connection to the agent") : 0;
}

static int guest_is_dir(
    const struct side *side, bool *ret_is_dir, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc;

    if (ends_with_slash(side->path)) {
        *ret_is_dir = true;
        return 0;
    }
    rc = connect_agent(side->id, &fd, err);
    return rc < 0 ? rc : guest_copy_is_dir(fd, side->path, ret_is_dir, err);
}

static void report(const struct guest_copy_result *result)
{
    if (result->skipped > 0)
        (void)fprintf(stderr,
            "spore: cp: %llu devices, sockets or pipes were not copied\n",
            (unsigned long long)result->skipped);
}

/* The folder in the guest, the caller's to free, and the name in it. */
static int find_guest_place(const struct cp *cp, char *dst, const char *base,
    char **ret_folder, const char **ret_name, struct err *err)
{
    bool is_dir = true;
    const char *name = is_contents(base) ? "." : base;
    char *folder;
    int rc = 0;

    if (!is_contents(base))
        rc = guest_is_dir(&cp->dst, &is_dir, err);
    if (rc < 0)
        return rc;
    if (!is_dir) {
        name = split(dst);
        if (is_contents(name) || strcmp(name, "..") == 0)
            return err_set(err, EINVAL, "%s: give it a name", cp->dst.path);
    }
    folder = is_dir ? strdup(dst) : folder_of(dst, name);
    if (folder == NULL)
        return err_sys(err, ENOMEM, "copy");
    *ret_folder = folder;
    *ret_name = name;
    return 0;
}

/* `src` and `dst` are copies to be cut up. */
static int copy_in(const struct cp *cp, char *src, char *dst, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct guest_copy_result result;
    const char *base = split(src);
    const char *name = NULL;
    char *folder = NULL;
    int rc;

    if (strcmp(base, "..") == 0)
        return err_set(err, EINVAL, "%s: give it a name", cp->src.path);
    rc = find_guest_place(cp, dst, base, &folder, &name, err);
    if (rc == 0)
        rc = connect_agent(cp->dst.id, &fd, err);
    if (rc == 0)
        rc = guest_copy_in(fd, AT_FDCWD, cp->src.path, folder, name,
            &cp->options, &result, err);
    if (rc == 0)
        report(&result);
    free(folder);
    return rc;
}

/* The folder on the host, and the name in it. */
static int open_place(const struct cp *cp, char *dst, const char *base,
    const char **ret_name, int *ret_dir, struct err *err)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    char *folder;
    int fd;

    if (is_contents(base) && mkdir(dst, 0777) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", dst);
    fd = open(dst, flags);
    if (fd >= 0) {
        *ret_dir = fd;
        *ret_name = is_contents(base) ? "." : base;
        return 0;
    }
    if (is_contents(base) || ends_with_slash(cp->dst.path) ||
        (errno != ENOENT && errno != ENOTDIR))
        return err_sys(err, errno, "%s", dst);
    *ret_name = split(dst);
    if (is_contents(*ret_name) || strcmp(*ret_name, "..") == 0)
        return err_set(err, EINVAL, "%s: give it a name", cp->dst.path);
    folder = folder_of(dst, *ret_name);
    fd = folder == NULL ? -1 : open(folder, flags);
    free(folder);
    if (fd < 0)
        return err_sys(err, errno, "%s", cp->dst.path);
    *ret_dir = fd;
    return 0;
}

static int copy_out(const struct cp *cp, char *src, char *dst, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    CC_CLEANUP(fd_closep) int dir = -1;
    struct guest_copy_result result;
    const char *base = split(src);
    const char *name = NULL;
    int rc;

    if (strcmp(base, "..") == 0)
        return err_set(err, EINVAL, "%s: give it a name", cp->src.path);
    rc = connect_agent(cp->src.id, &fd, err);
    if (rc == 0)
        rc = open_place(cp, dst, base, &name, &dir, err);
    if (rc == 0)
        rc = guest_copy_out(
            fd, cp->src.path, dir, name, &cp->options, &result, err);
    if (rc == 0)
        report(&result);
    return rc;
}

static int copy(const struct cp *cp, struct err *err)
{
    char *src = strdup(cp->src.path);
    char *dst = strdup(cp->dst.path);
    int rc;

    if (src == NULL || dst == NULL)
        rc = err_sys(err, ENOMEM, "copy");
    else if (src[0] == '\0' || dst[0] == '\0')
        rc = err_set(err, EINVAL, "a path is empty");
    else if (cp->src.id[0] == '\0')
        rc = copy_in(cp, src, dst, err);
    else
        rc = copy_out(cp, src, dst, err);
    free(src);
    free(dst);
    return rc;
}

int cmd_cp(int argc, char **argv)
{
    struct cp cp = {.help = false};
    struct err err;
    int rc = parse(&cp, argc, argv, &err);

    if (rc == 0 && cp.help)
        (void)fputs(help, stdout);
    else if (rc == 0)
        rc = copy(&cp, &err);
    if (rc < 0)
        (void)fprintf(stderr, "spore: cp: %s\n", err.text);
    return rc < 0 ? VM_CLIENT_STATUS_FAILED : 0;
}
