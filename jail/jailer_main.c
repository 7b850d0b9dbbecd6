/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore-jailer, called so or as jailer.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "jail/jailer.h"

/* A missing one would become the number of what is opened next. */
static int fill_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return -1;
    }
    return 0;
}

static void print_version(const char *called)
{
    const char *slash = strrchr(called, '/');

    if (strcmp(slash == NULL ? called : slash + 1, "jailer") == 0)
        (void)puts("Jailer v" SPORE_VERSION);
    else
        (void)puts("spore-jailer " SPORE_VERSION);
}

int main(int argc, char **argv)
{
    struct jailer_options options;
    struct err err;

    if (fill_standard_fds() < 0 || argc < 1)
        return 1;
    if (jailer_parse(argc, argv, &options, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (options.help || options.version) {
        if (options.help)
            jailer_print_help(stdout);
        else
            print_version(argv[0]);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    if (jailer_run(&options, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return 0;
}
