/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/control_bench.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/control_api.h"

static void on_end(void *opaque, const struct machine_end *end)
{
    (void)opaque;
    (void)end;
}

static void init(struct control_bench *b)
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
}

void control_bench_init(struct control_bench *b)
{
    init(b);
    http_bench_init(&b->http, router_handle, &b->control.router);
}

void control_bench_init_on(struct control_bench *b, int fd)
{
    init(b);
    http_bench_init_on(&b->http, fd, router_handle, &b->control.router);
}

static int boot(void *opaque, struct err *err)
{
    struct control_bench *b = opaque;

    if (b->options.config.kernel == NULL)
        return err_set(
            err, EINVAL, "Cannot start microvm without kernel configuration.");
    b->inst.phase = INSTANCE_RUNNING;
    return 0;
}

static int load(void *opaque, struct control_load *load, struct err *err)
{
    struct control_bench *b = opaque;

    (void)load;
    return err_set(err, EBUSY, "%s",
        b->options.given == 0
            ? "it is not there"
            : "Loading a microVM snapshot not allowed after configuring "
              "boot-specific resources.");
}

static int set_serial(void *opaque, const char *path, struct err *err)
{
    (void)opaque;
    return path[0] == '/' ? 0 : err_set(err, ENOENT, "%s: no such file", path);
}

static void quit(void *opaque)
{
    (void)opaque;
}

void control_bench_begin(struct control_bench *b)
{
    run_options_init(&b->options);
    b->host = (struct control_host){.boot = boot,
        .load = load,
        .quit = quit,
        .set_serial = set_serial,
        .options = &b->options,
        .opaque = b};
    b->inst.phase = INSTANCE_NEW;
    b->inst.config = &b->options.config;
    b->control.host = &b->host;
    b->control.router.phase = ROUTER_BEFORE;
}

void control_bench_fini(struct control_bench *b)
{
    http_bench_fini(&b->http);
    config_fini(&b->config);
    mmds_fini(&b->inst.mmds);
    run_options_fini(&b->options);
    metrics_fini(&b->control.metrics);
    control_log_fini(&b->control.log);
}
