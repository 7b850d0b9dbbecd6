/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/serve/oci.h"
#include "vmm/serve/rootfs_copy.h"
#include "vmm/serve/rootfs_layer.h"
#include "vmm/serve/rootfs_pack.h"
#include "vmm/serve/rootfs_tree.h"

/* Where file systems have what they are known by. */
#define EXT_MAGIC_AT   0x438u
#define EROFS_MAGIC_AT 0x400u
#define HEAD_BYTES     2048u

struct making {
    int fd; /* the source */
    struct stat st;
    const char *source;
    const char *path;
    const char *scratch;
    const struct interrupt *interrupt;
};

void rootfs_command_fini(struct rootfs_command *command)
{
    for (size_t i = 0; command->argv != NULL && command->argv[i] != NULL; i++)
        free(command->argv[i]);
    for (size_t i = 0; command->env != NULL && command->env[i] != NULL; i++)
        free(command->env[i]);
    free(command->argv);
    free(command->env);
    free(command->cwd);
    free(command->user);
    *command = (struct rootfs_command){0};
}

/* ---- what it is ---------------------------------------------------------- */

static bool has_magic(
    const uint8_t *head, size_t at, const char *magic, size_t size)
{
    return memcmp(head + at, magic, size) == 0;
}

static int is_image(const struct making *m, bool *ret_is, struct err *err)
{
    uint8_t head[HEAD_BYTES] = {0};
    ssize_t n = fd_pread_full(m->fd, head, sizeof(head), 0);

    if (n < 0)
        return err_sys(err, (int)n, "cannot be read");
    *ret_is = has_magic(head, 0, "hsqs", 4) ||
              has_magic(head, EXT_MAGIC_AT, "\x53\xef", 2) ||
              has_magic(head, EROFS_MAGIC_AT, "\xe2\xe1\xf5\xe0", 4);
    return 0;
}

/* What an archive's names say of it: a system's folders are no image's. */
struct look {
    bool has_layout;
    bool has_manifest;
    bool has_system;
};

static void look_at(struct look *look, const char *path)
{
    static const char *const folders[] = {"bin", "etc", "usr"};

    while (path[0] == '.' && path[1] == '/')
        path += 2;
    if (strcmp(path, "oci-layout") == 0)
        look->has_layout = true;
    if (strcmp(path, "manifest.json") == 0)
        look->has_manifest = true;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        size_t size = strlen(folders[i]);

        if (strncmp(path, folders[i], size) == 0 &&
            (path[size] == '/' || path[size] == '\0'))
            look->has_system = true;
    }
}

static int is_oci_archive(const struct making *m, bool *ret_is, struct err *err)
{
    uint64_t budget = ROOTFS_LAYER_BYTES_MAX;
    struct look look = {0};
    struct rootfs_layer *layer = NULL;
    struct rootfs_entry e;
    size_t count = 0;
    int rc = rootfs_layer_open(m->fd, m->interrupt, &budget, &layer, err);

    if (rc < 0)
        return rc;
    while (!look.has_system && !look.has_layout &&
           (rc = rootfs_layer_next(layer, &e, err)) > 0) {
        look_at(&look, e.path);
        count++;
    }
    rootfs_layer_close(layer);
    if (rc < 0)
        return rc;
    if (count == 0)
        return err_set(err, EINVAL,
            "neither a file system's image nor an archive with anything in "
            "it");
    *ret_is = !look.has_system && (look.has_layout || look.has_manifest);
    return 0;
}

/* ---- making -------------------------------------------------------------- */

static int pack_tar(const struct making *m, struct rootfs_tree *tree,
    uint64_t *budget, struct err *err)
{
    struct rootfs_layer *layer = NULL;
    struct rootfs_pack *pack = NULL;
    int rc = rootfs_pack_begin(m->path, tree, m->interrupt, &pack, err);

    if (rc < 0)
        return rc;
    rc = rootfs_layer_open(m->fd, m->interrupt, budget, &layer, err);
    if (rc == 0) {
        rc = rootfs_pack_layer(pack, layer, err);
        rootfs_layer_close(layer);
    }
    if (rc < 0)
        rootfs_pack_abandon(pack);
    else
        rc = rootfs_pack_end(pack, err);
    return rc;
}

static int make_of_tar(const struct making *m, struct err *err)
{
    uint64_t budget = ROOTFS_LAYER_BYTES_MAX;
    uint64_t again = ROOTFS_LAYER_BYTES_MAX;
    struct rootfs_layer *layer = NULL;
    struct rootfs_tree tree;
    int rc = rootfs_tree_init(&tree, false, err);

    if (rc < 0)
        return rc;
    rc = rootfs_layer_open(m->fd, m->interrupt, &budget, &layer, err);
    if (rc == 0) {
        rc = rootfs_layer_merge(layer, &tree, err);
        rootfs_layer_close(layer);
    }
    if (rc == 0)
        rc = pack_tar(m, &tree, &again, err);
    rootfs_tree_fini(&tree);
    return rc;
}

static int make_of_oci(const struct making *m, bool is_dir,
    struct rootfs_command *ret_command, struct err *err)
{
    struct oci_blobs *blobs = NULL;
    int rc = is_dir ? oci_blobs_open_dir(m->fd, &blobs, err)
                    : oci_blobs_open_archive(
                          m->fd, m->scratch, m->interrupt, &blobs, err);

    if (rc < 0)
        return rc;
    rc = oci_make(blobs, m->path, m->interrupt, ret_command, err);
    oci_blobs_close(blobs);
    return rc;
}

static int make_of_dir(
    const struct making *m, struct rootfs_command *ret_command, struct err *err)
{
    /* A folder with blobs in it, or one that docker save was unpacked to. */
    if (faccessat(m->fd, "oci-layout", F_OK, 0) == 0 ||
        (faccessat(m->fd, "manifest.json", F_OK, 0) == 0 &&
            faccessat(m->fd, "etc", F_OK, 0) < 0))
        return make_of_oci(m, true, ret_command, err);
    return rootfs_pack_dir(m->source, m->path, m->interrupt, err);
}

static int make_of_file(
    const struct making *m, struct rootfs_command *ret_command, struct err *err)
{
    bool is = false;
    int rc = is_image(m, &is, err);

    if (rc < 0)
        return rc;
    if (is)
        return rootfs_copy(m->fd, m->path, m->interrupt, err);
    rc = is_oci_archive(m, &is, err);
    if (rc < 0)
        return rc;
    return is ? make_of_oci(m, false, ret_command, err) : make_of_tar(m, err);
}

int rootfs_make(const char *source, const char *path, const char *scratch,
    const struct interrupt *interrupt, struct rootfs_command *ret_command,
    struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct making m = {.fd = fd,
        .source = source,
        .path = path,
        .scratch = scratch,
        .interrupt = interrupt};
    int rc;

    if (fd < 0 || fstat(fd, &m.st) < 0)
        return err_sys(err, errno, "--rootfs %s", source);
    *ret_command = (struct rootfs_command){0};
    if (S_ISDIR(m.st.st_mode))
        rc = make_of_dir(&m, ret_command, err);
    else if (S_ISREG(m.st.st_mode))
        rc = make_of_file(&m, ret_command, err);
    else
        rc = err_set(err, EINVAL, "neither a file nor a folder");
    return rc < 0 ? err_wrap(err, rc, "--rootfs %s", source) : 0;
}
