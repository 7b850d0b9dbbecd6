/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/share_initrd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/elf_needs.h"
#include "guest/fuzz_image.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* cpio's newc; archives may follow each other, from 4 bytes to 4 bytes. */
#define HEADER_BYTES (6 + 13 * 8)
#define ALIGN        4u
#define MODE_DIR     0040755u
#define MODE_FILE    0100755u

#define FILE_MAX (64u << 20)

struct archive {
    FILE *out; /* into memory */
    size_t offset;
    uint32_t inode;
};

static void put(struct archive *a, const void *bytes, size_t size)
{
    if (size > 0)
        (void)fwrite(bytes, 1, size, a->out); /* ferror is asked at the end */
    a->offset += size;
}

static void pad(struct archive *a)
{
    static const uint8_t zeroes[ALIGN];

    put(a, zeroes, (ALIGN - a->offset % ALIGN) % ALIGN);
}

static void put_node(struct archive *a, const char *name, uint32_t mode,
    const uint8_t *data, size_t size)
{
    char header[HEADER_BYTES + 1];

    (void)snprintf(header, sizeof(header),
        "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
        mode == 0 ? 0 : ++a->inode, mode, 0u, 0u, 1u, 0u, (uint32_t)size, 0u,
        0u, 0u, 0u, (uint32_t)strlen(name) + 1, 0u);
    put(a, header, HEADER_BYTES);
    put(a, name, strlen(name) + 1);
    pad(a);
    put(a, data, size);
    pad(a);
}

static int read_whole(const char *path, uint8_t **ret_bytes, size_t *ret_size)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    uint8_t *bytes;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > FILE_MAX)
        return -EINVAL;
    bytes = malloc((size_t)st.st_size);
    if (bytes == NULL)
        return -ENOMEM;
    if (fd_read_full(fd, bytes, (size_t)st.st_size) != (ssize_t)st.st_size) {
        free(bytes);
        return -EIO;
    }
    *ret_bytes = bytes;
    *ret_size = (size_t)st.st_size;
    return 0;
}

static bool needs_nothing(const uint8_t *bytes, size_t size)
{
    struct elf_needs needs = {0};
    struct err err;
    bool is_static =
        elf_needs_read(bytes, size, "busybox", &needs, &err) == 0 &&
        needs.interp == NULL && needs.names.count == 0;

    elf_needs_fini(&needs);
    return is_static;
}

static int put_file(
    struct archive *a, const char *path, const char *name, bool is_static)
{
    uint8_t *bytes;
    size_t size;
    int rc = read_whole(path, &bytes, &size);

    if (rc < 0)
        return rc;
    if (!is_static || needs_nothing(bytes, size))
        put_node(a, name, MODE_FILE, bytes, size);
    else
        rc = -ENOEXEC;
    free(bytes);
    return rc;
}

/* A shell that needs nothing else in the guest. */
static int put_busybox(struct archive *a, struct err *err)
{
    static const char *const places[] = {"/bin/busybox", "/usr/bin/busybox"};

    put_node(a, "bin", MODE_DIR, NULL, 0);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        if (put_file(a, places[i], "bin/busybox", true) == 0)
            return 0;
    }
    return err_set(err, ENOENT,
        "a share directory of Nyx needs a shell in its guest: install Debian's "
        "busybox-static (there is no static %s)",
        places[0]);
}

/* As Nyx's own initrd has it; programs that are static do without. */
static void put_libc(struct archive *a)
{
    static const struct {
        const char *path;
        const char *name;
    } libs[] = {
        {"/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"},
        {"/lib/x86_64-linux-gnu/libc.so.6", "lib64/libc.so.6"},
        {"/lib/x86_64-linux-gnu/libdl.so.2", "lib64/libdl.so.2"},
        {"/lib/x86_64-linux-gnu/libpthread.so.0", "lib64/libpthread.so.0"},
    };

    put_node(a, "lib64", MODE_DIR, NULL, 0);
    for (size_t i = 0; i < ARRAY_SIZE(libs); i++)
        (void)put_file(a, libs[i].path, libs[i].name, false);
}

int share_initrd_make(
    int share_fd, uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    char *bytes = NULL;
    size_t size = 0;
    struct archive a = {.out = open_memstream(&bytes, &size)};
    bool is_whole;
    int rc;

    if (a.out == NULL)
        return err_sys(err, ENOMEM, "an initrd");
    put(&a, fuzz_image_init, (size_t)(fuzz_image_init_end - fuzz_image_init));
    pad(&a);
    rc = put_busybox(&a, err);
    if (rc == 0 && faccessat(share_fd, "libc.so.6", F_OK, 0) < 0)
        put_libc(&a);
    put_node(&a, "TRAILER!!!", 0, NULL, 0);
    is_whole = ferror(a.out) == 0;
    if ((fclose(a.out) != 0 || !is_whole) && rc == 0)
        rc = err_sys(err, ENOMEM, "an initrd");
    if (rc < 0) {
        free(bytes);
        return rc;
    }
    *ret_bytes = (uint8_t *)bytes;
    *ret_size = size;
    return 0;
}
