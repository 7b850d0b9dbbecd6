/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/forkserver.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/fuzz/call.h"
#include "guest/fuzz/preload/input.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"
#include "guest/fuzz/preload/root.h"

#define PAGE 4096u

/* Any that the program will hardly have. */
#define ID_MAP    5134680
#define ID_INPUT  5134681
#define ID_CMPLOG 5134682

#define MAP_DEFAULT    65536u /* of a runtime that does not say */
#define DICTIONARY_MAX (16u << 20)

/* The old handshake: one word with options in it. */
#define OLD_ENABLED      0x80000001u
#define OLD_MAPSIZE      0x40000000u
#define OLD_AUTODICT     0x10000000u
#define OLD_SHDMEM_FUZZ  0x01000000u
#define OLD_MAPSIZE_MASK 0x00fffffeu
#define OLD_ERROR_MASK   0xff0000ffu
#define OLD_ERROR        0xf800008fu
#define OLD_ERROR_LOW    0xf800008fu

/* The new one: version, options, what they announce, version. */
#define NEW_VERSION      0x41464c00u
#define NEW_VERSION_MASK 0xffffff00u
#define NEW_ERROR_MASK   0xffff0000u
#define NEW_ERROR        0xeffe0000u
#define NEW_AUTODICT     0x00000800u

enum forkserver_state {
    EXPECT_HELLO,
    EXPECT_OPTIONS,
    EXPECT_MAPSIZE,
    EXPECT_DICTIONARY_SIZE,
    EXPECT_DICTIONARY,
    EXPECT_VERSION,
    EXPECT_FORK,
    IN_CHILD, /* fork has returned 0 */
    OVER,
};

static struct {
    enum forkserver_state state;
    bool seen; /* the program has such a runtime */
    uint32_t answer;
    bool has_answer; /* the next read gets it; without: was_killed, 0 */
    bool is_new;
    uint32_t version;
    uint32_t options;
    uint32_t map_size; /* as told; 0: not */
    const uint8_t *dictionary;
    uint32_t dictionary_size;
    uint32_t dictionary_left;
    uint8_t *map;
    size_t map_room;
    uint8_t *cmp_map;
} server;

static void set_number(const char *name, int value)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "%d", value);
    (void)setenv(name, text, 1);
}

/* The runtime asks whether the descriptors are open. */
static int open_descriptors(void)
{
    int fd = REAL(open)("/dev/null", O_RDWR);
    bool both;

    if (fd < 0)
        return -1;
    both = REAL(dup2)(fd, FORKSERVER_READ_FD) >= 0 &&
           REAL(dup2)(fd, FORKSERVER_WRITE_FD) >= 0;
    if (fd != FORKSERVER_READ_FD && fd != FORKSERVER_WRITE_FD)
        (void)REAL(close)(fd);
    return both ? 0 : -1;
}

static void *shared_memory(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

int forkserver_init(void)
{
    /* How much of it is used is known later; what is not costs nothing. */
    server.map_room = FUZZ_ABI_MAP_MAX;
    server.map = shared_memory(server.map_room);
    if (server.map == NULL || open_descriptors() != 0)
        return -1;
    set_number("__AFL_SHM_ID", ID_MAP);
    set_number("__AFL_SHM_FUZZ_ID", ID_INPUT);
    set_number("AFL_MAP_SIZE", FUZZ_ABI_MAP_MAX);
    (void)setenv("AFL_NO_SNAPSHOT", "1", 1);
    if (preload.cmplog_size == 0)
        return 0;
    server.cmp_map = shared_memory(preload.cmplog_size);
    if (server.cmp_map == NULL)
        return -1;
    set_number("__AFL_CMPLOG_SHM_ID", ID_CMPLOG);
    return 0;
}

void *forkserver_shm(int id)
{
    switch (id) {
    case ID_MAP:
        server.seen = true;
        return server.map;
    case ID_INPUT:
        return input_shm();
    case ID_CMPLOG:
        return server.cmp_map;
    default:
        return NULL;
    }
}

bool forkserver_is_shm(const void *at)
{
    return at == server.map || at == input_shm() ||
           (server.cmp_map != NULL && at == server.cmp_map);
}

/* ---- the conversation ------------------------------------------------------
 */

static void answer(uint32_t word)
{
    server.answer = word;
    server.has_answer = true;
}

static void hear_error(uint32_t word)
{
    char text[96];

    (void)snprintf(text, sizeof(text),
        "the program's AFL++ runtime cannot go on: error 0x%x", word);
    root_fail(text);
}

static void hear_old_hello(uint32_t word)
{
    uint32_t reply = OLD_ENABLED;

    if ((word & OLD_ERROR_MASK) == (OLD_ERROR_LOW & OLD_ERROR_MASK))
        hear_error(word);
    server.state = EXPECT_FORK;
    if ((word & OLD_ENABLED) != OLD_ENABLED)
        return; /* AFL's own: no options */
    if ((word & OLD_MAPSIZE) != 0)
        server.map_size = ((word & OLD_MAPSIZE_MASK) >> 1) + 1;
    if ((word & OLD_SHDMEM_FUZZ) != 0)
        reply |= OLD_SHDMEM_FUZZ;
    if ((word & OLD_AUTODICT) != 0) {
        reply |= OLD_AUTODICT;
        server.state = EXPECT_DICTIONARY_SIZE;
    }
    if (reply != OLD_ENABLED)
        answer(reply);
}

static void hear_hello(uint32_t word)
{
    if ((word & NEW_ERROR_MASK) == NEW_ERROR)
        hear_error(word);
    if ((word & NEW_VERSION_MASK) != NEW_VERSION) {
        hear_old_hello(word);
        return;
    }
    server.is_new = true;
    server.version = word;
    server.state = EXPECT_OPTIONS;
    answer(word ^ UINT32_MAX);
}

static void hear_dictionary_size(uint32_t word)
{
    server.state = server.is_new ? EXPECT_VERSION : EXPECT_FORK;
    if (word == 0 || word > DICTIONARY_MAX)
        return;
    server.dictionary_size = word;
    server.dictionary_left = word;
    server.state = EXPECT_DICTIONARY;
}

static void hear_word(uint32_t word)
{
    switch (server.state) {
    case EXPECT_HELLO:
        hear_hello(word);
        break;
    case EXPECT_OPTIONS:
        server.options = word;
        server.state = EXPECT_MAPSIZE;
        break;
    case EXPECT_MAPSIZE:
        server.map_size = word;
        server.state = (server.options & NEW_AUTODICT) != 0
                           ? EXPECT_DICTIONARY_SIZE
                           : EXPECT_VERSION;
        break;
    case EXPECT_DICTIONARY_SIZE:
        hear_dictionary_size(word);
        break;
    case EXPECT_VERSION:
        /* Options that this does not know may announce more words. */
        if (word == server.version)
            server.state = EXPECT_FORK;
        else if ((word & NEW_ERROR_MASK) == NEW_ERROR)
            hear_error(word);
        break;
    case EXPECT_DICTIONARY:
    case EXPECT_FORK:
    case IN_CHILD:
    case OVER:
        break;
    }
}

/* It lies in the program and stays there: remembered, given later. */
static void hear_dictionary(const uint8_t *bytes, size_t n)
{
    if (server.dictionary == NULL)
        server.dictionary = bytes;
    server.dictionary_left -=
        n < server.dictionary_left ? (uint32_t)n : server.dictionary_left;
    if (server.dictionary_left == 0)
        server.state = server.is_new ? EXPECT_VERSION : EXPECT_FORK;
}

ssize_t forkserver_write(const void *buf, size_t n)
{
    uint32_t word;

    server.seen = true;
    if (server.state == EXPECT_DICTIONARY) {
        hear_dictionary(buf, n);
    } else if (n == sizeof(word)) {
        memcpy(&word, buf, sizeof(word));
        hear_word(word);
    }
    return (ssize_t)n;
}

ssize_t forkserver_read(void *buf, size_t n)
{
    uint32_t word = server.has_answer ? server.answer : 0;

    server.has_answer = false;
    if (n > sizeof(word))
        n = sizeof(word);
    memcpy(buf, &word, n);
    return (ssize_t)n;
}

bool forkserver_forks(void)
{
    if (server.state != EXPECT_FORK)
        return false;
    server.state = IN_CHILD;
    return true;
}

bool forkserver_close(int fd)
{
    if (fd == FORKSERVER_READ_FD)
        return server.state == IN_CHILD;
    if (fd != FORKSERVER_WRITE_FD || server.state != IN_CHILD)
        return false;
    server.state = OVER;
    if (!preload.rooted && preload.place <= PRELOAD_AT_FORK)
        root_take();
    return true;
}

void forkserver_clears(const void *at, size_t size)
{
    /* A program may clear its map itself, but hardly all of it just once. */
    if (at != server.map || server.state != OVER || preload.rooted ||
        preload.place != PRELOAD_AT_LOOP || size < server.map_size)
        return;
    root_take();
}

/* ---- the maps --------------------------------------------------------------
 */

static uint32_t map_size(void)
{
    const uint32_t *final_loc = dlsym(RTLD_DEFAULT, "__afl_final_loc");

    if (server.map_size > 0 && server.map_size <= FUZZ_ABI_MAP_MAX)
        return server.map_size;
    if (!server.seen)
        return preload.map_size;
    /* The runtime has made it a size already when it asked for the map. */
    if (final_loc != NULL && *final_loc > 0 && *final_loc <= FUZZ_ABI_MAP_MAX)
        return *final_loc;
    return MAP_DEFAULT;
}

void forkserver_tell(struct fuzz_abi_hello *hello)
{
    uint32_t size = map_size();
    size_t room = ((size_t)size + PAGE - 1) / PAGE * PAGE;

    if (room < server.map_room)
        (void)munmap(server.map + room, server.map_room - room);
    server.map_room = room;
    real_mlock(server.map, room);
    hello->map = size > 0 ? (uintptr_t)server.map : 0;
    hello->map_size = size;
    if (server.cmp_map == NULL)
        return;
    real_mlock(server.cmp_map, preload.cmplog_size);
    hello->cmp_map = (uintptr_t)server.cmp_map;
    hello->cmp_map_size = preload.cmplog_size;
}

void forkserver_give_dictionary(void)
{
    static char name[] = "afl_autodict.txt";
    struct fuzz_abi_dump_file file = {
        .file_name_str_ptr = (uintptr_t)name,
        .data_ptr = (uintptr_t)server.dictionary,
        .bytes = server.dictionary_size,
    };
    volatile uint8_t seen = 0;

    if (server.dictionary == NULL || server.dictionary_left != 0)
        return;
    for (uint32_t at = 0; at < server.dictionary_size; at += PAGE)
        seen = server.dictionary[at];
    seen = server.dictionary[server.dictionary_size - 1];
    (void)seen;
    (void)call_at(FUZZ_ABI_DUMP_FILE, &file);
}
