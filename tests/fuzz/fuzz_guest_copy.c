/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile guest may send to a host that copies a tree out of it. The
 * input is a list of frames, mostly of the protocol, with names that are put
 * together from a few words. Whatever comes, nothing is made or changed but
 * below the destination.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/guest_copy.h"

/* What a socket takes without a reader. */
#define SAID_MAX 100000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step { STEP_ENTRY, STEP_DATA, STEP_FILE_END, STEP_END, STEP_RAW, STEPS };

static const char *const words[] = {".", "..", "a", "b", "link", "", "secret",
    "dst", "proc", "a name", "/", "\xff"};

struct bench {
    char root[64];
    int root_fd;
    int dst;
    int agent;
    int host;
    size_t said;
    struct bytes_reader r;
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void say(struct bench *b, uint16_t type, const void *payload, size_t len)
{
    struct agent_frame head = {
        .length = agent_le32_put((uint32_t)len), .type = agent_le16_put(type)};

    if (b->said + sizeof(head) + len > SAID_MAX)
        return;
    b->said += sizeof(head) + len;
    require(send(b->agent, &head, sizeof(head), 0) == sizeof(head));
    require(len == 0 || send(b->agent, payload, len, 0) == (ssize_t)len);
}

/* Up to three words with slashes between them. */
static size_t make_name(struct bench *b, char *name, size_t size)
{
    uint8_t count = bytes_get_u8(&b->r);
    size_t len = 0;

    for (unsigned int i = 0; i <= count % 3u; i++)
        len += (size_t)snprintf(name + len, size - len, "%s%s",
            i == 0 ? "" : "/", words[bytes_get_u8(&b->r) % ARRAY_SIZE(words)]);
    return len + 1;
}

static void say_entry(struct bench *b)
{
    uint8_t choice = bytes_get_u8(&b->r);
    struct agent_entry entry = {.type = choice % 4,
        .closing = choice >> 7,
        .mode = agent_le32_put(bytes_get_u16(&b->r) & 017777)};
    uint8_t payload[sizeof(entry) + 256];
    size_t len = sizeof(entry);

    memcpy(payload, &entry, sizeof(entry));
    len += make_name(b, (char *)payload + len, 128);
    if (entry.type == AGENT_ENTRY_SYMLINK)
        len += make_name(b, (char *)payload + len, 64);
    say(b, AGENT_ENTRY, payload, len);
}

static void do_step(struct bench *b)
{
    uint8_t step = bytes_get_u8(&b->r) % STEPS;
    uint8_t data[sizeof(struct agent_data) + 16] = {0};
    uint64_t len;

    switch ((enum step)step) {
    case STEP_ENTRY:
        say_entry(b);
        break;
    case STEP_DATA:
        data[0] = bytes_get_u8(&b->r);
        data[7] = bytes_get_u8(&b->r);
        say(b, AGENT_DATA, data, sizeof(data) - data[0] % 17);
        break;
    case STEP_FILE_END:
        data[0] = bytes_get_u8(&b->r);
        say(b, AGENT_FILE_END, data, sizeof(struct agent_file_end));
        break;
    case STEP_END:
        say(b, AGENT_COPY_END, data, sizeof(struct agent_copy_end));
        break;
    case STEP_RAW:
        len = num_min(bytes_get_u8(&b->r), bytes_left(&b->r));
        say(b, (uint16_t)(0x200 + bytes_get_u16(&b->r) % 0x200),
            bytes_take(&b->r, num_min(len, bytes_left(&b->r))),
            num_min(len, bytes_left(&b->r)));
        break;
    case STEPS:
    default:
        abort();
    }
}

static void open_bench(struct bench *b)
{
    int fds[2];
    int fd;

    (void)strcpy(b->root, access("/dev/shm", W_OK) == 0
                              ? "/dev/shm/fuzz_guest_copy.XXXXXX"
                              : "/tmp/fuzz_guest_copy.XXXXXX");
    require(mkdtemp(b->root) != NULL);
    b->root_fd = open(b->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(b->root_fd >= 0 && mkdirat(b->root_fd, "dst", 0700) == 0);
    fd = openat(b->root_fd, "secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    require(fd >= 0 && write(fd, "secret", 6) == 6);
    (void)close(fd);
    b->dst = openat(b->root_fd, "dst", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(b->dst >= 0);
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    b->agent = fds[0];
    b->host = fds[1];
}

static unsigned int entries_seen;

static int count_entry(
    const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)path;
    (void)st;
    (void)kind;
    if (at->level == 1)
        entries_seen++;
    return 0;
}

static int remove_entry(
    const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    (void)chmod(path, 0700);
    return remove(path);
}

/* The secret is what it was, and there is nothing beside it and dst. */
static void check_bench(struct bench *b)
{
    int fd = openat(b->root_fd, "secret", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char text[16];
    struct stat st;

    require(fd >= 0 && read(fd, text, sizeof(text)) == 6);
    require(memcmp(text, "secret", 6) == 0);
    require(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0600);
    (void)close(fd);
    entries_seen = 0;
    require(nftw(b->root, count_entry, 8, FTW_PHYS) == 0);
    require(entries_seen == 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct guest_copy_options options = {.max_bytes = 1 << 20};
    struct agent_hello hello = {.magic = agent_le32_put(AGENT_MAGIC),
        .version = agent_le16_put(AGENT_VERSION)};
    struct guest_copy_result result;
    struct bench b = {.said = 0};

    open_bench(&b);
    say(&b, AGENT_HELLO, &hello, sizeof(hello));
    bytes_reader_init(&b.r, data, size);
    options.archive = (bytes_get_u8(&b.r) & 1) != 0;
    while (bytes_left(&b.r) > 0)
        do_step(&b);
    require(shutdown(b.agent, SHUT_WR) == 0);
    (void)!guest_copy_out(b.host, "/x", b.dst, (size & 1) != 0 ? "." : "top",
        &options, &result, NULL);
    check_bench(&b);
    require(nftw(b.root, remove_entry, 8, FTW_PHYS | FTW_DEPTH) == 0);
    fd_closep(&b.agent);
    fd_closep(&b.host);
    fd_closep(&b.dst);
    fd_closep(&b.root_fd);
    return 0;
}
