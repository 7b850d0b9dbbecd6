/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of `spore serve`.
 *
 * Thread rule: pure functions but for the help, which is printed. The words
 * are the user's, checked here, and borrowed for as long as the options are
 * used.
 */
#ifndef VMM_SERVE_SERVE_OPTIONS_H
#define VMM_SERVE_SERVE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/server.h"

#define SERVE_OPTIONS_VMS_MAX   4096u
#define SERVE_OPTIONS_QUEUE_MAX 65536u
#define SERVE_OPTIONS_WORDS_MAX 32u

struct serve_options {
    const char *template;
    const char *listen[SERVER_LISTEN_MAX];
    uint32_t listen_count; /* 0: what systemd passes */
    const char *metrics;   /* NULL: nowhere but for spore top */
    const char *run_options[SERVE_OPTIONS_WORDS_MAX + 1];
    uint32_t run_option_count;
    const char *env[SERVE_OPTIONS_WORDS_MAX + 1];
    uint32_t env_count;
    const char *const *command; /* NULL: none was given */
    bool has_kind;              /* config.kind was said */
    bool has_port;              /* and config.port */
    uint32_t ready;             /* clones kept ready at the least */
    uint64_t drain_timeout_ns;
    struct server_config config; /* what of it is an option */
};

/* 0, or 1 when help was asked for, or -EINVAL. */
CC_MUST_CHECK int serve_options_parse(
    struct serve_options *ret_options, int argc, char **argv, struct err *err);

void serve_options_help(void);

#endif
