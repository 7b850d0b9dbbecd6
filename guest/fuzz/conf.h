/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /spore/fuzz.conf: what init is to start, and how the program gets its
 * input. Records `key=value`, each ended by a NUL:
 *
 *     arg=      the program's path, then its arguments, in order; @@ in one
 *               becomes the input's path
 *     env=      NAME=VALUE, any number
 *     input=    stdin (without the record), file, memory or socket
 *     cwd=      where it starts; /tmp
 *     device=   /dev/...: what is fuzzed is the kernel, and this is what the
 *               input is written to; of the others only map= means anything
 *     asan=     1: it has a sanitizer
 *     port=     of the socket it listens on
 *     frames=   1: the input is packets, each behind its length of 16 bits
 *     levels=   1: a snapshot may be taken before each packet but the first
 *     clock=    real: the time is not held at the root
 *     seed=     of the random numbers that it gets
 *     map=      bytes of the map, if it has no AFL++ to tell
 *     cmplog=   bytes of AFL++'s struct cmp_map; 1: what 4.04c has
 *
 * One thread. The file is not trusted: every record is checked, and the first
 * that is not understood ends it. A value is kept by reference.
 */
#ifndef GUEST_FUZZ_CONF_H
#define GUEST_FUZZ_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONF_FILE_MAX (1u << 20)
#define CONF_ARGS_MAX 1024u
#define CONF_ENV_MAX  1024u

/* sizeof(struct cmp_map) of AFL++ 4.04c. */
#define CONF_CMPLOG_BYTES 67633152u

/* Its map and its page of the input have to leave room for a guest. */
#define CONF_CMPLOG_MAX (256u << 20)

enum conf_input {
    CONF_STDIN,
    CONF_FILE,
    CONF_MEMORY,
    CONF_SOCKET,
};

struct conf {
    char *args[CONF_ARGS_MAX + 1]; /* NULL-terminated */
    char *env[CONF_ENV_MAX + 1];   /* the same */
    size_t arg_count;
    size_t env_count;
    const char *cwd;    /* absolute */
    const char *device; /* NULL: a program is fuzzed, and there is an arg */
    enum conf_input input;
    bool asan;
    bool frames;
    bool levels;
    bool real_clock;
    uint16_t port;
    uint32_t map_size;
    uint32_t cmplog_size;
    uint64_t seed;
};

/*
 * Takes a whole file, which must live on. 0, -EINVAL with the record that is
 * wrong in *ret_wrong (a word about it if it is not one record), or -E2BIG.
 */
int conf_parse(
    struct conf *c, char *bytes, size_t size, const char **ret_wrong);

/* The word of that way, as in a record. */
const char *conf_input_name(enum conf_input input);

#endif
