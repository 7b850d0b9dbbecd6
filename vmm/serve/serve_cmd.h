/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore serve`.
 */
#ifndef VMM_SERVE_SERVE_CMD_H
#define VMM_SERVE_SERVE_CMD_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/template.h"
#include "vmm/serve/zygote.h"

/* Where VMs come from: for tests, another than the real one. */
struct serve_source {
    /* As template_open and template_fini, zygote_start. */
    int (*open_template)(
        const char *name, struct template *ret_template, struct err *err);
    void (*close_template)(struct template *t);
    int (*start_zygote)(
        const struct zygote_config *config, int *ret_fd, struct err *err);
};

int serve_main(int argc, char **argv, const struct serve_source *source);

int cmd_serve(int argc, char **argv);

#endif
