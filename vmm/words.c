/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Takes the string; NULL is what could not be had. */
static void add_own(struct words *words, char *own)
{
    char **list = NULL;

    if (own != NULL)
        list = reallocarray(words->list, words->count + 2, sizeof(*list));
    if (list == NULL) {
        free(own);
        words->failed = true;
        return;
    }
    list[words->count++] = own;
    list[words->count] = NULL;
    words->list = list;
}

void words_add(struct words *words, const char *text)
{
    add_own(words, strdup(text));
}

void words_add_bytes(struct words *words, const char *text, size_t size)
{
    add_own(words, strndup(text, size));
}

void words_addf(struct words *words, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&text, fmt, args);
    va_end(args);
    add_own(words, n < 0 ? NULL : text);
}

bool words_has(const struct words *words, const char *text)
{
    for (size_t i = 0; i < words->count; i++) {
        if (strcmp(words->list[i], text) == 0)
            return true;
    }
    return false;
}

char **words_steal(struct words *words)
{
    char **list = words->failed ? NULL : words->list;

    if (!words->failed && list == NULL)
        list = calloc(1, sizeof(*list));
    if (!words->failed)
        *words = (struct words){0};
    return list;
}

void words_fini(struct words *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->list[i]);
    free(words->list);
    *words = (struct words){0};
}
