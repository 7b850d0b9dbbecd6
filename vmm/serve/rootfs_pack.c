/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/rootfs_pack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/child.h"
#include "vmm/serve/tar_writer.h"
#include "vmm/words.h"

#define CHUNK      65536u
#define LINE_BYTES 200
#define BLOCK_SIZE "131072"

struct tool {
    pid_t pid; /* 0: none */
    int pid_fd;
    int log_fd; /* what it prints */
    const char *name;
};

struct rootfs_pack {
    const struct interrupt *interrupt;
    const struct rootfs_tree *tree;
    struct tool tool;
    char *path;
    int pipe_fd;
    size_t next_file; /* of the tree's */
    uint8_t bytes[CHUNK];
    struct tar_writer tar;
};

/* ---- the program --------------------------------------------------------- */

static int start_tool(
    struct tool *tool, struct words *argv, int in_fd, struct err *err)
{
    struct child_options child = {.argv = argv->list, .in_fd = in_fd};
    int rc;

    if (argv->failed)
        return err_sys(err, ENOMEM, "root file system");
    tool->name = argv->list[0];
    tool->log_fd = memfd_create("output", MFD_CLOEXEC);
    if (tool->log_fd < 0)
        return err_sys(err, errno, "root file system");
    child.out_fd = tool->log_fd;
    child.err_fd = tool->log_fd;
    rc = child_start(&child, &tool->pid, err);
    if (rc == -ENOENT)
        return err_set(err, ENOENT,
            "%s is not installed: apt-get install squashfs-tools", tool->name);
    if (rc < 0)
        return rc;
    tool->pid_fd = pidfd_open(tool->pid, 0);
    return tool->pid_fd < 0 ? err_sys(err, errno, "%s", tool->name) : 0;
}

static void end_tool(struct tool *tool)
{
    int status;

    if (tool->pid > 0) {
        (void)kill(tool->pid, SIGKILL);
        (void)!child_wait(tool->pid, &status);
    }
    tool->pid = 0;
    fd_closep(&tool->pid_fd);
    fd_closep(&tool->log_fd);
}

/* The first line that it has printed. */
static int complain(const struct tool *tool, struct err *err)
{
    char text[LINE_BYTES + 1] = "";
    ssize_t n = fd_pread_full(tool->log_fd, text, LINE_BYTES, 0);

    text[n < 0 ? 0 : n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return err_set(
        err, EIO, "%s: %s", tool->name, text[0] == '\0' ? "failed" : text);
}

static int wait_tool(
    struct tool *tool, const struct interrupt *interrupt, struct err *err)
{
    int status = 0;
    int rc = interrupt_wait(interrupt, tool->pid_fd, -1, err);

    if (rc < 0)
        return rc;
    rc = child_wait(tool->pid, &status);
    tool->pid = 0;
    if (rc < 0)
        return err_sys(err, rc, "%s", tool->name);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return complain(tool, err);
    return 0;
}

static void add_format(struct words *argv)
{
    static const char *const words[] = {"-comp", "gzip", "-noI", "-noD", "-noF",
        "-noX", "-b", BLOCK_SIZE, "-no-progress", "-quiet", "-exit-on-error"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        words_add(argv, words[i]);
}

/* On the disk, and nobody's to change. */
static int settle(const char *path, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 || fchmod(fd, 0400) < 0 || fsync(fd) < 0)
        return err_sys(err, errno, "%s", path);
    return 0;
}

int rootfs_pack_dir(const char *dir, const char *path,
    const struct interrupt *interrupt, struct err *err)
{
    struct tool tool = {.pid_fd = -1, .log_fd = -1};
    struct words argv = {0};
    int rc;

    words_add(&argv, "mksquashfs");
    words_addf(&argv, "%s/", dir);
    words_add(&argv, path);
    words_add(&argv, "-noappend");
    words_add(&argv, "-one-file-system");
    words_add(&argv, "-no-exports");
    if (geteuid() != 0)
        words_add(&argv, "-all-root");
    add_format(&argv);
    rc = start_tool(&tool, &argv, -1, err);
    if (rc == 0)
        rc = wait_tool(&tool, interrupt, err);
    end_tool(&tool);
    words_fini(&argv);
    return rc < 0 ? rc : settle(path, err);
}

/* ---- the archive that it reads ------------------------------------------- */

/* What has become of the program says more than that it does not read. */
static int fail_write(struct rootfs_pack *p, int code, struct err *err)
{
    int rc = interrupt_check(p->interrupt, err);

    if (rc == 0 && code == -EPIPE) {
        fd_closep(&p->pipe_fd);
        rc = wait_tool(&p->tool, p->interrupt, err);
    }
    return rc < 0 ? rc
                  : err_sys(err, code, "cannot give %s the root file system",
                        p->tool.name);
}

static int write_header(struct rootfs_pack *p, const struct rootfs_node *node,
    const char *link, struct err *err)
{
    char path[ROOTFS_TREE_PATH_MAX + 1];
    int rc;

    if (!rootfs_tree_path(node, path, sizeof(path)))
        return err_set(
            err, ENAMETOOLONG, "%s: its path is too long", node->name);
    rc = tar_writer_header(&p->tar, path, node->inode, link);
    return rc < 0 ? fail_write(p, rc, err) : 0;
}

/* The other names of what was just written under its first. */
static int write_links(
    struct rootfs_pack *p, const struct rootfs_inode *inode, struct err *err)
{
    char first[ROOTFS_TREE_PATH_MAX + 1];
    int rc = 0;

    if (inode->names->next_name == NULL)
        return 0;
    if (!rootfs_tree_path(inode->names, first, sizeof(first)))
        return err_set(
            err, ENAMETOOLONG, "%s: its path is too long", inode->names->name);
    for (const struct rootfs_node *n = inode->names->next_name;
         rc == 0 && n != NULL; n = n->next_name)
        rc = write_header(p, n, first, err);
    return rc;
}

/* Folders come before what is in them, and links before what goes by them. */
static int write_tree(struct rootfs_pack *p, struct err *err)
{
    int rc = 0;

    for (const struct rootfs_node *n = rootfs_tree_next(p->tree->root);
         rc == 0 && n != NULL; n = rootfs_tree_next(n)) {
        if (S_ISREG(n->inode->mode) || n->inode->names != n)
            continue;
        rc = write_header(p, n, NULL, err);
        if (rc == 0)
            rc = write_links(p, n->inode, err);
    }
    return rc;
}

static int start(struct rootfs_pack *p, const char *path, struct err *err)
{
    const struct rootfs_inode *root = p->tree->root->inode;
    CC_CLEANUP(fd_closep) int read_fd = -1;
    struct words argv = {0};
    int fds[2];
    int rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    read_fd = fds[0];
    p->pipe_fd = fds[1];
    words_add(&argv, "sqfstar");
    add_format(&argv);
    words_addf(&argv, "-root-mode");
    words_addf(&argv, "%o", (unsigned int)(root->mode & 07777));
    words_add(&argv, "-root-uid");
    words_addf(&argv, "%u", root->uid);
    words_add(&argv, "-root-gid");
    words_addf(&argv, "%u", root->gid);
    words_add(&argv, path);
    rc = start_tool(&p->tool, &argv, read_fd, err);
    words_fini(&argv);
    p->tool.name = "sqfstar";
    return rc;
}

int rootfs_pack_begin(const char *path, const struct rootfs_tree *tree,
    const struct interrupt *interrupt, struct rootfs_pack **ret_pack,
    struct err *err)
{
    struct rootfs_pack *p = calloc(1, sizeof(*p));
    int rc;

    if (p == NULL)
        return err_sys(err, ENOMEM, "root file system");
    p->interrupt = interrupt;
    p->tree = tree;
    p->tool = (struct tool){.pid_fd = -1, .log_fd = -1};
    p->pipe_fd = -1;
    p->path = strdup(path);
    rc = p->path == NULL ? err_sys(err, ENOMEM, "%s", path)
                         : start(p, path, err);
    if (rc == 0) {
        tar_writer_init(&p->tar, p->pipe_fd);
        rc = write_tree(p, err);
    }
    if (rc < 0)
        rootfs_pack_abandon(p);
    else
        *ret_pack = p;
    return rc;
}

static int write_contents(struct rootfs_pack *p, struct rootfs_layer *layer,
    const struct rootfs_inode *inode, struct err *err)
{
    uint64_t left = inode->size;
    ssize_t n;
    int rc;

    while (
        (n = rootfs_layer_read(layer, p->bytes, sizeof(p->bytes), err)) > 0) {
        if ((uint64_t)n > left)
            break;
        left -= (uint64_t)n;
        rc = tar_writer_data(&p->tar, p->bytes, (size_t)n);
        if (rc < 0)
            return fail_write(p, rc, err);
    }
    if (n < 0)
        return (int)n;
    if (left > 0 || n > 0)
        return err_set(
            err, EBADMSG, "%s: not as large as it says", inode->names->name);
    rc = tar_writer_end_file(&p->tar);
    return rc < 0 ? fail_write(p, rc, err) : 0;
}

static int write_file(struct rootfs_pack *p, struct rootfs_layer *layer,
    const struct rootfs_entry *e, struct err *err)
{
    const struct rootfs_inode *inode;
    int rc;

    if (p->next_file >= p->tree->file_count ||
        p->tree->files[p->next_file]->size != e->inode.size)
        return err_set(err, ESTALE, "the archive was changed meanwhile");
    inode = p->tree->files[p->next_file++];
    if (inode->names == NULL)
        return 0;
    rc = write_header(p, inode->names, NULL, err);
    if (rc == 0)
        rc = write_contents(p, layer, inode, err);
    return rc < 0 ? rc : write_links(p, inode, err);
}

int rootfs_pack_layer(
    struct rootfs_pack *p, struct rootfs_layer *layer, struct err *err)
{
    struct rootfs_entry e;
    int rc;

    while ((rc = rootfs_layer_next(layer, &e, err)) > 0) {
        if (e.link != NULL || !S_ISREG(e.inode.mode))
            continue;
        rc = write_file(p, layer, &e, err);
        if (rc < 0)
            break;
    }
    return rc;
}

int rootfs_pack_end(struct rootfs_pack *p, struct err *err)
{
    int rc = p->next_file == p->tree->file_count
                 ? 0
                 : err_set(err, ESTALE, "the archive was changed meanwhile");

    if (rc == 0) {
        rc = tar_writer_finish(&p->tar);
        if (rc < 0)
            rc = fail_write(p, rc, err);
    }
    fd_closep(&p->pipe_fd);
    if (rc == 0)
        rc = wait_tool(&p->tool, p->interrupt, err);
    if (rc == 0)
        rc = settle(p->path, err);
    rootfs_pack_abandon(p);
    return rc;
}

void rootfs_pack_abandon(struct rootfs_pack *p)
{
    if (p == NULL)
        return;
    end_tool(&p->tool);
    fd_closep(&p->pipe_fd);
    free(p->path);
    free(p);
}
