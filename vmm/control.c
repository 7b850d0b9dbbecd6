/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/control_api.h"

void control_init(struct control *control)
{
    *control = (struct control){.smaps_fd = -1};
    control_log_init(&control->log);
    metrics_init(&control->metrics);
}

void control_prepare(struct control *control)
{
    if (control->is_prepared)
        return;
    control->is_prepared = true;
    /* The library's hash tables are seeded from /dev/urandom, once. */
    json_object_seed(0);
    control->smaps_fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
}

void control_fini(struct control *control)
{
    fd_closep(&control->smaps_fd);
    control->save_conn = NULL;
    http_server_fini(&control->server);
    metrics_fini(&control->metrics);
    control_log_fini(&control->log);
}

int control_serve(struct control *control, struct instance *inst,
    const char *id, pid_t pid, int listen_fd, struct err *err)
{
    int rc;

    assert(control->inst == NULL);
    (void)stpncpy(control->id, id, RUNDIR_ID_MAX);
    control->pid = pid;
    control->inst = inst;
    control_prepare(control);
    control->router = control_api_router(control);
    metrics_start(&control->metrics, inst, control->id);
    rc = http_server_init(&control->server, &inst->loop, listen_fd,
        router_handle, &control->router, err);
    if (rc == 0 && control->body_max != 0)
        control->server.body_max = control->body_max;
    return rc;
}
