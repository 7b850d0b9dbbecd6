/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine description from JSON: the file as a whole, and the sections
 * that are not devices.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/config.h"
#include "vmm/config_json_devices.h"
#include "vmm/config_json_mmds.h"
#include "vmm/config_reader.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/cpuid_template.h"

static void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

static int read_kernel(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->config.kernel);
}

static int read_initrd(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->config.initrd);
}

static int read_boot_args(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->config.boot_args);
}

static int read_boot_source(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"kernel_image_path", read_kernel},
        {"boot_args", read_boot_args},
        {"initrd_path", read_initrd},
    };

    return config_reader_object(r, value, keys, ARRAY_SIZE(keys));
}

static int read_vcpu_count(struct config_reader *r, const json_t *value)
{
    uint64_t count = 0;
    int rc = config_reader_number(r, value, 1, CONFIG_VCPUS_MAX, &count);

    if (rc == 0)
        r->config.vcpus = (uint32_t)count;
    return rc;
}

static int read_mem_mib(struct config_reader *r, const json_t *value)
{
    uint64_t mib = 0;
    int rc = config_reader_number(
        r, value, GMEM_SIZE_MIN / NUM_MIB, GMEM_SIZE_MAX / NUM_MIB, &mib);

    if (rc == 0) {
        r->config.mem_bytes = mib * NUM_MIB;
        r->has_mem_mib = true;
    }
    return rc;
}

static int read_huge_pages(struct config_reader *r, const json_t *value)
{
    const char *size = json_string_value(value);

    r->config.has_huge_pages = size != NULL && strcmp(size, "2M") == 0;
    return r->config.has_huge_pages ? 0 : config_reader_no_choice(r, value);
}

static int read_machine(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"vcpu_count", read_vcpu_count},
        {"mem_size_mib", read_mem_mib},
        {"smt", config_reader_no_flag},
        {"cpu_template", config_reader_no_choice},
        {"track_dirty_pages", config_reader_no_flag},
        {"huge_pages", read_huge_pages},
    };

    return config_reader_object(r, value, keys, ARRAY_SIZE(keys));
}

static int read_guest_cid(struct config_reader *r, const json_t *value)
{
    uint64_t cid = 0;
    int rc = config_reader_number(r, value, 3, UINT32_MAX - 1, &cid);

    if (rc == 0)
        r->config.guest_cid = (uint32_t)cid;
    return rc;
}

/* A name without effect, which Firecracker still takes. */
static int read_vsock_id(struct config_reader *r, const json_t *value)
{
    return json_is_string(value) ? 0 : config_reader_must_be(r, "a string");
}

static int read_vsock_path(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &r->config.vsock_path);
}

static int read_vsock(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"guest_cid", read_guest_cid},
        {"uds_path", read_vsock_path},
        {"vsock_id", read_vsock_id},
    };

    return config_reader_object(r, value, keys, ARRAY_SIZE(keys));
}

static int read_agent(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->config.has_agent);
}

static int read_exit_port(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->config.has_exit_port);
}

static int read_vconsole(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->config.has_vconsole);
}

static int read_has_vsock(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->config.has_vsock);
}

static int read_discovery(struct config_reader *r, const json_t *value)
{
    static const char *const choices[] = {"acpi", "cmdline"};
    unsigned int choice = 0;
    int rc =
        config_reader_choice(r, value, choices, ARRAY_SIZE(choices), &choice);

    r->config.discovery =
        choice == 0 ? CONFIG_DISCOVERY_ACPI : CONFIG_DISCOVERY_CMDLINE;
    return rc;
}

/* One more name of a feature to hide. */
static int read_hidden(struct config_reader *r, const json_t *value)
{
    char **list = &r->config.cpu_template;
    const char *name = json_string_value(value);
    char *longer;

    if (name == NULL)
        return config_reader_must_be(r, "a string");
    if (*list != NULL && strlen(*list) > CPUID_TEMPLATE_MAX)
        return config_reader_fail(r, EINVAL, "too long");
    if (asprintf(&longer, "%s%s%s", *list == NULL ? "" : *list,
            *list == NULL ? "" : ",", name) < 0)
        return config_reader_fail(r, ENOMEM, "no memory");
    free(*list);
    *list = longer;
    return 0;
}

/* "none", a level's name, or a list of what is to be hidden. */
static int read_cpu_template(struct config_reader *r, const json_t *value)
{
    free(r->config.cpu_template);
    r->config.cpu_template = NULL;
    if (json_is_array(value))
        return config_reader_list(r, value, read_hidden);
    if (!json_is_string(value))
        return config_reader_must_be(r, "a string or a list");
    if (strcmp(json_string_value(value), "none") == 0)
        return 0;
    return config_reader_string(r, value, &r->config.cpu_template);
}

static int read_mem_bytes(struct config_reader *r, const json_t *value)
{
    return config_reader_number(
        r, value, GMEM_SIZE_MIN, GMEM_SIZE_MAX, &r->mem_bytes);
}

static int read_spore(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"agent", read_agent},
        {"exit_port", read_exit_port},
        {"discovery", read_discovery},
        {"mem_bytes", read_mem_bytes},
        {"virtio_console", read_vconsole},
        {"vsock", read_has_vsock},
        {"cpu_template", read_cpu_template},
    };

    return config_reader_object(r, value, keys, ARRAY_SIZE(keys));
}

/*
 * spore.mem_bytes says what whole MiB cannot. Next to it, mem_size_mib is the
 * same size rounded up, as config_to_json writes it.
 */
static int settle_memory(struct config_reader *r)
{
    if (r->mem_bytes == 0)
        return 0;
    if (r->has_mem_mib &&
        num_align_up(r->mem_bytes, NUM_MIB) != r->config.mem_bytes)
        return err_set(r->err, EINVAL,
            "spore.mem_bytes: contradicts machine-config.mem_size_mib");
    r->config.mem_bytes = r->mem_bytes;
    return 0;
}

static int read_root(struct config_reader *r, const json_t *root)
{
    static const struct config_key keys[] = {
        {"boot-source", read_boot_source},
        {"drives", config_json_read_drives},
        {"network-interfaces", config_json_read_nets},
        {"machine-config", read_machine},
        {"vsock", read_vsock},
        {"entropy", config_json_read_entropy},
        {"balloon", config_json_read_balloon},
        {"spore", read_spore},
        {"pmem", config_json_read_pmems},
        {"logger", config_reader_no_settings},
        {"metrics", config_reader_no_settings},
        {"mmds-config", config_json_read_mmds},
        {"cpu-config", config_reader_no_settings},
        {"serial", config_reader_no_settings},
        {"memory-hotplug", config_reader_no_device},
    };
    int rc = config_reader_object(r, root, keys, ARRAY_SIZE(keys));

    if (rc == 0)
        rc = settle_memory(r);
    if (rc == 0)
        rc = config_json_settle_mmds(r);
    if (rc == 0)
        rc = config_check(&r->config, r->err);
    return rc;
}

int config_load_json(struct config *config, const char *json, size_t len,
    const char *name, struct err *err)
{
    struct config_reader *r;
    json_error_t error;
    int rc;

    if (len > CONFIG_FILE_MAX)
        return err_set(err, EFBIG, "%s: larger than %llu bytes", name,
            (unsigned long long)CONFIG_FILE_MAX);
    CC_CLEANUP(json_freep)
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return err_set(err, EINVAL, "%s: line %d, column %d: %s", name,
            error.line, error.column, error.text);
    r = calloc(1, sizeof(*r));
    if (r == NULL)
        return err_sys(err, ENOMEM, "%s", name);
    r->config = *config;
    r->err = err;
    rc = read_root(r, root);
    *config = r->config;
    free(r);
    return rc < 0 ? err_wrap(err, rc, "%s", name) : 0;
}

int config_load_file(struct config *config, const char *path, struct err *err)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int rc = fd_read_file(path, CONFIG_FILE_MAX, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = config_load_json(config, (const char *)data, size, path, err);
    free(data);
    return rc;
}
