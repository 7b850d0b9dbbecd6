/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/metrics_keys.h"

#define PERIOD_NS (60 * CLOCK_NS_PER_S)

/* What counts which requests, in the order of the contract's sections. */
static const struct endpoint {
    enum http_verb verb;
    const char *path; /* of the route */
    const char *name;
} endpoints[] = {
    {HTTP_VERB_GET, "/", "instance_info"},
    {HTTP_VERB_GET, "/machine-config", "machine_cfg"},
    {HTTP_VERB_GET, "/mmds", "mmds"},
    {HTTP_VERB_GET, "/version", "vmm_version"},
    {HTTP_VERB_GET, "/hotplug/memory", "hotplug_memory"},
    {HTTP_VERB_PATCH, "/drives/*", "drive"},
    {HTTP_VERB_PATCH, "/network-interfaces/*", "network"},
    {HTTP_VERB_PATCH, "/machine-config", "machine_cfg"},
    {HTTP_VERB_PATCH, "/mmds", "mmds"},
    {HTTP_VERB_PATCH, "/hotplug/memory", "hotplug_memory"},
    {HTTP_VERB_PATCH, "/pmem/*", "pmem"},
    {HTTP_VERB_PUT, "/actions", "actions"},
    {HTTP_VERB_PUT, "/boot-source", "boot_source"},
    {HTTP_VERB_PUT, "/drives/*", "drive"},
    {HTTP_VERB_PUT, "/logger", "logger"},
    {HTTP_VERB_PUT, "/machine-config", "machine_cfg"},
    {HTTP_VERB_PUT, "/cpu-config", "cpu_cfg"},
    {HTTP_VERB_PUT, "/metrics", "metrics"},
    {HTTP_VERB_PUT, "/network-interfaces/*", "network"},
    {HTTP_VERB_PUT, "/mmds", "mmds"},
    {HTTP_VERB_PUT, "/vsock", "vsock"},
    {HTTP_VERB_PUT, "/pmem/*", "pmem"},
    {HTTP_VERB_PUT, "/serial", "serial"},
    {HTTP_VERB_PUT, "/hotplug/memory", "hotplug_memory"},
};
_Static_assert(ARRAY_SIZE(endpoints) <= METRICS_ENDPOINTS, "room for each");

static void on_timer(void *opaque);

void metrics_init(struct metrics *m)
{
    *m = (struct metrics){.fd = -1};
    m->timer = (struct loop_timer){.fire = on_timer, .opaque = m};
}

void metrics_fini(struct metrics *m)
{
    if (m->inst != NULL)
        loop_timer_disarm(&m->inst->loop, &m->timer);
    m->inst = NULL;
    fd_closep(&m->fd);
    json_decref(m->properties);
    json_decref(m->before);
    m->properties = NULL;
    m->before = NULL;
}

void metrics_tally(struct metrics *m, const struct router_route *route, int rc)
{
    for (size_t i = 0; i < ARRAY_SIZE(endpoints); i++) {
        if (route->verb != endpoints[i].verb ||
            strcmp(route->path, endpoints[i].path) != 0)
            continue;
        m->counts[i]++;
        if (rc < 0)
            m->fails[i]++;
    }
}

/* ---- what is told -------------------------------------------------------- */

static void set(json_t *section, const char *key, uint64_t value)
{
    (void)json_object_set_new(section, key, json_integer((json_int_t)value));
}

static void add(json_t *section, const char *key, uint64_t value)
{
    json_t *old = json_object_get(section, key);

    set(section, key, (uint64_t)json_integer_value(old) + value);
}

static void put_requests(const struct metrics *m, json_t *root)
{
    static const char *const sections[] = {
        [HTTP_VERB_GET] = "get_api_requests",
        [HTTP_VERB_PUT] = "put_api_requests",
        [HTTP_VERB_PATCH] = "patch_api_requests",
    };

    for (size_t i = 0; i < ARRAY_SIZE(endpoints); i++) {
        json_t *section = json_object_get(root, sections[endpoints[i].verb]);
        char key[64];

        (void)snprintf(key, sizeof(key), "%s_count", endpoints[i].name);
        set(section, key, m->counts[i]);
        if (endpoints[i].verb == HTTP_VERB_GET)
            continue;
        (void)snprintf(key, sizeof(key), "%s_fails", endpoints[i].name);
        set(section, key, m->fails[i]);
    }
}

static struct virtio_stats stats_of(struct virtio_device *v)
{
    struct virtio_stats stats;

    device_lock(&v->base);
    stats = v->stats;
    device_unlock(&v->base);
    return stats;
}

static void put_drives(struct machine *machine, json_t *root)
{
    json_t *all = json_object_get(root, "block");

    for (uint32_t i = 0; i < CONFIG_DRIVES_MAX; i++) {
        struct machine_drive *drive = machine->drives[i];
        struct virtio_stats s;
        json_t *one;
        char key[CONFIG_ID_MAX + 16];

        if (drive == NULL)
            continue;
        s = stats_of(&drive->blk.virtio);
        one = metrics_keys_section(METRICS_KEYS_BLOCK);
        set(one, "queue_event_count", s.kicks);
        set(one, "execute_fails", s.errors);
        set(one, "invalid_reqs_count", s.violations);
        add(all, "queue_event_count", s.kicks);
        add(all, "execute_fails", s.errors);
        add(all, "invalid_reqs_count", s.violations);
        (void)snprintf(key, sizeof(key), "block_%s", drive->config->id);
        (void)json_object_set_new(root, key, one);
    }
}

static void put_nets(struct machine *machine, json_t *root)
{
    json_t *all = json_object_get(root, "net");

    for (uint32_t i = 0; i < CONFIG_NETS_MAX; i++) {
        struct machine_net *net = machine->nets[i];
        struct virtio_stats s;
        struct net_stats n;
        json_t *both[2];
        char key[CONFIG_ID_MAX + 16];

        if (net == NULL)
            continue;
        s = stats_of(&net->net.virtio);
        device_lock(&net->net.virtio.base);
        n = net->net.stats;
        device_unlock(&net->net.virtio.base);
        both[0] = all;
        both[1] = metrics_keys_section(METRICS_KEYS_NET);
        for (size_t k = 0; k < 2; k++) {
            add(both[k], "tx_queue_event_count", s.kicks);
            add(both[k], "event_fails", s.errors);
            add(both[k], "rx_packets_count", n.rx_frames);
            add(both[k], "rx_bytes_count", n.rx_bytes);
            add(both[k], "tx_packets_count", n.tx_frames);
            add(both[k], "tx_bytes_count", n.tx_bytes);
            add(both[k], "tx_malformed_frames", s.violations);
        }
        (void)snprintf(key, sizeof(key), "net_%s", net->config->id);
        (void)json_object_set_new(root, key, both[1]);
    }
}

static void put_mmds(
    const struct mmds *mmds, struct machine *machine, json_t *root)
{
    json_t *section = json_object_get(root, "mmds");

    for (uint32_t i = 0; i < CONFIG_NETS_MAX; i++) {
        struct machine_net *net = machine->nets[i];
        struct mmds_stats s;

        if (net == NULL || net->mmds == NULL)
            continue;
        device_lock(&net->net.virtio.base);
        s = net->mmds->tcp.stats;
        device_unlock(&net->net.virtio.base);
        add(section, "rx_accepted_err", s.rx_accepted_err);
        add(section, "rx_accepted_unusual", s.rx_unusual);
        add(section, "rx_count", s.rx_count);
        add(section, "tx_count", s.tx_frames);
        add(section, "tx_frames", s.tx_frames);
        add(section, "tx_bytes", s.tx_bytes);
        add(section, "connections_created", s.connections_created);
        add(section, "connections_destroyed", s.connections_destroyed);
    }
    set(section, "rx_invalid_token", mmds->invalid_tokens);
    set(section, "rx_no_token", mmds->no_tokens);
}

static void put_serial(struct instance *inst, json_t *root)
{
    struct serial *serial = &inst->machine.serial;
    uint64_t dropped;

    device_lock(&serial->dev);
    dropped = inst->console.rate_dropped;
    device_unlock(&serial->dev);
    set(json_object_get(root, "uart"), "rate_limiter_dropped_bytes", dropped);
}

static void put_others(struct machine *machine, json_t *root)
{
    struct virtio_stats s;

    if (machine->vsock != NULL) {
        json_t *section = json_object_get(root, "vsock");

        struct vsock_stats v;

        s = stats_of(&machine->vsock->virtio);
        device_lock(&machine->vsock->virtio.base);
        v = machine->vsock->stats;
        device_unlock(&machine->vsock->virtio.base);
        set(section, "tx_queue_event_count", s.kicks);
        set(section, "tx_bytes_count", v.tx_bytes);
        set(section, "tx_packets_count", v.tx_packets);
        set(section, "rx_bytes_count", v.rx_bytes);
        set(section, "rx_packets_count", v.rx_packets);
        set(section, "conns_added", v.guest_connects + v.host_connects);
    }
    if (machine->rng != NULL) {
        json_t *section = json_object_get(root, "entropy");

        s = stats_of(&machine->rng->virtio);
        set(section, "entropy_event_count", s.kicks);
        set(section, "entropy_bytes", s.bytes);
        set(section, "host_rng_fails", s.errors);
    }
    if (machine->balloon != NULL) {
        json_t *section = json_object_get(root, "balloon");

        s = stats_of(&machine->balloon->virtio);
        set(section, "event_fails", s.errors);
        set(section, "inflate_count", s.requests);
    }
    for (uint32_t i = 0; i < CONFIG_PMEMS_MAX; i++) {
        json_t *one;
        char key[CONFIG_ID_MAX + 16];

        if (machine->pmems[i] == NULL)
            continue;
        s = stats_of(&machine->pmems[i]->pmem.virtio);
        one = metrics_keys_section(METRICS_KEYS_PMEM);
        set(one, "queue_event_count", s.kicks);
        set(one, "event_fails", s.errors);
        add(json_object_get(root, "pmem"), "queue_event_count", s.kicks);
        add(json_object_get(root, "pmem"), "event_fails", s.errors);
        (void)snprintf(
            key, sizeof(key), "pmem_%s", machine->pmems[i]->config->id);
        (void)json_object_set_new(root, key, one);
    }
}

/* All counters since the process began. */
static json_t *count_all(const struct metrics *m)
{
    json_t *root = metrics_keys_counters();

    if (root == NULL)
        return NULL;
    put_requests(m, root);
    set(json_object_get(root, "deprecated_api"), "deprecated_http_api_calls",
        m->deprecated);
    set(json_object_get(root, "logger"), "missed_metrics_count", m->missed);
    if (m->inst != NULL && m->inst->phase != INSTANCE_NEW) {
        put_drives(&m->inst->machine, root);
        put_nets(&m->inst->machine, root);
        put_mmds(&m->inst->mmds, &m->inst->machine, root);
        put_serial(m->inst, root);
        put_others(&m->inst->machine, root);
    }
    return root;
}

/* What came since `before`, key by key; objects are two or three deep. */
static json_t *subtract_section(const json_t *now, const json_t *before)
{
    json_t *to = json_object();
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)now, key, value)
    {
        if (json_is_object(value)) {
            (void)json_object_set(to, key, value);
            continue;
        }
        set(to, key,
            (uint64_t)json_integer_value(value) -
                (uint64_t)json_integer_value(json_object_get(before, key)));
    }
    return to;
}

static void put_latencies(const struct metrics *m, json_t *section)
{
    static const char *const names[] = {
        [METRICS_FULL_SNAPSHOT] = "full_create_snapshot",
        [METRICS_DIFF_SNAPSHOT] = "diff_create_snapshot",
        [METRICS_LOAD] = "load_snapshot",
        [METRICS_PAUSE] = "pause_vm",
        [METRICS_RESUME] = "resume_vm",
    };

    for (size_t i = 0; i < METRICS_LATENCIES; i++) {
        char key[64];

        /* The API is on the thread that does it: there is one time for both. */
        set(section, names[i], m->latency_us[i]);
        (void)snprintf(key, sizeof(key), "vmm_%s", names[i]);
        set(section, key, m->latency_us[i]);
    }
}

static json_t *compose(const struct metrics *m, const json_t *now)
{
    json_t *root = json_object();
    struct timespec ts = {0};
    const char *key;
    json_t *section;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    set(root, "utc_timestamp_ms",
        (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
    if (m->emits_id)
        (void)json_object_set_new(root, "id", json_string(m->id));
    if (m->properties != NULL)
        (void)json_object_set(root, "properties", m->properties);
    json_object_foreach((json_t *)(uintptr_t)now, key, section)
    {
        (void)json_object_set_new(root, key,
            subtract_section(section, json_object_get(m->before, key)));
    }
    section = json_object_get(root, "latencies_us");
    put_latencies(m, section);
    section = json_object_get(root, "api_server");
    set(section, "process_startup_time_us", m->start_us);
    set(section, "process_startup_time_cpu_us", m->start_cpu_us);
    return root;
}

/* ---- writing ------------------------------------------------------------- */

int metrics_open(struct metrics *m, const char *path, bool emits_id,
    json_t *properties, struct err *err)
{
    if (m->fd >= 0)
        return err_set(err, EEXIST,
            "Cannot initialize the metrics system due to bad user input: "
            "Reinitialization of metrics not allowed.");
    m->fd = open(path,
        O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0600);
    if (m->fd < 0)
        return err_set(err, errno,
            "Cannot initialize the metrics system due to bad user input: %s "
            "(os error %d)",
            strerrordesc_np(errno), errno);
    m->emits_id = emits_id;
    m->properties = json_incref(properties);
    if (m->inst != NULL)
        metrics_start(m, m->inst, m->id);
    return 0;
}

void metrics_start(struct metrics *m, struct instance *inst, const char *id)
{
    m->inst = inst;
    m->id = id;
    if (m->fd >= 0)
        loop_timer_arm(&inst->loop, &m->timer, clock_now_ns() + PERIOD_NS);
}

int metrics_write(struct metrics *m, struct err *err)
{
    json_t *now;
    json_t *line;
    char *text = NULL;
    char *whole = NULL;
    int n = -1;

    if (m->fd < 0)
        return 0;
    now = count_all(m);
    line = now == NULL ? NULL : compose(m, now);
    if (line != NULL)
        text = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    if (text != NULL)
        n = asprintf(&whole, "%s\n", text);
    free(text);
    if (n < 0) {
        json_decref(now);
        return err_sys(err, ENOMEM, "Metrics error");
    }
    /* One write: a line is there as a whole, or not at all. */
    if (write(m->fd, whole, (size_t)n) != n) {
        m->missed++;
        json_decref(now);
        free(whole);
        return err_set(err, EIO, "Metrics error: Failed to write metrics");
    }
    free(whole);
    json_decref(m->before);
    m->before = now;
    return 0;
}

static void on_timer(void *opaque)
{
    struct metrics *m = opaque;

    if (metrics_write(m, NULL) < 0)
        m->missed += 0; /* it is counted where it is lost */
    loop_timer_arm(&m->inst->loop, &m->timer, clock_now_ns() + PERIOD_NS);
}
