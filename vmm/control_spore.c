/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/control.h"
#include "vmm/control_api.h"

/* Unless the client says otherwise. */
#define STOP_TIMEOUT_MS 30000u

/* Of a stop's time, what processes have between SIGTERM and SIGKILL. */
#define STOP_GRACE_MAX_MS 5000u

/*
 * KiB of memory that this process alone has, from the kernel's summary of its
 * mappings; -1 if it does not tell.
 */
static json_int_t private_kib(const struct control *c)
{
    char text[2048];
    json_int_t sum = 0;
    ssize_t n = c->smaps_fd < 0
                    ? -1
                    : fd_pread_full(c->smaps_fd, text, sizeof(text) - 1, 0);
    long kib;

    if (n < 0)
        return -1;
    text[n] = '\0';
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += line[0] == '\n';
        if (sscanf(line, "Private_Clean: %ld", &kib) == 1 ||
            sscanf(line, "Private_Dirty: %ld", &kib) == 1)
            sum += kib;
    }
    return sum;
}

static uint64_t process_cpu_ns(void)
{
    struct timespec ts;

    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts) < 0)
        return 0;
    return (uint64_t)ts.tv_sec * CLOCK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t count_exits(const struct machine *m)
{
    uint64_t exits = 0;

    for (uint32_t i = 0; i < m->vcpu_count; i++)
        exits += __atomic_load_n(&m->vcpus[i].exits, __ATOMIC_RELAXED);
    return exits;
}

/* What all virtio devices count. */
static json_t *virtio_stats_json(struct virtio_device *v)
{
    struct virtio_stats stats;

    device_lock(&v->base);
    stats = v->stats;
    device_unlock(&v->base);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "requests",
        (json_int_t)stats.requests, "bytes", (json_int_t)stats.bytes, "kicks",
        (json_int_t)stats.kicks, "interrupts", (json_int_t)stats.interrupts,
        "errors", (json_int_t)stats.errors, "violations",
        (json_int_t)stats.violations);
}

static void add_device(json_t *json, struct virtio_device *v)
{
    (void)json_object_set_new(json, v->base.id, virtio_stats_json(v));
}

static json_t *devices(struct machine *m)
{
    json_t *json = json_object();

    for (uint32_t i = 0; i < CONFIG_DRIVES_MAX; i++) {
        if (m->drives[i] != NULL)
            add_device(json, &m->drives[i]->blk.virtio);
    }
    for (uint32_t i = 0; i < CONFIG_PMEMS_MAX; i++) {
        if (m->pmems[i] != NULL)
            add_device(json, &m->pmems[i]->pmem.virtio);
    }
    for (uint32_t i = 0; i < CONFIG_NETS_MAX; i++) {
        if (m->nets[i] != NULL)
            add_device(json, &m->nets[i]->net.virtio);
    }
    if (m->vsock != NULL)
        add_device(json, &m->vsock->virtio);
    if (m->rng != NULL)
        add_device(json, &m->rng->virtio);
    if (m->balloon != NULL)
        add_device(json, &m->balloon->virtio);
    if (m->vconsole != NULL)
        add_device(json, &m->vconsole->virtio);
    return json;
}

int control_spore_get(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct instance *inst = c->inst;
    uint64_t age_ns = 0;

    if (inst->phase != INSTANCE_NEW)
        age_ns = clock_now_ns() - inst->started_ns;
    return control_api_reply(call,
        json_pack("{s:s, s:i, s:s, s:I, s:i, s:I, s:b, s:I, s:I, s:I, s:o}",
            "id", c->id, "pid", (int)c->pid, "state",
            instance_phase_name(inst->phase), "age_ms",
            (json_int_t)(age_ns / CLOCK_NS_PER_MS), "vcpus",
            (int)inst->config->vcpus, "mem_bytes",
            (json_int_t)inst->config->mem_bytes, "has_agent",
            (int)inst->has_agent, "cpu_us",
            (json_int_t)(process_cpu_ns() / 1000), "private_kib",
            private_kib(c), "exits", (json_int_t)count_exits(&inst->machine),
            "devices", devices(&inst->machine)));
}

int control_spore_stop(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    uint64_t timeout_ms =
        schema_uint(call->body, "timeout_ms", STOP_TIMEOUT_MS);

    if (c->inst->phase == INSTANCE_NEW && c->host != NULL) {
        c->host->quit(c->host->opaque);
        return 0;
    }
    return instance_stop(c->inst, timeout_ms * CLOCK_NS_PER_MS,
        (uint32_t)num_min(timeout_ms / 2, STOP_GRACE_MAX_MS), &call->err);
}

int control_spore_kill(void *opaque, struct router_call *call)
{
    struct control *c = opaque;

    (void)call;
    if (c->inst->phase == INSTANCE_NEW && c->host != NULL)
        c->host->quit(c->host->opaque);
    else
        instance_kill(c->inst);
    return 0;
}

/* The guest has accepted; what follows on the descriptor is its. */
static void say_switching(int fd, uint32_t host_port)
{
    static const char text[] = "HTTP/1.1 101 \r\nServer: Firecracker API\r\n"
                               "Connection: Upgrade\r\nUpgrade: vsock\r\n\r\n";

    (void)host_port;
    /* Nothing waits in it, so there is room. Who is gone is noticed later. */
    (void)send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int control_spore_vsock(void *opaque, struct router_call *call)
{
    const struct vsock_caller caller = {.established = say_switching};
    struct control *c = opaque;
    unsigned long port;
    char *end;
    int rc;
    int fd;

    errno = 0;
    port = strtoul(call->id, &end, 10);
    if (call->id[0] < '0' || call->id[0] > '9' || *end != '\0' || errno != 0 ||
        port > UINT32_MAX)
        return err_set(
            &call->err, EINVAL, "%s is no port of a guest", call->id);
    if (call->request->upgrade == NULL)
        return err_set(&call->err, EINVAL,
            "This endpoint needs Connection: Upgrade and Upgrade: vsock.");
    rc = http_conn_take(call->conn, &fd);
    if (rc < 0)
        return err_set(
            &call->err, -rc, "Bytes were sent before the protocol changed.");
    rc = instance_connect(c->inst, (uint32_t)port, fd, &caller, &call->err);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    http_conn_end(call->conn);
    return ROUTER_TAKEN;
}
