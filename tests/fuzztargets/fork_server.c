/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runtimes of AFL++ say to afl-fuzz, written out: "old" and "new"
 * handshake, each with a dictionary and shared-memory test cases, and "first",
 * that of AFL itself. Statuses below 10 are the step that went wrong.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAP_SIZE 1000u

/* It says itself where its fork server starts. */
__attribute__((used)) const char signature[] = "##SIG_AFL_DEFER_FORKSRV##";

static const uint8_t dictionary[] = "\x05magic\x03key";

static void say(uint32_t word, int step)
{
    if (write(199, &word, sizeof(word)) != sizeof(word))
        exit(step);
}

static uint32_t hear(int step)
{
    uint32_t word;

    if (read(198, &word, sizeof(word)) != sizeof(word))
        exit(step);
    return word;
}

static void *attach(const char *name, int step)
{
    const char *id = getenv(name);
    void *at = id != NULL ? shmat(atoi(id), NULL, 0) : NULL;

    if (at == NULL || at == (void *)-1)
        exit(step);
    return at;
}

/* Its length, and the rest in two pieces, as pipes would have it. */
static void say_dictionary(void)
{
    const uint32_t size = sizeof(dictionary) - 1;

    say(size, 4);
    if (write(199, dictionary, 4) != 4 ||
        write(199, dictionary + 4, size - 4) != (ssize_t)(size - 4))
        exit(4);
}

static void shake_old(void)
{
    say(0x80000001u | 0x40000000u | 0x10000000u | 0x01000000u | 0x02000000u |
            (MAP_SIZE - 1) << 1,
        2);
    if (hear(3) != (0x80000001u | 0x10000000u | 0x01000000u))
        exit(3);
    say_dictionary();
}

static void shake_new(void)
{
    const uint32_t version = 0x41464c01;

    say(version, 2);
    if (hear(3) != (version ^ UINT32_MAX))
        exit(3);
    say(0x1 | 0x2 | 0x800, 2);
    say(MAP_SIZE, 2);
    say_dictionary();
    say(version, 2);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    uint8_t *map = attach("__AFL_SHM_ID", 1);
    const uint8_t *input = attach("__AFL_SHM_FUZZ_ID", 1);
    uint32_t size;

    if (strcmp(how, "old") == 0)
        shake_old();
    else if (strcmp(how, "new") == 0)
        shake_new();
    else
        say(0, 2);
    if (hear(5) != 0)
        return 5;
    if (fork() != 0)
        return 6;
    close(198);
    close(199);
    memcpy(&size, input, sizeof(size));
    map[1] = 1;
    map[MAP_SIZE - 1] = 1;
    return size == 5 && memcmp(input + 4, "magic", 5) == 0 ? 10 : 11;
}
