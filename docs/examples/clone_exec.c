/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command in a clone of a template, twice, with a reset in between:
 *
 *     clone_exec TEMPLATE COMMAND [ARGUMENT...]
 *
 * What the command writes is shown with the number of the run in front, what
 * comes on standard input is its input. The exit status is that of the second
 * run. See libspore(3).
 *
 *     cc clone_exec.c $(pkg-config --cflags --libs spore)
 */
#include <spore.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_MS 60000u

static int show(void *opaque, const void *data, size_t size)
{
    const int *number = opaque;

    (void)printf("%d: %.*s", *number, (int)size, (const char *)data);
    return 0;
}

static int run(struct spore_clone *clone, int number, const char *const *argv,
    const char *input, size_t input_size, int *ret_status,
    struct spore_error *error)
{
    struct spore_exec command = SPORE_EXEC_INIT;

    command.argv = argv;
    command.input = input;
    command.input_size = input_size;
    command.stderr_fd = 2;
    command.timeout_ms = TIMEOUT_MS;
    command.on_stdout = show;
    command.opaque = &number;
    return spore_clone_exec(clone, &command, ret_status, error);
}

int main(int argc, char **argv)
{
    struct spore_template *template;
    struct spore_clone *clone = NULL;
    struct spore_error error;
    char input[4096];
    size_t input_size;
    int status = EXIT_FAILURE;
    int rc;

    if (argc < 3) {
        (void)fputs("usage: clone_exec TEMPLATE COMMAND...\n", stderr);
        return EXIT_FAILURE;
    }
    input_size = fread(input, 1, sizeof(input), stdin);
    rc = spore_template_open(argv[1], NULL, &template, &error);
    if (rc < 0) {
        (void)fprintf(stderr, "clone_exec: %s\n", error.text);
        return EXIT_FAILURE;
    }
    rc = spore_clone_open(template, TIMEOUT_MS, &clone, &error);
    for (int number = 1; rc == 0 && number <= 2; number++) {
        if (number > 1)
            rc = spore_clone_reset(clone, TIMEOUT_MS, &error);
        if (rc == 0)
            rc = run(clone, number, (const char *const *)argv + 2, input,
                input_size, &status, &error);
    }
    if (rc < 0)
        (void)fprintf(stderr, "clone_exec: %s\n", error.text);
    spore_clone_close(clone);
    spore_template_close(template);
    return rc < 0 ? EXIT_FAILURE : status;
}
