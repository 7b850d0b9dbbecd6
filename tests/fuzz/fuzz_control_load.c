/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of /snapshot/load and /snapshot/create: what is let through names a
 * snapshot in a store, and describes devices that config_check accepts.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/control.h"
#include "vmm/control_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static int load(void *opaque, struct control_load *load, struct err *err)
{
    bool *loaded = opaque;

    require(load->store != NULL && load->store[0] != '\0');
    require(load->name != NULL && load->name[0] != '\0');
    require(strchr(load->name, '/') == NULL);
    require(config_check(&load->config, err) == 0);
    *loaded = true;
    /* One in two is taken over, as a real host does. */
    if (strlen(load->name) % 2 == 0)
        return err_set(err, ENOENT, "no such snapshot");
    control_load_fini(load);
    return 0;
}

static void try_load(const char *body, size_t size)
{
    char text[SCHEMA_TEXT_MAX];
    bool loaded = false;
    const struct control_host host = {.load = load, .opaque = &loaded};
    struct instance inst = INSTANCE_NONE;
    struct control control = {.inst = &inst, .host = &host};
    struct router_call call = {
        .body = schema_parse(body, size, control_load_fields, text)};
    int rc;

    if (call.body == NULL)
        return;
    rc = control_snapshot_load(&control, &call);
    require(rc == 0 ? loaded : call.err.text[0] != '\0');
    require(control.router.phase == ROUTER_BEFORE);
    json_decref(call.body);
}

static void try_create(const char *body, size_t size)
{
    char text[SCHEMA_TEXT_MAX];
    json_t *json = schema_parse(body, size, control_create_fields, text);
    const char *path;
    char *store;
    char *name;
    struct err err;

    if (json == NULL)
        return;
    path = schema_string(json, "snapshot_path");
    (void)!control_check_mem_path(
        schema_string(json, "mem_file_path"), path, &err);
    if (control_split_snapshot(path, &store, &name, &err) == 0) {
        require(store[0] != '\0' && name[0] != '\0');
        require(strchr(name, '/') == NULL);
        free(store);
        free(name);
    }
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > HTTP_SERVER_BODY_MAX)
        return 0;
    try_load((const char *)data, size);
    try_create((const char *)data, size);
    return 0;
}
