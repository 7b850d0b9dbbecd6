/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_describe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/capture.h"
#include "snapshot/frozen_file.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/config_paths.h"
#include "vmm/hw/cpuid_check.h"
#include "vmm/machine.h"

void machine_host_id(uint8_t ret_id[HOST_ID_BYTES])
{
    char text[37] = {0};
    unsigned int digits = 0;
    CC_CLEANUP(fd_closep)
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    memset(ret_id, 0, HOST_ID_BYTES);
    if (fd < 0 || fd_read_full(fd, text, sizeof(text) - 1) < 36)
        return;
    for (size_t i = 0; text[i] != '\0' && digits < 2 * HOST_ID_BYTES; i++) {
        const char *hex = "0123456789abcdef";
        const char *at = strchr(hex, text[i]);

        if (at == NULL)
            continue;
        ret_id[digits / 2] = (uint8_t)(ret_id[digits / 2] << 4 | (at - hex));
        digits++;
    }
}

/* Who restores it has another working folder and other descriptors. */
void machine_describe_init(
    struct machine_description *d, const struct config *config)
{
    *d = (struct machine_description){.is_noted = true};
    machine_host_id(d->host_id);
    d->rc = config_copy(config, &d->config, &d->err);
    if (d->rc < 0)
        return;
    d->rc = config_paths_settle(&d->config, &d->err);
    if (d->rc < 0)
        config_fini(&d->config);
}

void machine_describe_fini(struct machine_description *d)
{
    if (d->is_noted && d->rc == 0)
        config_fini(&d->config);
    d->is_noted = false;
}

static int store_config(
    const struct machine *m, struct state_writer *state, struct err *err)
{
    const struct machine_description *d = &m->description;
    char *json = NULL;
    int rc = d->rc < 0 ? err_set(err, -d->rc, "%s", d->err.text)
                       : config_to_json(&d->config, &json, err);

    if (rc < 0)
        return rc;
    rc = state_writer_add(state, MACHINE_SECTION, MACHINE_SECTION_VERSION,
        STATE_SECTION_REQUIRED, json, strlen(json), err);
    free(json);
    if (rc == 0)
        rc = state_writer_add(state, HOST_SECTION, HOST_SECTION_VERSION, 0,
            d->host_id, sizeof(d->host_id), err);
    return rc;
}

static int store_cpuid(
    struct machine *m, struct state_writer *state, struct err *err)
{
    uint8_t *data = malloc(CPUID_WIRE_MAX);
    struct bytes_writer out;
    struct cpuid seen = {0};
    int rc;

    if (data == NULL)
        return err_sys(err, ENOMEM, "CPUID table");
    bytes_writer_init(&out, data, CPUID_WIRE_MAX);
    rc = cpuid_copy(&m->cpuid, &seen, err);
    if (rc == 0) {
        cpuid_see(&seen, &m->host.kvm->features);
        cpuid_encode(&seen, &out);
        rc = state_writer_add(state, CPUID_SECTION, CPUID_WIRE_VERSION,
            STATE_SECTION_REQUIRED, data, out.pos, err);
    }
    cpuid_fini(&seen);
    free(data);
    return rc;
}

static int store_about(
    const struct machine *m, struct state_writer *state, struct err *err)
{
    struct capture_about about = {.vcpus = m->config->vcpus};

    (void)snprintf(about.kernel, sizeof(about.kernel), "%s",
        m->config->kernel != NULL ? m->config->kernel : "");
    return capture_add_about(state, &about, err);
}

int machine_describe_store(struct machine *m, const struct frozen *frozen,
    const struct disks *disks, struct state_writer *state, struct err *err)
{
    const struct parts parts = machine_parts(m);
    int rc = frozen_store(frozen, &parts, state, err);

    if (rc == 0 && disks->count > 0)
        rc = disks_store(disks, state, err);
    if (rc == 0)
        rc = store_config(m, state, err);
    if (rc == 0)
        rc = store_cpuid(m, state, err);
    return rc < 0 ? rc : store_about(m, state, err);
}
