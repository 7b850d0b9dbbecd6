/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image, by mke2fs and a script for debugfs. (mke2fs -d would take the
 * owners and times of a copy of the whole tree, which cannot be set as an
 * ordinary user.)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/root_image.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/child.h"
#include "vmm/words.h"

#define IMAGE_UUID "53504f52-4500-4655-9a5a-000000000001"
#define IMAGE_TIME "1"

#define BLOCK_BYTES NUM_PAGE_SIZE
/* What a pmem device wants its size to be a multiple of. */
#define SIZE_ALIGN (2 * NUM_MIB)

/* mke2fs makes 10 of its own and lost+found. */
#define OWN_INODES 16u

struct writer {
    struct root_image *image;
    const char *path;
    char *script;      /* paths of help files */
    char *bytes;       /* pattern of those with contents: a number is added */
    size_t byte_files; /* how many there are */
    struct err *err;
};

/* ---- the programs -------------------------------------------------------- */

/* The first line that is not the program's greeting; NULL: there is none. */
static char *first_problem(char *text, const char *greeting)
{
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        /* debugfs echoes its script, and says what it allocates. */
        if (strncmp(line, greeting, strlen(greeting)) != 0 &&
            strncmp(line, "Allocated inode: ", 17) != 0)
            return line;
    }
    return NULL;
}

static int run(struct writer *w, char *const *argv, const char *greeting,
    bool must_be_silent)
{
    char *const env[] = {
        (char *)(uintptr_t) "E2FSPROGS_FAKE_TIME=" IMAGE_TIME, NULL};
    char *text = NULL;
    const char *problem;
    int status = 0;
    int rc = child_run(argv, env, &status, &text, w->err);

    if (rc == -ENOENT)
        return err_set(w->err, ENOENT,
            "%s is not installed: apt-get install e2fsprogs", argv[0]);
    if (rc < 0)
        return rc;
    problem = first_problem(text, greeting);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 ||
        (must_be_silent && problem != NULL))
        rc = err_set(w->err, EIO, "%s: %s", argv[0],
            problem == NULL ? "failed" : problem);
    free(text);
    return rc;
}

/* ---- size ---------------------------------------------------------------- */

static int measure(struct writer *w, uint64_t *ret_bytes)
{
    uint64_t inodes = w->image->count + OWN_INODES;
    uint64_t blocks = 0;
    uint64_t bytes;

    for (size_t i = 0; i < w->image->count; i++) {
        uint64_t size = w->image->entries[i].size;

        /* Data, and a block for a folder's names or a file's extents. */
        if (size > ROOT_IMAGE_BYTES_MAX)
            return err_set(w->err, EFBIG, "%s: too large to be packed",
                w->image->entries[i].guest);
        blocks += num_div_up(size, BLOCK_BYTES) + 1;
        if (blocks > ROOT_IMAGE_BYTES_MAX / BLOCK_BYTES)
            return err_set(w->err, EFBIG,
                "more than %llu GiB of files: pack fewer",
                (unsigned long long)(ROOT_IMAGE_BYTES_MAX / NUM_GIB));
    }
    /* Tables of inodes, of groups, and extents of large files. */
    bytes = blocks * BLOCK_BYTES + inodes * 256 + blocks * 64 + NUM_MIB;
    *ret_bytes = num_align_up(bytes + bytes / 64, SIZE_ALIGN);
    return 0;
}

static int make_empty(struct writer *w, uint64_t bytes)
{
    struct words argv = {0};
    int rc;

    words_add(&argv, "mke2fs");
    words_add(&argv, "-qF");
    words_add(&argv, "-text4");
    words_addf(&argv, "-b%llu", (unsigned long long)BLOCK_BYTES);
    words_add(&argv, "-m0");
    words_add(&argv, "-I256");
    words_addf(&argv, "-N%zu", w->image->count + OWN_INODES);
    words_add(&argv, "-O^has_journal,^metadata_csum,^resize_inode");
    words_add(&argv, "-Ehash_seed=" IMAGE_UUID
                     ",lazy_itable_init=0,root_owner=0:0,nodiscard");
    words_add(&argv, "-U" IMAGE_UUID);
    words_add(&argv, "--");
    words_add(&argv, w->path);
    words_addf(&argv, "%llu", (unsigned long long)(bytes / BLOCK_BYTES));
    rc = argv.failed ? err_sys(w->err, ENOMEM, "%s", w->path)
                     : run(w, argv.list, "mke2fs ", false);
    words_fini(&argv);
    return rc;
}

/* ---- the script ---------------------------------------------------------- */

static int by_path(const void *a, const void *b)
{
    const struct root_image_entry *x = a;
    const struct root_image_entry *y = b;

    return strcmp(x->guest, y->guest);
}

/* A help file with the entry's contents; the caller frees *ret_path. */
static int write_bytes(
    struct writer *w, const struct root_image_entry *entry, char **ret_path)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc;

    if (asprintf(ret_path, "%s%zu", w->bytes, w->byte_files) < 0)
        return err_sys(w->err, ENOMEM, "%s", entry->guest);
    fd = open(*ret_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        w->byte_files++;
    rc = fd < 0 ? -errno : fd_write_full(fd, entry->bytes, entry->size);
    if (rc < 0) {
        rc = err_sys(w->err, rc, "%s", *ret_path);
        free(*ret_path);
    }
    return rc;
}

static int add_lines(
    struct writer *w, const struct root_image_entry *entry, FILE *out)
{
    const char *name = strrchr(entry->guest, '/');
    char *made = NULL;
    bool is_dir = entry->host == NULL && entry->bytes == NULL;
    int rc = 0;

    if (entry->bytes != NULL)
        rc = write_bytes(w, entry, &made);
    if (rc < 0)
        return rc;
    /* A name by itself is what both commands understand everywhere. */
    (void)fprintf(
        out, "cd \"%.*s/\"\n", (int)(name - entry->guest), entry->guest);
    if (is_dir)
        (void)fprintf(out, "mkdir \"%s\"\n", name + 1);
    else
        (void)fprintf(out, "write \"%s\" \"%s\"\n",
            made != NULL ? made : entry->host, name + 1);
    (void)fprintf(out, "sif \"%s\" mode 0%s\n", entry->guest,
        is_dir                 ? "40755"
        : entry->is_executable ? "100755"
                               : "100644");
    free(made);
    return 0;
}

static int make_script(struct writer *w)
{
    FILE *out = fopen(w->script, "wxe");
    int rc = 0;

    if (out == NULL)
        return err_sys(w->err, errno, "%s", w->script);
    for (size_t i = 0; rc == 0 && i < w->image->count; i++)
        rc = add_lines(w, &w->image->entries[i], out);
    if (ferror(out) && rc == 0)
        rc = err_sys(w->err, EIO, "%s", w->script);
    if (fclose(out) != 0 && rc == 0)
        rc = err_sys(w->err, errno, "%s", w->script);
    return rc;
}

static int fill(struct writer *w)
{
    struct words argv = {0};
    int rc;

    words_add(&argv, "debugfs");
    words_add(&argv, "-wf");
    words_add(&argv, w->script);
    words_add(&argv, w->path);
    rc = argv.failed ? err_sys(w->err, ENOMEM, "%s", w->path)
                     : run(w, argv.list, "debugfs", true);
    words_fini(&argv);
    return rc;
}

static int check(struct writer *w)
{
    struct words argv = {0};
    int rc;

    words_add(&argv, "e2fsck");
    words_add(&argv, "-fn");
    words_add(&argv, w->path);
    rc = argv.failed ? err_sys(w->err, ENOMEM, "%s", w->path)
                     : run(w, argv.list, "e2fsck ", false);
    words_fini(&argv);
    return rc;
}

static void remove_help_files(struct writer *w)
{
    (void)unlink(w->script);
    for (size_t i = 0; i < w->byte_files; i++) {
        char *path;

        if (asprintf(&path, "%s%zu", w->bytes, i) < 0)
            return;
        (void)unlink(path);
        free(path);
    }
}

int root_image_write(struct root_image *image, const char *path,
    const char *scratch, struct err *err)
{
    struct writer w = {.image = image, .path = path, .err = err};
    uint64_t bytes = 0;
    int rc = 0;

    if (asprintf(&w.script, "%s/.script", scratch) < 0) {
        w.script = NULL;
        rc = err_sys(err, ENOMEM, "%s", path);
    } else if (asprintf(&w.bytes, "%s/.bytes-", scratch) < 0) {
        w.bytes = NULL;
        rc = err_sys(err, ENOMEM, "%s", path);
    }
    qsort(image->entries, image->count, sizeof(*image->entries), by_path);
    if (rc == 0)
        rc = measure(&w, &bytes);
    if (rc == 0)
        rc = make_empty(&w, bytes);
    if (rc == 0)
        rc = make_script(&w);
    if (rc == 0)
        rc = fill(&w);
    if (rc == 0)
        rc = check(&w);
    if (w.script != NULL && w.bytes != NULL)
        remove_help_files(&w);
    free(w.script);
    free(w.bytes);
    return rc < 0 ? err_wrap(err, rc, "the target's image") : 0;
}
