/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/alone.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "guest/agent/text.h"
#include "guest/fuzz/call.h"
#include "guest/fuzz/names.h"
#include "guest/fuzz/pages.h"

#define MAP_DEFAULT 65536u

struct alone {
    struct pages_input input;
    uint8_t *map;
    uint32_t map_size;
    char map_entry[64];
};

static int make_map(struct alone *a, struct program *p)
{
    struct text t;
    size_t bytes;
    int id;

    a->map_size = p->conf->map_size != 0 ? p->conf->map_size : MAP_DEFAULT;
    bytes = (a->map_size + PAGES_SIZE - 1) / PAGES_SIZE * PAGES_SIZE;
    id = shmget(IPC_PRIVATE, bytes, 0600);
    if (id < 0)
        return -errno;
    a->map = shmat(id, NULL, 0);
    if (a->map == (void *)-1) // NOLINT
        return -errno;
    memset(a->map, 0, bytes);
    if (mlock(a->map, bytes) != 0)
        return -errno;
    text_init(&t, a->map_entry, sizeof(a->map_entry));
    text_str(&t, "__AFL_SHM_ID=");
    text_num(&t, (uint64_t)id);
    p->environ->list[p->environ->count++] = a->map_entry;
    p->environ->list[p->environ->count] = NULL;
    return 0;
}

static int lay_input(const struct alone *a, const struct program *p)
{
    uint32_t size = pages_input_size(&a->input);
    int fd = p->input_fd;
    bool whole;

    if (p->conf->input == CONF_FILE)
        fd = open(FUZZ_NAMES_INPUT, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    whole = fd >= 0 && pwrite(fd, a->input.bytes, size, 0) == (ssize_t)size;
    return whole ? 0 : -EIO;
}

int alone_run(struct program *p, const char **ret_step)
{
    static struct alone alone;
    pid_t pid;
    int error;

    *ret_step = "a static program gets its input from a file or standard "
                "input: link it dynamically";
    if (p->conf->input != CONF_FILE && p->conf->input != CONF_STDIN)
        return -EOPNOTSUPP;
    *ret_step = "no memory for map and input";
    error = pages_make_input(&alone.input);
    if (error == 0)
        error = make_map(&alone, p);
    if (error != 0)
        return error;
    pages_say_hello(&alone.input, alone.map, alone.map_size);
    /* There is no warming up: a process is all new pages in any case. */
    while (call(FUZZ_ABI_ROOT, 0) != 0)
        continue;
    *ret_step = "cannot start the program";
    error = lay_input(&alone, p);
    if (error == 0)
        error = program_start(p, &pid);
    if (error != 0)
        return error;
    (void)call(FUZZ_ABI_DONE, (uint64_t)(uint32_t)program_wait(pid));
    *ret_step = "the run was not ended";
    return -EPROTO;
}
