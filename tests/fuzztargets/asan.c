/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bugs for sanitizers: a use after free below many calls, so that the report
 * is long; with "ubsan" an overflow of a signed number.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 120

static volatile int limit = INT_MAX;

__attribute__((noinline)) static int deep(const char *p, int depth)
{
    volatile int here = depth;

    return depth == 0 ? p[1] : deep(p, depth - 1) + here;
}

int main(int argc, char **argv)
{
    char input[8] = "";
    char *p = malloc(16);

    if (fread(input, 1, sizeof(input) - 1, stdin) == 0 || p == NULL)
        return 0;
    memset(p, 1, 16);
    if (argc > 1 && strcmp(argv[1], "ubsan") == 0)
        return limit + (input[0] == 'b');
    if (input[0] == 'b')
        free(p);
    return deep(p, DEPTH) == 12345;
}
