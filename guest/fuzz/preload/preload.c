/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start: finds out what program this is and where its root is best.
 */
#include "guest/fuzz/preload/preload.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/fuzz/names.h"
#include "guest/fuzz/preload/crashes.h"
#include "guest/fuzz/preload/determinism.h"
#include "guest/fuzz/preload/ends.h"
#include "guest/fuzz/preload/forkserver.h"
#include "guest/fuzz/preload/input.h"
#include "guest/fuzz/preload/output.h"
#include "guest/fuzz/preload/real.h"
#include "guest/fuzz/preload/root.h"

struct preload preload;

/* ---- the words of names.h --------------------------------------------------
 */

static bool take_number(const char *word, const char *name, uint64_t *ret_value)
{
    size_t n = strlen(name);

    if (strncmp(word, name, n) != 0)
        return false;
    *ret_value = strtoull(word + n, NULL, 10);
    return true;
}

static void take_word(const char *word)
{
    static const char *const inputs[] = {"stdin", "file", "memory", "socket"};
    uint64_t value;

    for (unsigned int i = 0; i < 4; i++) {
        if (strcmp(word, inputs[i]) == 0)
            preload.input = (enum preload_input)i;
    }
    if (strcmp(word, "early") == 0)
        preload.early = true;
    else if (strcmp(word, "frames") == 0)
        preload.frames = true;
    else if (strcmp(word, "levels") == 0)
        preload.levels = true;
    else if (strcmp(word, "real") == 0)
        preload.real_clock = true;
    else if (take_number(word, "port=", &value))
        preload.port = (uint16_t)value;
    else if (take_number(word, "map=", &value))
        preload.map_size = (uint32_t)value;
    else if (take_number(word, "cmplog=", &value))
        preload.cmplog_size = (uint32_t)value;
    else if (take_number(word, "seed=", &value))
        preload.seed = value;
}

static void take_words(const char *words)
{
    char word[32];

    while (*words != '\0') {
        size_t n = strcspn(words, ",");

        if (strncmp(words, "at=", 3) == 0) {
            strncpy(preload.path, words + 3, sizeof(preload.path) - 1);
            return;
        }
        if (n < sizeof(word)) {
            memcpy(word, words, n);
            word[n] = '\0';
            take_word(word);
        }
        words += n + (words[n] == ',');
    }
}

/* ---- signatures ------------------------------------------------------------
 */

/* As afl-fuzz looks for them. Here they are put together, lest this library be
 * taken for such a program itself. */
#define SIGNATURE_PERSISTENT                                                   \
    "##SIG_AFL_"                                                               \
    "PERSISTENT##"

struct signatures {
    bool persistent;
    bool deferred;
    bool harness;
};

static int look_in_program(struct dl_phdr_info *info, size_t size, void *opaque)
{
    struct signatures *s = opaque;

    (void)size;
    for (unsigned int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        const char *at = (const char *)info->dlpi_addr + p->p_vaddr;

        if (p->p_type != PT_LOAD || (p->p_flags & PF_R) == 0 ||
            (p->p_flags & PF_X) != 0)
            continue;
        s->persistent |= memmem(at, p->p_filesz, SIGNATURE_PERSISTENT,
                             strlen(SIGNATURE_PERSISTENT)) != NULL;
        s->deferred |=
            memmem(at, p->p_filesz, "##SIG_AFL_DEFER_FORKSRV##", 25) != NULL;
        s->harness |= memmem(at, p->p_filesz, FUZZ_NAMES_HARNESS,
                          strlen(FUZZ_NAMES_HARNESS)) != NULL;
    }
    return 1; /* the program itself is the first: no library counts */
}

static void choose_place(void)
{
    struct signatures s = {false, false, false};

    (void)dl_iterate_phdr(look_in_program, &s);
    if (s.harness) {
        preload.place = PRELOAD_AT_HARNESS;
        (void)setenv("__AFL_DEFER_FORKSRV", "1", 1);
        return;
    }
    if (preload.early)
        return;
    if (s.persistent) {
        preload.place = PRELOAD_AT_LOOP;
        (void)setenv("__AFL_PERSISTENT", "1", 1);
    } else if (s.deferred) {
        preload.place = PRELOAD_AT_FORK;
    } else if (preload.input == PRELOAD_SOCKET) {
        preload.place = PRELOAD_AT_ACCEPT;
    }
    if (s.deferred)
        (void)setenv("__AFL_DEFER_FORKSRV", "1", 1);
}

/* Runs before anything of the program but a sanitizer's start. */
__attribute__((constructor)) static void start(void)
{
    const char *words = getenv(FUZZ_NAMES_ENV);

    real_prepare();
    if (words == NULL)
        return;
    take_words(words);
    /* Programs that this one starts are not what is fuzzed. */
    (void)unsetenv(FUZZ_NAMES_ENV);
    preload.sanitized =
        dlsym(RTLD_DEFAULT, "__sanitizer_set_death_callback") != NULL;
    choose_place();
    if (input_init() != 0 || forkserver_init() != 0)
        root_fail("no memory for map and input");
    random_init();
    output_init();
    preload.active = true;
}

/* ---- main() ----------------------------------------------------------------
 */

typedef int main_fn(int, char **, char **);

static main_fn *program_main;

static int main_between(int argc, char **argv, char **envp)
{
    if (preload_is_on() && !preload.rooted && preload.place == PRELOAD_AT_MAIN)
        root_take();
    /* Return or exit: both end a run at exit(). */
    ends_exit(program_main(argc, argv, envp));
}

int __libc_start_main(main_fn *program, int argc, char **argv,
    void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
    void *stack_end);

REAL_EXPORT int __libc_start_main(main_fn *program, int argc, char **argv,
    void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
    void *stack_end)
{
    program_main = program;
    return REAL(__libc_start_main)(preload.active ? main_between : program,
        argc, argv, init, fini, rtld_fini, stack_end);
}
