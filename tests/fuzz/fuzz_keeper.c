/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of a monitor that was taken over, as its keeper gets them: four
 * bytes each, {op, port, flags of a request, enum how}. Whatever they are, the
 * keeper has as many descriptors in the end as before, and nothing of its
 * making is left but a working set.
 *
 * All that is made is in a temporary folder, for as long as one input takes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/keeper_requests.h"

#define PAGES     1000u
#define STEP_SIZE 4u
#define STEPS_MAX 64u

enum how {
    HOW_PASSES_FD = 1u << 0,
    HOW_IS_SHORT = 1u << 1,
    HOW_IS_LONG = 1u << 2,
    HOW_HAS_NO_END = 1u << 3,
    HOW_WRITES_SET = 1u << 4, /* into what a reply brought, and no request */
    HOW_DOES_NOT_READ = 1u << 5,
    HOW_IS_EMPTY = 1u << 6,
};

struct bench {
    char folder[40];
    int record_fd;
    int listen_fd;
    struct place place;
    struct detach detach;
    struct keeper_config config;
    struct keeper_requests requests;
    int link_fds[2]; /* the keeper's, the monitor's */
    int given_fd;    /* by the last reply that brought one; -1 */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static unsigned int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned int count = 0;

    require(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static void put_path(const struct bench *b, const char *name, char path[80])
{
    (void)snprintf(path, 80, "%s/%s", b->folder, name);
}

static void open_bench(struct bench *b)
{
    struct keeper_request settle = {
        .op = KEEPER_SETTLE, .flags = KEEPER_RECORD_ADDS, .pages = PAGES};
    struct sockaddr_un addr;
    char path[80];

    *b = (struct bench){.given_fd = -1};
    (void)strcpy(b->folder, "/tmp/fuzz_keeper.XXXXXX");
    require(mkdtemp(b->folder) != NULL);
    require(setenv("XDG_RUNTIME_DIR", b->folder, 1) == 0);
    put_path(b, "snapshot", path);
    require(mkdir(path, 0700) == 0);
    b->record_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put_path(b, "v_5", path);
    require(fd_unix_address("fuzz", path, &addr, NULL) == 0);
    require(fd_listen_unix(&addr, path, &b->listen_fd, NULL) == 0);
    place_init(&b->place);
    detach_init(&b->detach);
    b->config = (struct keeper_config){.place = &b->place,
        .id = "box",
        .detach = &b->detach,
        .command = "fuzz"};
    keeper_requests_init(&b->requests, &b->config);
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
                0, b->link_fds) == 0);
    /* Before that it is trusted. */
    put_path(b, "v", path);
    (void)stpcpy(settle.path, path);
    require(keeper_send(
                b->link_fds[1], &settle, sizeof(settle), b->record_fd) == 0);
    require(keeper_requests_answer(&b->requests, b->link_fds[0]) == 1);
    require(b->requests.is_settled);
}

static void remove_in(const struct bench *b, const char *name)
{
    char path[80];

    put_path(b, name, path);
    (void)remove(path);
}

static void close_bench(struct bench *b)
{
    place_fini(&b->place);
    keeper_requests_fini(&b->requests);
    fd_closep(&b->given_fd);
    fd_closep(&b->link_fds[0]);
    fd_closep(&b->link_fds[1]);
    fd_closep(&b->record_fd);
    fd_closep(&b->listen_fd);
    remove_in(b, "snapshot/working-set");
    remove_in(b, "snapshot");
    remove_in(b, "v_5");
    remove_in(b, "spore");
    /* Nothing else was made. */
    require(rmdir(b->folder) == 0);
}

static void write_set(const struct bench *b, const uint8_t *step)
{
    uint64_t words[PAGES / 64 + 2];

    memset(words, step[1], sizeof(words));
    if (b->given_fd < 0)
        return;
    (void)!pwrite(b->given_fd, words, sizeof(words), step[0]);
    (void)!ftruncate(b->given_fd, step[2]);
}

static void read_replies(struct bench *b)
{
    struct keeper_reply reply;
    int fd = -1;

    while (keeper_receive(b->link_fds[1], &reply, sizeof(reply), &fd) == 1) {
        require(reply.rc <= 0);
        require(memchr(reply.id, '\0', sizeof(reply.id)) != NULL);
        require(fd < 0 || reply.rc == 0);
        if (fd >= 0) {
            fd_closep(&b->given_fd);
            b->given_fd = fd_steal(&fd);
        }
    }
}

/* False: the keeper hears no more. */
static bool ask(struct bench *b, const uint8_t *step)
{
    union {
        struct keeper_request request;
        uint8_t bytes[sizeof(struct keeper_request) + 1];
    } packet = {.request = {.op = step[0] == UINT8_MAX ? UINT32_MAX : step[0],
                    .flags = step[2],
                    .port = step[1],
                    .pages = UINT64_MAX,
                    .path = "elsewhere"}};
    size_t size = sizeof(packet.request);
    uint8_t how = step[3];

    if ((how & HOW_IS_SHORT) != 0)
        size = step[2] % sizeof(packet.bytes);
    else if ((how & HOW_IS_LONG) != 0)
        size = sizeof(packet.bytes);
    if ((how & HOW_IS_EMPTY) != 0)
        size = 0;
    if ((how & HOW_HAS_NO_END) != 0)
        memset(packet.request.path, 'x', sizeof(packet.request.path));
    if (keeper_send(b->link_fds[1], &packet, size,
            (how & HOW_PASSES_FD) != 0 ? b->listen_fd : -1) < 0)
        return false;
    if (!keeper_requests_answer(&b->requests, b->link_fds[0]))
        return false;
    if ((how & HOW_DOES_NOT_READ) == 0)
        read_replies(b);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned int before;
    struct bench b;

    log_set_level(LOG_ERR);
    before = count_fds();
    open_bench(&b);
    for (size_t i = 0; i < STEPS_MAX && size >= STEP_SIZE; i++) {
        if ((data[3] & HOW_WRITES_SET) != 0)
            write_set(&b, data);
        else if (!ask(&b, data))
            break;
        data += STEP_SIZE;
        size -= STEP_SIZE;
    }
    /* What the first settlement said still holds. */
    require(b.requests.pages == PAGES);
    require(strstr(b.requests.vsock_path, "elsewhere") == NULL);
    close_bench(&b);
    require(count_fds() == before);
    return 0;
}
