/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine description as JSON. Types and keys are checked here, values
 * and what must fit together by config_check.
 */
#include "vmm/config.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/core/gmem.h"

struct reader {
    struct config config;      /* what was before, with what the file has */
    struct config_drive drive; /* the one being read */
    bool has_root_key;
    bool has_mem_mib;
    uint64_t mem_bytes; /* spore.mem_bytes, 0: not given */
    struct err *err;
};

/* Reads the value of one key. */
struct key {
    const char *name;
    int (*read)(struct reader *r, const json_t *value);
    bool is_nested; /* its errors name the key already */
};

static void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

static int must_be(struct reader *r, const char *what)
{
    return err_set(r->err, EINVAL, "must be %s", what);
}

static int unsupported(struct reader *r)
{
    return err_set(r->err, ENOTSUP, "not supported yet");
}

/*
 * Reads the members of `object` by the table. `prefix` stands in front of
 * every key in errors ("machine-config." or ""). null stands for a key that
 * is not there, as in what Firecracker prints.
 */
static int read_members(struct reader *r, const json_t *object,
    const char *prefix, const struct key *keys, size_t key_count)
{
    /* jansson iterates over objects that may be changed only. */
    json_t *members = (json_t *)(uintptr_t)object;
    const char *name;
    json_t *value;

    json_object_foreach(members, name, value)
    {
        const struct key *key = NULL;
        int rc;

        for (size_t i = 0; i < key_count && key == NULL; i++) {
            if (strcmp(keys[i].name, name) == 0)
                key = &keys[i];
        }
        if (key == NULL)
            return err_set(
                r->err, EINVAL, "%s%.64s: unknown key", prefix, name);
        if (json_is_null(value))
            continue;
        rc = key->read(r, value);
        if (rc < 0 && !key->is_nested)
            rc = err_wrap(r->err, rc, "%s%s", prefix, name);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Reads an object that is the value of the key `path`. */
static int read_section(struct reader *r, const json_t *value, const char *path,
    const struct key *keys, size_t key_count)
{
    char prefix[32];
    int len = snprintf(prefix, sizeof(prefix), "%s.", path);

    assert(len > 0 && (size_t)len < sizeof(prefix));
    if (!json_is_object(value))
        return err_set(r->err, EINVAL, "%s: must be an object", path);
    return read_members(r, value, prefix, keys, key_count);
}

static int read_string(struct reader *r, const json_t *value, char **ret_text)
{
    char *text;

    if (!json_is_string(value))
        return must_be(r, "a string");
    text = strdup(json_string_value(value));
    if (text == NULL)
        return err_sys(r->err, ENOMEM, "string");
    free(*ret_text);
    *ret_text = text;
    return 0;
}

static int read_bool(struct reader *r, const json_t *value, bool *ret_flag)
{
    if (!json_is_boolean(value))
        return must_be(r, "true or false");
    *ret_flag = json_is_true(value);
    return 0;
}

static int read_number(struct reader *r, const json_t *value, uint64_t min,
    uint64_t max, uint64_t *ret_number)
{
    json_int_t number;

    if (!json_is_integer(value))
        return must_be(r, "a whole number");
    number = json_integer_value(value);
    if (number < 0 || (uint64_t)number < min || (uint64_t)number > max)
        return err_set(r->err, ERANGE, "%lld is not within %llu to %llu",
            (long long)number, (unsigned long long)min,
            (unsigned long long)max);
    *ret_number = (uint64_t)number;
    return 0;
}

/* Keys that are known but not served: fine as long as they ask for nothing. */
static int read_no_flag(struct reader *r, const json_t *value)
{
    bool flag = false;
    int rc = read_bool(r, value, &flag);

    if (rc < 0)
        return rc;
    return flag ? unsupported(r) : 0;
}

static int read_no_choice(struct reader *r, const json_t *value)
{
    if (!json_is_string(value))
        return must_be(r, "a string");
    return strcmp(json_string_value(value), "None") == 0 ? 0 : unsupported(r);
}

static int read_no_string(struct reader *r, const json_t *value)
{
    return json_is_string(value) ? unsupported(r) : must_be(r, "a string");
}

static int read_no_list(struct reader *r, const json_t *value)
{
    if (!json_is_array(value))
        return must_be(r, "a list");
    return json_array_size(value) == 0 ? 0 : unsupported(r);
}

static int read_no_settings(struct reader *r, const json_t *value)
{
    if (!json_is_object(value))
        return must_be(r, "an object");
    return json_object_size(value) == 0 ? 0 : unsupported(r);
}

/* A device is asked for by its key alone, even if that is an empty object. */
static int read_no_device(struct reader *r, const json_t *value)
{
    return json_is_object(value) ? unsupported(r) : must_be(r, "an object");
}

static int read_kernel(struct reader *r, const json_t *value)
{
    return read_string(r, value, &r->config.kernel);
}

static int read_initrd(struct reader *r, const json_t *value)
{
    return read_string(r, value, &r->config.initrd);
}

static int read_boot_args(struct reader *r, const json_t *value)
{
    return read_string(r, value, &r->config.boot_args);
}

static int read_boot_source(struct reader *r, const json_t *value)
{
    static const struct key keys[] = {
        {"kernel_image_path", read_kernel, false},
        {"boot_args", read_boot_args, false},
        {"initrd_path", read_initrd, false},
    };

    return read_section(r, value, "boot-source", keys, ARRAY_SIZE(keys));
}

static int read_drive_id(struct reader *r, const json_t *value)
{
    return read_string(r, value, &r->drive.id);
}

static int read_drive_path(struct reader *r, const json_t *value)
{
    return read_string(r, value, &r->drive.path);
}

static int read_drive_root(struct reader *r, const json_t *value)
{
    r->has_root_key = true;
    return read_bool(r, value, &r->drive.is_root);
}

static int read_drive_read_only(struct reader *r, const json_t *value)
{
    return read_bool(r, value, &r->drive.is_read_only);
}

/* Index of the string in the list, or an error that shows both choices. */
static int read_choice(struct reader *r, const json_t *value,
    const char *const choices[2], unsigned int *ret_index)
{
    for (unsigned int i = 0; json_is_string(value) && i < 2; i++) {
        if (strcmp(json_string_value(value), choices[i]) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    return err_set(
        r->err, EINVAL, "must be \"%s\" or \"%s\"", choices[0], choices[1]);
}

static int read_drive_cache(struct reader *r, const json_t *value)
{
    static const char *const choices[2] = {"Unsafe", "Writeback"};
    unsigned int choice = 0;
    int rc = read_choice(r, value, choices, &choice);

    r->drive.is_writeback = choice == 1;
    return rc;
}

static int read_drive_engine(struct reader *r, const json_t *value)
{
    static const char *const choices[2] = {"Sync", "Async"};
    unsigned int choice = 0;
    int rc = read_choice(r, value, choices, &choice);

    r->drive.engine = choice == 0 ? CONFIG_IO_SYNC : CONFIG_IO_ASYNC;
    return rc;
}

static int read_drive(struct reader *r, const json_t *value, size_t index)
{
    static const struct key keys[] = {
        {"drive_id", read_drive_id, false},
        {"path_on_host", read_drive_path, false},
        {"is_root_device", read_drive_root, false},
        {"is_read_only", read_drive_read_only, false},
        {"partuuid", read_no_string, false},
        {"cache_type", read_drive_cache, false},
        {"io_engine", read_drive_engine, false},
        {"rate_limiter", read_no_settings, false},
        {"socket", read_no_string, false},
    };
    char path[32];
    int rc;

    (void)snprintf(path, sizeof(path), "drives[%zu]", index);
    rc = read_section(r, value, path, keys, ARRAY_SIZE(keys));
    if (rc < 0)
        return rc;
    if (r->drive.id == NULL)
        return err_set(r->err, EINVAL, "%s.drive_id: missing", path);
    if (r->drive.path == NULL)
        return err_set(r->err, EINVAL, "%s.path_on_host: missing", path);
    if (!r->has_root_key)
        return err_set(r->err, EINVAL, "%s.is_root_device: missing", path);
    rc = config_add_drive(&r->config, &r->drive, r->err);
    return rc < 0 ? err_wrap(r->err, rc, "drives") : 0;
}

/* The list of the file takes the place of the drives so far. */
static int read_drives(struct reader *r, const json_t *value)
{
    if (!json_is_array(value))
        return err_set(r->err, EINVAL, "drives: must be a list");
    config_clear_drives(&r->config);
    for (size_t i = 0; i < json_array_size(value); i++) {
        int rc;

        /* Unlike Firecracker's: flushes are dropped only when asked for. */
        r->drive = (struct config_drive){.is_writeback = true};
        r->has_root_key = false;
        rc = read_drive(r, json_array_get(value, i), i);
        free(r->drive.id);
        free(r->drive.path);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_vcpu_count(struct reader *r, const json_t *value)
{
    uint64_t count = 0;
    int rc = read_number(r, value, 1, CONFIG_VCPUS_MAX, &count);

    if (rc == 0)
        r->config.vcpus = (uint32_t)count;
    return rc;
}

static int read_mem_mib(struct reader *r, const json_t *value)
{
    uint64_t mib = 0;
    int rc = read_number(
        r, value, GMEM_SIZE_MIN / NUM_MIB, GMEM_SIZE_MAX / NUM_MIB, &mib);

    if (rc == 0) {
        r->config.mem_bytes = mib * NUM_MIB;
        r->has_mem_mib = true;
    }
    return rc;
}

static int read_machine(struct reader *r, const json_t *value)
{
    static const struct key keys[] = {
        {"vcpu_count", read_vcpu_count, false},
        {"mem_size_mib", read_mem_mib, false},
        {"smt", read_no_flag, false},
        {"cpu_template", read_no_choice, false},
        {"track_dirty_pages", read_no_flag, false},
        {"huge_pages", read_no_choice, false},
    };

    return read_section(r, value, "machine-config", keys, ARRAY_SIZE(keys));
}

static int read_guest_cid(struct reader *r, const json_t *value)
{
    uint64_t cid = 0;
    int rc = read_number(r, value, 3, UINT32_MAX - 1, &cid);

    if (rc == 0)
        r->config.guest_cid = (uint32_t)cid;
    return rc;
}

/* A name without effect, which Firecracker still takes. */
static int read_vsock_id(struct reader *r, const json_t *value)
{
    return json_is_string(value) ? 0 : must_be(r, "a string");
}

static int read_vsock_path(struct reader *r, const json_t *value)
{
    return read_string(r, value, &r->config.vsock_path);
}

static int read_vsock(struct reader *r, const json_t *value)
{
    static const struct key keys[] = {
        {"guest_cid", read_guest_cid, false},
        {"uds_path", read_vsock_path, false},
        {"vsock_id", read_vsock_id, false},
    };

    return read_section(r, value, "vsock", keys, ARRAY_SIZE(keys));
}

static int read_agent(struct reader *r, const json_t *value)
{
    return read_bool(r, value, &r->config.has_agent);
}

static int read_exit_port(struct reader *r, const json_t *value)
{
    return read_bool(r, value, &r->config.has_exit_port);
}

static int read_discovery(struct reader *r, const json_t *value)
{
    static const char *const choices[2] = {"acpi", "cmdline"};
    unsigned int choice = 0;
    int rc = read_choice(r, value, choices, &choice);

    r->config.discovery =
        choice == 0 ? CONFIG_DISCOVERY_ACPI : CONFIG_DISCOVERY_CMDLINE;
    return rc;
}

static int read_mem_bytes(struct reader *r, const json_t *value)
{
    return read_number(r, value, GMEM_SIZE_MIN, GMEM_SIZE_MAX, &r->mem_bytes);
}

static int read_spore(struct reader *r, const json_t *value)
{
    static const struct key keys[] = {
        {"agent", read_agent, false},
        {"exit_port", read_exit_port, false},
        {"discovery", read_discovery, false},
        {"mem_bytes", read_mem_bytes, false},
    };

    return read_section(r, value, "spore", keys, ARRAY_SIZE(keys));
}

/*
 * spore.mem_bytes says what whole MiB cannot. Next to it, mem_size_mib is the
 * same size rounded up, as config_to_json writes it.
 */
static int settle_memory(struct reader *r)
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

static int read_root(struct reader *r, const json_t *root)
{
    static const struct key keys[] = {
        {"boot-source", read_boot_source, true},
        {"drives", read_drives, true},
        {"machine-config", read_machine, true},
        {"vsock", read_vsock, true},
        {"spore", read_spore, true},
        {"network-interfaces", read_no_list, false},
        {"pmem", read_no_list, false},
        {"logger", read_no_settings, false},
        {"metrics", read_no_settings, false},
        {"mmds-config", read_no_settings, false},
        {"cpu-config", read_no_settings, false},
        {"serial", read_no_settings, false},
        {"balloon", read_no_device, false},
        {"entropy", read_no_device, false},
        {"memory-hotplug", read_no_device, false},
    };
    int rc;

    if (!json_is_object(root))
        return must_be(r, "an object");
    rc = read_members(r, root, "", keys, ARRAY_SIZE(keys));
    if (rc == 0)
        rc = settle_memory(r);
    if (rc == 0)
        rc = config_check(&r->config, r->err);
    return rc;
}

int config_load_json(struct config *config, const char *json, size_t len,
    const char *name, struct err *err)
{
    struct reader r = {.config = *config, .err = err};
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
    rc = read_root(&r, root);
    *config = r.config;
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

static json_t *pack_drive(const struct config_drive *drive, json_error_t *error)
{
    const char *engine = NULL;

    if (drive->engine == CONFIG_IO_SYNC)
        engine = "Sync";
    else if (drive->engine == CONFIG_IO_ASYNC)
        engine = "Async";
    return json_pack_ex(error, 0, "{s:s, s:s, s:b, s:b, s:s, s:s*}", "drive_id",
        drive->id, "path_on_host", drive->path, "is_root_device",
        (int)drive->is_root, "is_read_only", (int)drive->is_read_only,
        "cache_type", drive->is_writeback ? "Writeback" : "Unsafe", "io_engine",
        engine);
}

/* NULL with `error` filled, or without text if there was no memory. */
static json_t *pack_config(const struct config *config, json_error_t *error)
{
    uint64_t mib = num_div_up(config->mem_bytes, NUM_MIB);
    json_t *drives = json_array();
    json_t *exact = NULL;

    for (uint32_t i = 0; drives != NULL && i < config->drive_count; i++) {
        json_t *drive = pack_drive(&config->drives[i], error);

        if (drive == NULL || json_array_append_new(drives, drive) < 0) {
            json_decref(drives);
            return NULL;
        }
    }
    if (mib * NUM_MIB != config->mem_bytes)
        exact = json_integer((json_int_t)config->mem_bytes);
    /* "o" takes over its object even when packing fails. */
    return json_pack_ex(error, 0,
        "{s:{s:s*, s:s*, s:s*}, s:o, s:{s:I, s:I}, "
        "s:{s:I, s:s*}, s:{s:b, s:b, s:s, s:o*}}",
        "boot-source", "kernel_image_path", config->kernel, "boot_args",
        config->boot_args, "initrd_path", config->initrd, "drives", drives,
        "machine-config", "vcpu_count", (json_int_t)config->vcpus,
        "mem_size_mib", (json_int_t)mib, "vsock", "guest_cid",
        (json_int_t)config->guest_cid, "uds_path", config->vsock_path, "spore",
        "agent", (int)config->has_agent, "exit_port",
        (int)config->has_exit_port, "discovery",
        config->discovery == CONFIG_DISCOVERY_ACPI ? "acpi" : "cmdline",
        "mem_bytes", exact);
}

int config_to_json(
    const struct config *config, char **ret_json, struct err *err)
{
    CC_CLEANUP(json_freep) json_t *root = NULL;
    json_error_t error = {0};
    char *text;
    int rc = config_check(config, err);

    if (rc < 0)
        return rc;
    root = pack_config(config, &error);
    if (root == NULL && error.text[0] != '\0')
        return err_set(err, EILSEQ,
            "the description cannot be written as JSON: %s", error.text);
    if (root == NULL)
        return err_sys(err, ENOMEM, "description");
    text = json_dumps(root, JSON_INDENT(2));
    if (text == NULL)
        return err_sys(err, ENOMEM, "description");
    *ret_json = text;
    return 0;
}
