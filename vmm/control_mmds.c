/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service: how it is configured, and its data.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config_text.h"
#include "vmm/control.h"
#include "vmm/control_api.h"
#include "vmm/control_config.h"
#include "vmm/mmds_text.h"

/* The third M is the contract's. */
#define CONFIG_ERROR "MMMDS config error"
#define MMDS_ERROR   "MMDS error"
#define LIMIT_ERROR  "MMDS limit exceeded error"

#define TOO_LARGE_STATUS 413

static bool is_ipv4(const char *text)
{
    uint32_t address;

    return config_parse_ipv4(text, &address, NULL) == 0;
}

static const char *const versions[] = {"V1", "V2", NULL};

const struct schema_field control_mmds_fields[] = {
    {.name = "version",
        .type = SCHEMA_ENUM,
        .not_null = true,
        .variants = versions},
    {.name = "network_interfaces", .type = SCHEMA_LIST, .required = true},
    {.name = "ipv4_address",
        .type = SCHEMA_CUSTOM,
        .name_of = "invalid IPv4 address syntax",
        .expected = "IPv4 address",
        .is_good = is_ipv4},
    {.name = "imds_compat", .type = SCHEMA_BOOL, .not_null = true},
    SCHEMA_END("MmdsConfig"),
};

static int take_interfaces(
    struct config *config, const json_t *ids, struct err *err)
{
    size_t i;
    json_t *id;

    for (uint32_t n = 0; n < config->net_count; n++)
        config->nets[n].has_mmds = false;
    json_array_foreach(ids, i, id)
    {
        uint32_t n = 0;

        while (n < config->net_count &&
               strcmp(config->nets[n].id, json_string_value(id)) != 0)
            n++;
        if (n == config->net_count)
            return err_set(err, EINVAL,
                "The list of network interface IDs provided contains at least "
                "one ID that does not correspond to any existing network "
                "interface.");
        config->nets[n].has_mmds = true;
    }
    return 0;
}

static int take_config(
    struct config *config, const json_t *body, struct err *err)
{
    const json_t *ids = json_object_get(body, "network_interfaces");
    const char *version = schema_string(body, "version");
    const char *address = schema_string(body, "ipv4_address");
    struct config_mmds mmds = {.address = CONFIG_MMDS_ADDRESS,
        .is_v2 = version != NULL && strcmp(version, "V2") == 0,
        .imds_compat = schema_bool(body, "imds_compat", false)};
    int rc = 0;

    if (address != NULL)
        rc = config_parse_ipv4(address, &mmds.address, err);
    if (rc < 0)
        return rc;
    if (!config_is_link_local(mmds.address))
        return err_set(err, EINVAL, "The MMDS IPv4 address is not link local.");
    if (json_array_size(ids) == 0)
        return err_set(err, EINVAL,
            "The list of network interface IDs that allow forwarding MMDS "
            "requests is empty.");
    config->mmds = mmds;
    return take_interfaces(config, ids, err);
}

int control_mmds_config_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    const char *version = schema_string(call->body, "version");
    struct config copy;
    int rc;

    call->is_deprecated = version == NULL || strcmp(version, "V1") == 0;
    rc = control_config_begin(c, &copy, &call->err);
    if (rc < 0)
        return rc;
    rc = take_config(&copy, call->body, &call->err);
    if (rc < 0)
        control_config_abort(&copy);
    else
        rc = control_config_commit(c, &copy, RUN_GIVEN_NET, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, CONFIG_ERROR) : 0;
}

/* A machine that runs has data only if it has the service. */
static int check_service(const struct control *c, struct err *err)
{
    if (control_api_phase(c) == ROUTER_BEFORE ||
        config_has_mmds(c->inst->config))
        return 0;
    return err_set(
        err, ENODATA, MMDS_ERROR ": The MMDS data store is not initialized.");
}

int control_mmds_get(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    json_t *data = c->inst->mmds.data;
    size_t len;
    int rc = check_service(c, &call->err);

    if (rc < 0)
        return rc;
    if (data == NULL || json_is_null(data))
        return control_api_reply(call, json_object());
    rc = mmds_text_json(data, &call->json, &len);
    return rc < 0 ? err_sys(&call->err, rc, MMDS_ERROR) : 0;
}

static int refuse(struct router_call *call, int rc)
{
    if (rc != -E2BIG)
        return err_wrap(&call->err, rc, MMDS_ERROR);
    call->fault_status = TOO_LARGE_STATUS;
    return err_wrap(&call->err, rc, LIMIT_ERROR);
}

int control_mmds_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    int rc = check_service(c, &call->err);

    if (rc < 0)
        return rc;
    rc = mmds_put(&c->inst->mmds, call->body, &call->err);
    return rc < 0 ? refuse(call, rc) : 0;
}

int control_mmds_patch(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    int rc = check_service(c, &call->err);

    if (rc < 0)
        return rc;
    rc = mmds_patch(&c->inst->mmds, call->body, &call->err);
    return rc < 0 ? refuse(call, rc) : 0;
}
