/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is not in a list: machine, kernel, and the devices of which there is
 * one.
 */
#include "vmm/control_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/num.h"
#include "vmm/control.h"
#include "vmm/control_api.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/layout.h"

#define NOT_SUPPORTED "The requested operation is not supported: "
#define MACHINE_ERROR "Machine config error"
#define BALLOON_ERROR "Balloon config error: "
#define NO_BALLOON    "No balloon device found."
#define TOO_MANY      "Amount of pages requested is too large."
#define BAD_VCPUS                                                              \
    "The number of vCPUs must be greater than 0, less than 32 and must be 1 "  \
    "or an even number if SMT is enabled."
#define BAD_MEMORY                                                             \
    "The memory size (MiB) is either 0, or not a multiple of the configured "  \
    "page size."
#define SMALLER_THAN_BALLOON                                                   \
    "The memory size (MiB) is smaller than the previously set balloon device " \
    "target size."

/* ---- changing the description -------------------------------------------- */

int control_config_begin(
    const struct control *c, struct config *ret_copy, struct err *err)
{
    if (c->host == NULL)
        return err_set(err, EBUSY,
            "the machine of this socket is being made: wait for its start");
    return config_copy(&c->host->options->config, ret_copy, err);
}

int control_config_commit(
    struct control *c, struct config *copy, uint32_t given, struct err *err)
{
    struct run_options *o = c->host->options;
    int rc = config_check(copy, err);

    if (rc < 0) {
        config_fini(copy);
        return rc;
    }
    config_fini(&o->config);
    o->config = *copy;
    o->given |= given;
    return 0;
}

void control_config_abort(struct config *copy)
{
    config_fini(copy);
}

int control_config_os_error(struct err *err, int code, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    code = abs(code);
    return err_set(err, code, "%s%s (os error %d)", text,
        strerrordesc_np(code) != NULL ? strerrordesc_np(code) : "error", code);
}

int control_config_probe(const char *path, bool is_read_only)
{
    int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int fd = open(path, flags | (is_read_only ? O_RDONLY : O_RDWR));

    if (fd < 0)
        return -errno;
    (void)close(fd);
    return 0;
}

/* ---- machine ------------------------------------------------------------- */

static const char *const cpu_templates[] = {
    "C3", "T2", "T2S", "None", "T2CL", "T2A", NULL};
static const char *const page_sizes[] = {"None", "Transparent", "2M", NULL};

#define MACHINE_FIELDS(is_put)                                                 \
    {.name = "vcpu_count",                                                     \
        .type = SCHEMA_UINT,                                                   \
        .required = (is_put),                                                  \
        .max = UINT8_MAX},                                                     \
        {.name = "mem_size_mib",                                               \
            .type = SCHEMA_UINT,                                               \
            .required = (is_put),                                              \
            .max = UINT64_MAX,                                                 \
            .name_of = "usize"},                                               \
        {.name = "smt", .type = SCHEMA_BOOL, .not_null = (is_put)},            \
        {.name = "cpu_template",                                               \
            .type = SCHEMA_ENUM,                                               \
            .variants = cpu_templates},                                        \
        {.name = "track_dirty_pages",                                          \
            .type = SCHEMA_BOOL,                                               \
            .not_null = (is_put)},                                             \
    {                                                                          \
        .name = "huge_pages", .type = SCHEMA_ENUM, .not_null = (is_put),       \
        .variants = page_sizes                                                 \
    }

const struct schema_field control_machine_fields[] = {
    MACHINE_FIELDS(true),
    SCHEMA_END("MachineConfig"),
};
const struct schema_field control_machine_patch_fields[] = {
    MACHINE_FIELDS(false),
    SCHEMA_END("MachineConfigUpdate"),
};

/* What the contract has and this engine has not. */
static int check_machine(const json_t *body, struct err *err)
{
    const char *template = schema_string(body, "cpu_template");
    const char *pages = schema_string(body, "huge_pages");

    if (template != NULL && strcmp(template, "None") != 0)
        return err_set(err, ENOTSUP,
            NOT_SUPPORTED "cpu_template %s: see spore run --cpu-template",
            template);
    if (pages != NULL && strcmp(pages, "Transparent") == 0)
        return err_set(err, ENOTSUP, NOT_SUPPORTED "huge_pages %s", pages);
    return 0;
}

static int take_machine(
    struct config *config, const json_t *body, bool smt, struct err *err)
{
    const char *pages = schema_string(body, "huge_pages");
    uint64_t vcpus = schema_uint(body, "vcpu_count", config->vcpus);
    uint64_t mib =
        schema_uint(body, "mem_size_mib", config->mem_bytes / NUM_MIB);

    if (vcpus == 0 || vcpus > CONFIG_VCPUS_MAX ||
        (smt && vcpus > 1 && vcpus % 2 == 1))
        return err_set(err, EINVAL, BAD_VCPUS);
    if (pages != NULL)
        config->has_huge_pages = strcmp(pages, "2M") == 0;
    if (mib == 0 ||
        (config->has_huge_pages && mib % (GMEM_HUGE_SIZE / NUM_MIB) != 0))
        return err_set(err, EINVAL, BAD_MEMORY);
    if (mib < GMEM_SIZE_MIN / NUM_MIB || mib > GMEM_SIZE_MAX / NUM_MIB)
        return err_set(err, ERANGE,
            "The memory size (MiB) is not within %llu to %llu.",
            (unsigned long long)(GMEM_SIZE_MIN / NUM_MIB),
            (unsigned long long)(GMEM_SIZE_MAX / NUM_MIB));
    if (config->has_balloon && mib < config->balloon.target_mib)
        return err_set(err, EINVAL, SMALLER_THAN_BALLOON);
    config->vcpus = (uint32_t)vcpus;
    if (json_object_get(body, "mem_size_mib") != NULL)
        config->mem_bytes = mib * NUM_MIB;
    /* The contract has one template: None, unlike null, ends a /cpu-config. */
    if (schema_string(body, "cpu_template") != NULL) {
        free(config->cpu_modifiers);
        config->cpu_modifiers = NULL;
    }
    return 0;
}

int control_machine_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    /* Of a PUT, what is not there is its default; of a PATCH, as it was. */
    bool is_put = call->request->verb == HTTP_VERB_PUT;
    bool smt = schema_bool(call->body, "smt", !is_put && c->has_smt);
    struct config copy;
    int rc;

    call->is_deprecated = json_object_get(call->body, "cpu_template") != NULL;
    rc = check_machine(call->body, &call->err);
    if (rc < 0)
        return rc;
    rc = control_config_begin(c, &copy, &call->err);
    if (rc < 0)
        return rc;
    copy.has_huge_pages = !is_put && copy.has_huge_pages;
    rc = take_machine(&copy, call->body, smt, &call->err);
    if (rc < 0)
        control_config_abort(&copy);
    else
        rc = control_config_commit(
            c, &copy, RUN_GIVEN_MEM | RUN_GIVEN_CPUS, &call->err);
    if (rc < 0)
        return err_wrap(&call->err, rc, MACHINE_ERROR);
    c->has_smt = smt;
    c->tracks =
        schema_bool(call->body, "track_dirty_pages", !is_put && c->tracks);
    if (c->host->options->tracking == MACHINE_TRACK_LATER ||
        c->host->options->tracking == MACHINE_TRACK)
        c->host->options->tracking =
            c->tracks ? MACHINE_TRACK : MACHINE_TRACK_LATER;
    return 0;
}

int control_machine_patch(void *opaque, struct router_call *call)
{
    if (json_object_size(call->body) == 0)
        return err_set(&call->err, EINVAL, "Empty PATCH request.");
    return control_machine_put(opaque, call);
}

json_t *control_machine_json(const struct control *c)
{
    const struct config *config = c->inst->config;

    return json_pack("{s:i, s:I, s:b, s:b, s:s}", "vcpu_count",
        (int)config->vcpus, "mem_size_mib",
        (json_int_t)num_div_up(config->mem_bytes, NUM_MIB), "smt",
        (int)c->has_smt, "track_dirty_pages", (int)c->tracks, "huge_pages",
        config->has_huge_pages ? "2M" : "None");
}

int control_machine_get(void *opaque, struct router_call *call)
{
    return control_api_reply(call, control_machine_json(opaque));
}

/* ---- kernel ------------------------------------------------ */

const struct schema_field control_boot_fields[] = {
    {.name = "kernel_image_path", .type = SCHEMA_STRING, .required = true},
    {.name = "initrd_path", .type = SCHEMA_STRING},
    {.name = "boot_args", .type = SCHEMA_STRING},
    SCHEMA_END("BootSourceConfig"),
};

static int take_boot(struct config *config, const json_t *body, struct err *err)
{
    const char *kernel = schema_string(body, "kernel_image_path");
    const char *initrd = schema_string(body, "initrd_path");
    const char *args = schema_string(body, "boot_args");
    int rc = control_config_probe(kernel, true);

    if (rc < 0)
        return control_config_os_error(
            err, rc, "The kernel file cannot be opened: ");
    rc = initrd == NULL ? 0 : control_config_probe(initrd, true);
    if (rc < 0)
        return control_config_os_error(err, rc,
            "The initrd file cannot be opened due to invalid path or invalid "
            "permissions. ");
    if (args != NULL && strlen(args) >= LAYOUT_CMDLINE_MAX)
        return err_set(err, EINVAL,
            "The kernel command line is invalid: Command line string is too "
            "large.");
    free(config->initrd);
    config->initrd = NULL;
    rc = config_set_string(&config->kernel, kernel, err);
    if (rc == 0 && initrd != NULL)
        rc = config_set_string(&config->initrd, initrd, err);
    if (rc == 0)
        rc = config_set_string(
            &config->boot_args, args == NULL ? CONTROL_BOOT_ARGS : args, err);
    /* Guests of the contract know nothing of our agent. */
    config->has_agent = false;
    return rc;
}

int control_boot_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct config copy;
    int rc = control_config_begin(c, &copy, &call->err);

    if (rc < 0)
        return rc;
    rc = take_boot(&copy, call->body, &call->err);
    if (rc < 0)
        control_config_abort(&copy);
    else
        rc = control_config_commit(c, &copy,
            RUN_GIVEN_KERNEL | RUN_GIVEN_INITRD | RUN_GIVEN_CMDLINE,
            &call->err);
    if (rc < 0)
        return err_wrap(&call->err, rc, "Boot source error");
    c->has_default_args = schema_string(call->body, "boot_args") == NULL;
    return 0;
}

/* ---- devices of which there is one --------------------------------------- */

const struct schema_field control_vsock_fields[] = {
    {.name = "vsock_id", .type = SCHEMA_STRING},
    {.name = "guest_cid",
        .type = SCHEMA_UINT,
        .required = true,
        .max = UINT32_MAX},
    {.name = "uds_path", .type = SCHEMA_STRING, .required = true},
    SCHEMA_END("VsockDeviceConfig"),
};

/* Whether a socket can be made there; the machine makes it. */
static int probe_socket(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int rc = 0;
    int fd;

    if (path[0] == '\0' || strlen(path) >= sizeof(addr.sun_path))
        return -EINVAL;
    (void)strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        rc = -errno;
    else if (unlink(path) < 0)
        rc = -errno;
    (void)close(fd);
    return rc;
}

int control_vsock_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const char *path = schema_string(call->body, "uds_path");
    uint64_t cid = schema_uint(call->body, "guest_cid", 0);
    struct config copy;
    int rc;

    call->is_deprecated = json_object_get(call->body, "vsock_id") != NULL;
    rc = control_config_begin(c, &copy, &call->err);
    if (rc < 0)
        return rc;
    copy.guest_cid = (uint32_t)cid;
    rc = probe_socket(path);
    if (rc < 0)
        rc = control_config_os_error(&call->err, rc,
            "Cannot create backend for vsock device: Error binding to the "
            "host-side Unix socket: ");
    if (rc == 0)
        rc = config_set_string(&copy.vsock_path, path, &call->err);
    if (rc < 0)
        control_config_abort(&copy);
    else
        rc = control_config_commit(c, &copy, RUN_GIVEN_VSOCK, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Vsock config error") : 0;
}

const struct schema_field control_entropy_fields[] = {
    {.name = "rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_limiter_fields},
    SCHEMA_END("EntropyDeviceConfig"),
};

int control_entropy_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct config copy;
    int rc = control_config_begin(c, &copy, &call->err);

    if (rc < 0)
        return rc;
    copy.has_entropy = true;
    copy.entropy = control_get_limits(call->body, "rate_limiter").limits;
    rc = control_config_commit(c, &copy, RUN_GIVEN_RNG, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Entropy config error") : 0;
}

const struct schema_field control_serial_fields[] = {
    {.name = "serial_out_path", .type = SCHEMA_STRING, .name_of = SCHEMA_PATH},
    {.name = "rate_limiter",
        .type = SCHEMA_OBJECT,
        .object = control_bucket_fields},
    SCHEMA_END("SerialConfig"),
};

int control_serial_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const char *path = schema_string(call->body, "serial_out_path");
    struct rate_bucket_config bucket =
        control_get_bucket(json_object_get(call->body, "rate_limiter"));
    int rc = 0;

    if (c->host == NULL)
        return err_set(&call->err, EBUSY,
            "the machine of this socket is being made: wait for its start");
    if (path != NULL)
        rc = c->host->set_serial(c->host->opaque, path, &call->err);
    if (rc == 0)
        rc = console_set_rate(&c->inst->console, &bucket, &call->err);
    return rc;
}

const struct schema_field control_balloon_put_fields[] = {
    {.name = "amount_mib",
        .type = SCHEMA_UINT,
        .required = true,
        .max = UINT32_MAX},
    {.name = "deflate_on_oom", .type = SCHEMA_BOOL, .required = true},
    {.name = "stats_polling_interval_s",
        .type = SCHEMA_UINT,
        .not_null = true,
        .max = UINT16_MAX},
    {.name = "free_page_hinting", .type = SCHEMA_BOOL, .not_null = true},
    {.name = "free_page_reporting", .type = SCHEMA_BOOL, .not_null = true},
    SCHEMA_END("BalloonDeviceConfig"),
};

int control_balloon_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const json_t *body = call->body;
    struct config copy;
    int rc = control_config_begin(c, &copy, &call->err);

    if (rc < 0)
        return rc;
    copy.has_balloon = true;
    copy.balloon = (struct config_balloon){
        .target_mib = schema_uint(body, "amount_mib", 0),
        .deflate_on_oom = schema_bool(body, "deflate_on_oom", false),
        .stats_interval_s =
            (uint32_t)schema_uint(body, "stats_polling_interval_s", 0),
        .page_hinting = schema_bool(body, "free_page_hinting", false),
        .page_reporting = schema_bool(body, "free_page_reporting", false)};
    if (copy.balloon.target_mib > copy.mem_bytes / NUM_MIB) {
        control_config_abort(&copy);
        return err_set(&call->err, EINVAL, BALLOON_ERROR TOO_MANY);
    }
    rc = control_config_commit(c, &copy, RUN_GIVEN_BALLOON, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, "Balloon config error") : 0;
}

int control_config_balloon_get(
    const struct control *c, struct router_call *call)
{
    const struct config *config = c->inst->config;
    const struct config_balloon *b = &config->balloon;

    if (!config->has_balloon)
        return err_set(&call->err, ENODEV, BALLOON_ERROR NO_BALLOON);
    return control_api_reply(call,
        json_pack("{s:I, s:b, s:I, s:b, s:b}", "amount_mib",
            (json_int_t)b->target_mib, "deflate_on_oom", (int)b->deflate_on_oom,
            "stats_polling_interval_s", (json_int_t)b->stats_interval_s,
            "free_page_hinting", (int)b->page_hinting, "free_page_reporting",
            (int)b->page_reporting));
}

/* ---- what no machine of ours has ----------------------------------------- */

const struct schema_field control_hotplug_fields[] = {
    {.name = "total_size_mib",
        .type = SCHEMA_UINT,
        .required = true,
        .max = UINT32_MAX},
    {.name = "block_size_mib",
        .type = SCHEMA_UINT,
        .not_null = true,
        .max = UINT32_MAX},
    {.name = "slot_size_mib",
        .type = SCHEMA_UINT,
        .not_null = true,
        .max = UINT32_MAX},
    SCHEMA_END("MemoryHotplugConfig"),
};
const struct schema_field control_hotplug_patch_fields[] = {
    {.name = "requested_size_mib",
        .type = SCHEMA_UINT,
        .required = true,
        .max = UINT32_MAX},
    SCHEMA_END("MemoryHotplugSizeUpdate"),
};
