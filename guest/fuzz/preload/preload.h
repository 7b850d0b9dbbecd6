/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the preload library share: how it was told to work, and
 * where the process is on its way to the root.
 *
 * All of it belongs to the thread that gets to the root; other threads only
 * read. Nothing here is trusted by the executor, and the program that it
 * lives in can break it: it is the program's own memory.
 */
#ifndef GUEST_FUZZ_PRELOAD_PRELOAD_H
#define GUEST_FUZZ_PRELOAD_PRELOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum preload_input {
    PRELOAD_STDIN,
    PRELOAD_FILE,
    PRELOAD_MEMORY,
    PRELOAD_SOCKET,
};

/* Where the root is to be. */
enum preload_place {
    PRELOAD_AT_MAIN,    /* before main(); AFL++'s fork if that comes first */
    PRELOAD_AT_FORK,    /* in AFL++'s fork */
    PRELOAD_AT_LOOP,    /* when AFL++'s persistent loop begins */
    PRELOAD_AT_ACCEPT,  /* when it waits for the connection */
    PRELOAD_AT_HARNESS, /* when libspore-harness.a says so */
};

struct preload {
    bool active; /* in the program that is fuzzed */
    bool rooted; /* a run is on, or the root being made */
    bool child;  /* a process that the program has made */
    bool parent; /* it has made one */
    bool sanitized;
    bool early;
    bool frames;
    bool levels;
    bool real_clock;
    enum preload_input input;
    enum preload_place place;
    uint16_t port;
    uint32_t map_size; /* 0: find out */
    uint32_t cmplog_size;
    uint64_t seed;
    char path[256]; /* of the input's file */
};

extern struct preload preload;

/* In a run, in the process that the executor sees. */
static inline bool preload_in_run(void)
{
    return __builtin_expect(preload.rooted && !preload.child, 0);
}

/* The same, or on the way there. */
static inline bool preload_is_on(void)
{
    return __builtin_expect(preload.active && !preload.child, 0);
}

#endif
