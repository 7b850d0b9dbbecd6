/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_options_check.h"

#include <errno.h>

#include "vmm/output_limit.h"

static int check_origin(const struct run_options *o, struct err *err)
{
    if (o->from == NULL && (o->store != NULL || o->verify != RUN_VERIFY_AUTO ||
                               o->has_memory_option || o->freeze ||
                               o->allow_changed_disks || o->allow_duplicate))
        return err_set(err, EINVAL,
            "--store, --verify, --memory, --prefetch, --clock, "
            "--allow-changed-disks and --allow-duplicate are for --from "
            "SNAPSHOT");
    if (o->page_server != NULL && o->verify != RUN_VERIFY_AUTO)
        return err_set(err, EINVAL,
            "--verify has no place beside --memory uffd:PATH: the page server "
            "checks what it sends");
    return 0;
}

int run_options_check(struct run_options *o, struct err *err)
{
    if (o->command.argv != NULL && !o->config.has_agent)
        return err_set(err, EINVAL,
            "a command needs the agent: leave --console or the command out");
    if (o->no_api &&
        (o->id != NULL || o->api_sock != NULL || o->detach || o->no_boot))
        return err_set(err, EINVAL,
            "--no-api has no place beside --id, --api-sock, --detach and "
            "--no-boot");
    if (o->no_boot && (o->from != NULL || o->command.argv != NULL))
        return err_set(err, EINVAL,
            "--no-boot has no place beside --from and a command: the control "
            "socket says what is started");
    if (o->stay && (o->detach || o->no_boot || o->no_api ||
                       o->command.argv != NULL || !o->config.has_agent))
        return err_set(err, EINVAL,
            "--stay is for a machine with an agent and without a command, and "
            "has no place beside --detach, --no-boot and --no-api");
    if (o->log_file != NULL && !o->detach)
        return err_set(err, EINVAL, "--log is for --detach");
    if (o->detach && o->command.tty == SESSION_TTY_ON)
        return err_set(err, EINVAL, "--tty has no place beside --detach");
    if (o->has_output_limit && !o->detach && o->console != RUN_CONSOLE_FILE &&
        o->vconsole_file == NULL)
        return err_set(err, EINVAL,
            "--output-limit is for files: --console=FILE, "
            "--virtio-console=FILE and the log of --detach");
    if (o->detach && !o->has_output_limit)
        o->output_limit = OUTPUT_LIMIT_DETACHED;
    if (o->detach) {
        o->command.tty = SESSION_TTY_OFF;
        o->command.no_stdin = true;
    }
    if (check_origin(o, err) < 0)
        return -EINVAL;
    return config_check(&o->config, err);
}
