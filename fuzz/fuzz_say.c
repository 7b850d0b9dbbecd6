/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/fuzz_say.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_MAX_BYTES 512

int fuzz_say_usage(const char *verb, const char *problem, const char *what)
{
    (void)fprintf(stderr,
        "spore: fuzz %s: %s%.128s: see spore fuzz %s --help\n", verb, problem,
        what, verb);
    return FUZZ_STATUS_USAGE;
}

int fuzz_say_failed(const char *verb, const struct err *err)
{
    (void)fprintf(stderr, "spore: fuzz %s: %s\n", verb, err->text);
    return FUZZ_STATUS_FAILED;
}

void fuzz_say_warning(const char *verb, const char *fmt, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)fprintf(stderr, "spore: fuzz %s: warning: %s\n", verb, text);
}
