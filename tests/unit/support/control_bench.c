/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/control_bench.h"

#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/control_api.h"

static void on_end(void *opaque, const struct machine_end *end)
{
    (void)opaque;
    (void)end;
}

void control_bench_init(struct control_bench *b)
{
    memset(b, 0, sizeof(*b));
    config_init(&b->config);
    b->inst = (struct instance)INSTANCE_NONE;
    b->inst.host.on_end = on_end;
    b->inst.config = &b->config;
    b->inst.phase = INSTANCE_RUNNING;
    b->inst.started_ns = clock_now_ns();
    b->inst.machine.power_button.fd = -1;
    control_init(&b->control);
    (void)strcpy(b->control.id, "bench");
    b->control.inst = &b->inst;
    b->control.router = control_api_router(&b->control);
    http_bench_init(&b->http, router_handle, &b->control.router);
}

void control_bench_fini(struct control_bench *b)
{
    http_bench_fini(&b->http);
    config_fini(&b->config);
}
