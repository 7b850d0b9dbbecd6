/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line and the environment of one afl-fuzz (4.04c and later) of a
 * campaign. Thread rule: one thread.
 */
#ifndef FUZZ_CAMPAIGN_COMMAND_H
#define FUZZ_CAMPAIGN_COMMAND_H

#include "fuzz/campaign.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/words.h"

/* Folder of what they print, in the output folder; afl-fuzz passes it over. */
#define CAMPAIGN_LOGS ".spore"

struct campaign_command {
    struct words argv;
    struct words env;
};

CC_MUST_CHECK int campaign_command_make(const struct campaign_options *options,
    uint32_t number, struct campaign_command *ret_command, struct err *err);

void campaign_command_fini(struct campaign_command *command);

/* Its folder in the output folder. */
struct campaign_name {
    char text[16];
};
struct campaign_name campaign_job_name(
    const struct campaign_options *options, uint32_t number);

#endif
