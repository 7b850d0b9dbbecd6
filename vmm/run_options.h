/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of `spore run`.
 *
 * Thread rule: one thread. The command line is the user's and is checked.
 */
#ifndef VMM_RUN_OPTIONS_H
#define VMM_RUN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"

enum run_console {
    RUN_CONSOLE_TAIL,   /* kept for error reports */
    RUN_CONSOLE_STDIO,  /* the serial port is our standard input and output */
    RUN_CONSOLE_STDERR, /* copied to standard error */
    RUN_CONSOLE_FILE,
};

enum run_timings { RUN_TIMINGS_OFF, RUN_TIMINGS_TEXT, RUN_TIMINGS_JSON };
enum run_tty { RUN_TTY_AUTO, RUN_TTY_ON, RUN_TTY_OFF };

#define RUN_ENV_MAX 256u

struct run_options {
    struct config config;
    enum run_console console;
    const char *console_file;
    enum run_timings timings;
    enum run_tty tty;
    uint64_t timeout_ns;        /* 0: none */
    bool no_root;               /* --rootfs none: stay in the initrd */
    const char *const *command; /* NULL: a shell */
    const char *env[RUN_ENV_MAX + 1];
    uint32_t env_count;
    bool help;
};

/*
 * Parses; strings point into argv. On failure run_options_fini is still due.
 * `config` is checked (config_check) but for its root drive.
 */
CC_MUST_CHECK int run_options_parse(
    struct run_options *options, int argc, char **argv, struct err *err);
void run_options_fini(struct run_options *options);

/* What --help prints. */
extern const char run_options_help[];

#endif
