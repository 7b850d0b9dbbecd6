/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/environ.h"

#include <errno.h>
#include <string.h>

#include "guest/agent/exec.h"
#include "guest/agent/text.h"
#include "guest/fuzz/names.h"

/* A report ends the run, has no need of a symbolizer and is not about what
 * is left at the end; memory that cannot be had is no crash. */
#define SANITIZER_OPTIONS                                                      \
    "abort_on_error=1:symbolize=0:detect_leaks=0:halt_on_error=1:"             \
    "allocator_may_return_null=1:handle_abort=0:detect_odr_violation=0:"       \
    "print_stacktrace=1:verify_asan_link_order=0"

struct ours {
    const char *name; /* with its "=" */
    const char *value;
    char join; /* what fuzz.conf has comes behind it; 0: instead of it */
};

static const struct ours ours[] = {
    {"PATH=", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        0},
    {"HOME=", "/tmp", 0},
    {"LD_BIND_NOW=", "1", 0},
    {"LD_PRELOAD=", FUZZ_NAMES_PRELOAD, ':'},
    {"ASAN_OPTIONS=", SANITIZER_OPTIONS, ':'},
    {"MSAN_OPTIONS=", SANITIZER_OPTIONS, ':'},
    {"UBSAN_OPTIONS=", SANITIZER_OPTIONS, ':'},
};

#define OURS_COUNT (sizeof(ours) / sizeof(ours[0]))

static bool has_name(const char *entry, const char *name)
{
    return strncmp(entry, name, strlen(name)) == 0;
}

static const char *theirs(const struct conf *c, const char *name)
{
    for (size_t i = c->env_count; i > 0; i--) {
        if (has_name(c->env[i - 1], name))
            return c->env[i - 1] + strlen(name);
    }
    return NULL;
}

static bool is_ours(const char *entry)
{
    for (size_t i = 0; i < OURS_COUNT; i++) {
        if (has_name(entry, ours[i].name))
            return true;
    }
    return has_name(entry, FUZZ_NAMES_ENV "=");
}

static int put(struct environ_list *e, const struct text *t)
{
    if (t->len + 1 == t->size)
        return -E2BIG; /* it may have been cut */
    e->list[e->count++] = t->buf;
    e->used += t->len + 1;
    return 0;
}

static int put_ours(
    struct environ_list *e, const struct conf *c, const struct ours *o)
{
    const char *value = theirs(c, o->name);
    struct text t;

    text_init(&t, e->text + e->used, sizeof(e->text) - e->used);
    text_str(&t, o->name);
    if (value == NULL || o->join != 0)
        text_str(&t, o->value);
    if (value != NULL) {
        const char join[2] = {o->join, '\0'};

        text_str(&t, join);
        text_str(&t, value);
    }
    return put(e, &t);
}

static void put_word(struct text *t, const char *word, uint64_t value)
{
    text_str(t, word);
    text_num(t, value);
}

/* See names.h. */
static int put_words(struct environ_list *e, const struct conf *c, bool early)
{
    struct text t;

    text_init(&t, e->text + e->used, sizeof(e->text) - e->used);
    text_str(&t, FUZZ_NAMES_ENV "=");
    text_str(&t, conf_input_name(c->input));
    if (early)
        text_str(&t, ",early");
    if (c->frames)
        text_str(&t, ",frames");
    if (c->levels)
        text_str(&t, ",levels");
    if (c->real_clock)
        text_str(&t, ",real");
    put_word(&t, ",port=", c->port);
    put_word(&t, ",map=", c->map_size);
    put_word(&t, ",cmplog=", c->cmplog_size);
    put_word(&t, ",seed=", c->seed);
    text_str(&t, ",at=" FUZZ_NAMES_INPUT);
    return put(e, &t);
}

int environ_make(
    struct environ_list *e, const struct conf *c, bool early, bool no_avx)
{
    static char no_avx_entry[] = EXEC_NO_AVX_NAME "=" EXEC_NO_AVX_VALUE;
    int error = 0;

    e->count = 0;
    e->used = 0;
    for (size_t i = 0; i < OURS_COUNT && error == 0; i++)
        error = put_ours(e, c, &ours[i]);
    if (error == 0)
        error = put_words(e, c, early);
    if (error != 0)
        return error;
    if (no_avx && theirs(c, EXEC_NO_AVX_NAME "=") == NULL)
        e->list[e->count++] = no_avx_entry;
    for (size_t i = 0; i < c->env_count; i++) {
        if (!is_ours(c->env[i]))
            e->list[e->count++] = c->env[i];
    }
    e->list[e->count] = NULL;
    return 0;
}
