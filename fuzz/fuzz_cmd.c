/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/fuzz_cmd.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "fuzz/fuzz_check_cmd.h"
#include "fuzz/fuzz_crash_cmds.h"
#include "fuzz/fuzz_pack_cmd.h"
#include "fuzz/fuzz_repro_cmd.h"
#include "fuzz/fuzz_run_cmd.h"
#include "fuzz/fuzz_say.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} verbs[] = {
    {"pack", fuzz_pack_cmd, "make a target out of a program"},
    {"check", fuzz_check_cmd, "say whether a target is good to be fuzzed"},
    {"run", fuzz_run_cmd, "fuzz a target with afl-fuzz"},
    {"repro", fuzz_repro_cmd,
        "run a target with inputs, and say what came of it"},
    {"triage", fuzz_triage_cmd, "group crashes by where they are"},
    {"min", fuzz_min_cmd, "make a crashing input smaller"},
    {"cov", fuzz_cov_cmd, "show which lines a corpus reaches"},
    {"gdb", fuzz_gdb_cmd, "debug the run of an input, backwards too"},
    {NULL, NULL, NULL},
};

static void print_usage(FILE *out)
{
    (void)fputs("usage: spore fuzz COMMAND [options]\n\n", out);
    for (const struct verb *v = verbs; v->name != NULL; v++)
        (void)fprintf(out, "  %-6s %s\n", v->name, v->text);
    (void)fputs("\nspore fuzz COMMAND --help describes a command.\n", out);
}

int cmd_fuzz(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (name == NULL) {
        print_usage(stderr);
        return FUZZ_STATUS_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_usage(stdout);
        return 0;
    }
    for (const struct verb *v = verbs; v->name != NULL; v++) {
        if (strcmp(name, v->name) == 0)
            return v->run(argc - 1, argv + 1);
    }
    (void)fprintf(stderr,
        "spore: fuzz: there is no command '%.64s': see spore fuzz --help\n",
        name);
    return FUZZ_STATUS_USAGE;
}
