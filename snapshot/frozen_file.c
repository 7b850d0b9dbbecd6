/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/frozen_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/bytes.h"
#include "vmm/hw/vcpu_state_wire.h"

#define CLOCK_SECTION "clock"
#define NAME_SIZE     (STATE_SECTION_NAME_MAX + 1)

static void name_vcpu(uint32_t i, char ret_name[NAME_SIZE])
{
    (void)snprintf(ret_name, NAME_SIZE, "vcpu.%u", i);
}

static void name_device(
    const struct parts *p, uint32_t i, char ret_name[NAME_SIZE])
{
    (void)snprintf(ret_name, NAME_SIZE, "device.%u.%s", i,
        p->devices[i]->ops->state->name);
}

static int store_clock(
    const struct frozen *f, struct state_writer *w, struct err *err)
{
    uint8_t bytes[VM_CLOCK_WIRE_SIZE];
    struct bytes_writer out;

    bytes_writer_init(&out, bytes, sizeof(bytes));
    vm_clock_encode(&f->clock, &out);
    return state_writer_add(w, CLOCK_SECTION, VM_CLOCK_WIRE_VERSION,
        STATE_SECTION_REQUIRED, bytes, out.pos, err);
}

static int store_vcpus(
    const struct frozen *f, struct state_writer *w, struct err *err)
{
    uint8_t *bytes = malloc(VCPU_STATE_WIRE_MAX);
    int rc = 0;

    if (bytes == NULL)
        return err_sys(err, ENOMEM, "the state of a vCPU");
    for (uint32_t i = 0; i < f->vcpu_count && rc == 0; i++) {
        struct bytes_writer out;
        char name[NAME_SIZE];

        bytes_writer_init(&out, bytes, VCPU_STATE_WIRE_MAX);
        vcpu_state_encode(&f->vcpus[i], &out);
        name_vcpu(i, name);
        rc = state_writer_add(w, name, VCPU_STATE_WIRE_VERSION,
            STATE_SECTION_REQUIRED, bytes, out.pos, err);
    }
    free(bytes);
    return rc;
}

int frozen_store(const struct frozen *f, const struct parts *p,
    struct state_writer *w, struct err *err)
{
    int rc = store_clock(f, w, err);

    if (rc == 0)
        rc = store_vcpus(f, w, err);
    for (uint32_t i = 0; i < p->device_count && rc == 0; i++) {
        char name[NAME_SIZE];

        if (p->devices[i]->ops->state == NULL)
            continue;
        name_device(p, i, name);
        rc = state_writer_add_table(
            w, name, p->devices[i]->ops->state, frozen_device(f, p, i), err);
    }
    return rc;
}

static int load_clock(
    struct state_file *file, struct frozen *f, struct err *err)
{
    const struct state_section *section;
    struct bytes_reader in;
    int rc = state_file_require(
        file, CLOCK_SECTION, VM_CLOCK_WIRE_VERSION, &section, err);

    if (rc < 0)
        return rc;
    bytes_reader_init(&in, section->data, section->size);
    return vm_clock_decode(&in, &f->clock, err);
}

static int load_vcpu(
    struct state_file *file, uint32_t i, struct frozen *f, struct err *err)
{
    const struct state_section *section;
    struct bytes_reader in;
    char name[NAME_SIZE];
    int rc;

    name_vcpu(i, name);
    rc = state_file_require(file, name, VCPU_STATE_WIRE_VERSION, &section, err);
    if (rc < 0)
        return rc;
    bytes_reader_init(&in, section->data, section->size);
    rc = vcpu_state_decode(&in, &f->vcpus[i], err);
    if (rc == 0 && f->vcpus[i].parts != VCPU_STATE_ALL)
        rc = err_set(err, EBADMSG, "parts are missing");
    return rc < 0 ? err_wrap(err, rc, "state of vCPU %u", i) : 0;
}

int frozen_load(struct state_file *file, const struct parts *p,
    struct frozen *ret_frozen, struct err *err)
{
    struct frozen f;
    int rc = frozen_init(&f, p, err);

    if (rc < 0)
        return rc;
    rc = load_clock(file, &f, err);
    for (uint32_t i = 0; i < p->vcpu_count && rc == 0; i++)
        rc = load_vcpu(file, i, &f, err);
    for (uint32_t i = 0; i < p->device_count && rc == 0; i++) {
        char name[NAME_SIZE];

        if (p->devices[i]->ops->state == NULL)
            continue;
        name_device(p, i, name);
        rc = state_file_load_table(file, name, p->devices[i]->ops->state,
            frozen_device(&f, p, i), err);
    }
    if (rc < 0) {
        frozen_fini(&f);
        return rc;
    }
    *ret_frozen = f;
    return 0;
}
