/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/tools.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/fuzz/call.h"

#define PAGE       FUZZ_ABI_STREAM_BYTES
#define PIECE      64u /* pages that are made for a file at a time */
#define STRING_MAX 4096u
#define SELF       "/proc/self/exe"
#define NO_PT      "_no_pt"

static const char *const names[] = {
    "hget", "hget_bulk", "hcat", "habort", "hpush"};

enum tool { HGET, HGET_BULK, HCAT, HABORT, HPUSH, TOOLS };

static enum tool find(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;

    for (unsigned int i = 0; i < TOOLS; i++) {
        size_t len = strlen(names[i]);

        if (strncmp(name, names[i], len) == 0 &&
            (name[len] == '\0' || strcmp(name + len, NO_PT) == 0))
            return (enum tool)i;
    }
    return TOOLS;
}

bool tools_is_name(const char *path)
{
    return find(path) != TOOLS;
}

/* What a call points at has to be present: written to, it is. */
static void say(uint64_t number, const char *text)
{
    static char copy[STRING_MAX];
    size_t len = strnlen(text, sizeof(copy) - 1);

    memcpy(copy, text, len);
    copy[len] = '\0';
    (void)call_at(number, copy);
}

/* A whole file by its name, so also where /proc is not. */
static int put_self(const char *to)
{
    int from_fd = open(SELF, O_RDONLY | O_CLOEXEC);
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    static char bytes[65536];
    ssize_t n = -1;

    while (from_fd >= 0 && fd >= 0 &&
           (n = read(from_fd, bytes, sizeof(bytes))) > 0) {
        if (write(fd, bytes, (size_t)n) != n)
            break;
    }
    (void)close(from_fd);
    (void)close(fd);
    return n == 0 ? 0 : -EIO;
}

/* The executor writes into the file's own pages: nothing is copied here. */
static int64_t get_piece(struct fuzz_abi_bulk *bulk, int fd, uint64_t offset)
{
    const size_t size = (size_t)PIECE * PAGE;
    uint8_t *bytes;
    uint64_t n;

    if (ftruncate(fd, (off_t)(offset + size)) < 0)
        return -errno;
    bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
        fd, (off_t)offset);
    if (bytes == MAP_FAILED)
        return -errno;
    bulk->num_addresses = PIECE;
    for (size_t i = 0; i < PIECE; i++)
        bulk->addresses[i] = (uint64_t)(uintptr_t)(bytes + i * PAGE);
    n = call_at(FUZZ_ABI_REQ_STREAM_DATA_BULK, bulk);
    (void)munmap(bytes, size);
    return n > size ? -ENOENT : (int64_t)n;
}

int tools_get(const char *name, const char *to)
{
    static struct fuzz_abi_bulk bulk;
    static char page[PAGE];
    uint64_t offset = 0;
    int64_t n;
    int fd;

    if (tools_is_name(name))
        return put_self(to);
    if (strlen(name) >= sizeof(bulk.file_name))
        return -ENAMETOOLONG;
    fd = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    (void)strcpy(bulk.file_name, name);
    do {
        n = get_piece(&bulk, fd, offset);
        offset += n > 0 ? (uint64_t)n : 0;
    } while (n > 0 && offset % PAGE == 0);
    /* A file that ends inside a page has to be asked for its end. */
    if (n > 0) {
        (void)strcpy(page, name);
        n = (int64_t)call_at(FUZZ_ABI_REQ_STREAM_DATA, page);
    }
    if (n == 0 && ftruncate(fd, (off_t)offset) < 0)
        n = -errno;
    (void)close(fd);
    return (int)n;
}

static int get(int argc, char **argv)
{
    int rc = argc == 3 ? tools_get(argv[1], argv[2]) : -EINVAL;

    if (rc == -ENOENT)
        say(FUZZ_ABI_USER_ABORT, "hget: the share directory has no such file");
    else if (rc < 0)
        say(FUZZ_ABI_USER_ABORT, "hget: the guest has no room for the file");
    return rc < 0 ? 1 : 0;
}

static int cat(void)
{
    static char text[STRING_MAX];
    ssize_t n;

    while ((n = read(STDIN_FILENO, text, sizeof(text) - 1)) > 0) {
        text[n] = '\0';
        (void)call_at(FUZZ_ABI_PRINTF, text);
    }
    return n < 0 ? 1 : 0;
}

static int push(const char *path)
{
    static char name[256];
    static uint8_t bytes[PAGE];
    static struct fuzz_abi_dump_file dump;
    const char *slash = strrchr(path, '/');
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;

    (void)strncpy(name, slash == NULL ? path : slash + 1, sizeof(name) - 1);
    dump.file_name_str_ptr = (uint64_t)(uintptr_t)name;
    dump.data_ptr = (uint64_t)(uintptr_t)bytes;
    while (fd >= 0 && (n = read(fd, bytes, sizeof(bytes))) >= 0) {
        dump.bytes = (uint64_t)n;
        if (call_at(FUZZ_ABI_DUMP_FILE, &dump) != 0)
            n = -1;
        dump.append = 1;
        if (n <= 0)
            break;
    }
    (void)close(fd);
    return n < 0 ? 1 : 0;
}

int tools_run(int argc, char **argv)
{
    switch (find(argv[0])) {
    case HGET:
    case HGET_BULK:
        return get(argc, argv);
    case HCAT:
        return cat();
    case HABORT:
        say(FUZZ_ABI_USER_ABORT, argc > 1 ? argv[1] : "habort");
        return 0;
    case HPUSH:
        return argc > 1 ? push(argv[1]) : 1;
    case TOOLS:
    default:
        return 1;
    }
}
