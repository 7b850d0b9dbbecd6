/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include <assert.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/control_api.h"

void control_init(struct control *control)
{
    *control = (struct control){.save_fd = -1};
}

void control_fini(struct control *control)
{
    fd_closep(&control->save_fd);
    http_server_fini(&control->server);
}

int control_serve(struct control *control, struct instance *inst,
    const char *id, pid_t pid, int listen_fd, struct err *err)
{
    assert(control->inst == NULL);
    (void)stpncpy(control->id, id, RUNDIR_ID_MAX);
    control->pid = pid;
    control->inst = inst;
    control->router = control_api_router(control);
    return http_server_init(&control->server, &inst->loop, listen_fd,
        router_handle, &control->router, err);
}
