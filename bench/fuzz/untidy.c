/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that is right once and was never meant to run twice in a process:
 * names go to a table that nothing empties, with memory that nothing frees, and
 * what it has saved in a file is there for the next run. There is no bug in it:
 * no input crashes a process of its own. In AFL++'s persistent mode the table
 * is full at some time, and an input that has nothing to do with it is a crash.
 *
 * An input is commands, a letter and a word each, with a blank behind:
 *   d NAME  defines it          u NAME  uses it
 *   s NAME  saves, in a file    c NAME  changes how later ones are read
 */
#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More than one input can define. */
#define COMMANDS_MAX 64
#define NAMES_MAX    4096
#define WORD_MAX     16
#define BUCKETS      64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct name {
    char text[WORD_MAX + 1];
    unsigned uses;
    struct name *next;
};

static struct name *buckets[BUCKETS];
static size_t names;
static size_t runs;
static bool is_folded; /* letters of both cases are the same */
static volatile unsigned sink;

static unsigned hash(const char *text)
{
    unsigned h = 5381;

    for (; *text != '\0'; text++)
        h = h * 33 ^ (uint8_t)*text;
    return h % BUCKETS;
}

static struct name *find(const char *text)
{
    struct name *name = buckets[hash(text)];

    while (name != NULL && strcmp(name->text, text) != 0)
        name = name->next;
    return name;
}

static void define(const char *text)
{
    unsigned h = hash(text);
    struct name *name;

    if (find(text) != NULL)
        return;
    name = calloc(1, sizeof(*name));
    assert(name != NULL);
    assert(names < NAMES_MAX);
    names++;
    (void)strcpy(name->text, text);
    name->next = buckets[h];
    buckets[h] = name;
}

static void use(const char *text)
{
    struct name *name = find(text);

    if (name == NULL)
        return;
    name->uses++;
    if (name->uses == 2)
        sink += 1;
    else if (name->uses > COMMANDS_MAX / 2)
        sink += 2;
    /* No input has more commands. */
    assert(name->uses <= COMMANDS_MAX);
}

/* A first save makes the file, another one adds to it; one that is too long
 * is begun anew. */
static void save(const char *text)
{
    const char *dir = getenv("TMPDIR");
    size_t len = strlen(text);
    char path[256];
    off_t size;
    int fd;

    (void)snprintf(
        path, sizeof(path), "%s/untidy.saved", dir != NULL ? dir : "/tmp");
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        sink += 3;
    }
    if (fd < 0)
        return;
    size = lseek(fd, 0, SEEK_END);
    if (size > 200) {
        (void)unlink(path);
        sink += 4;
    } else if (size % 3 == 0) {
        sink += 5;
    }
    if (write(fd, text, len) != (ssize_t)len)
        sink += 6;
    (void)close(fd);
}

static void command(char verb, char *word)
{
    if (is_folded) {
        for (char *c = word; *c != '\0'; c++)
            *c |= 0x20;
    }
    switch (verb) {
    case 'd':
        define(word);
        break;
    case 'u':
        use(word);
        break;
    case 's':
        save(word);
        break;
    case 'c':
        is_folded = !is_folded;
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char word[WORD_MAX + 1];
    size_t commands = 0;
    size_t i = 0;

    /* What a program does once: it says hello, it looks around. */
    if (runs++ == 0)
        sink += 7;
    while (i + 2 < size && data[i + 1] == ' ' && commands++ < COMMANDS_MAX) {
        char verb = (char)data[i];
        size_t len = 0;

        for (i += 2; i < size && data[i] > ' ' && data[i] < 0x7f; i++) {
            if (len < WORD_MAX)
                word[len++] = (char)data[i];
        }
        word[len] = '\0';
        if (len > 0)
            command(verb, word);
        i++;
    }
    return 0;
}
