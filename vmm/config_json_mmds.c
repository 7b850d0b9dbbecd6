/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config_json_mmds.h"

#include <errno.h>
#include <string.h>

#include "vmm/config_text.h"

static int read_version(struct config_reader *r, const json_t *value)
{
    static const char *const versions[] = {"V1", "V2"};
    unsigned int i = 0;
    int rc = config_reader_choice(r, value, versions, 2, &i);

    r->config.mmds.is_v2 = i == 1;
    return rc;
}

static int read_interface(struct config_reader *r, const json_t *value)
{
    return json_is_string(value) ? 0 : config_reader_must_be(r, "a string");
}

static int read_interfaces(struct config_reader *r, const json_t *value)
{
    r->mmds_ids = value;
    return config_reader_list(r, value, read_interface);
}

static int read_address(struct config_reader *r, const json_t *value)
{
    if (!json_is_string(value) || config_parse_ipv4(json_string_value(value),
                                      &r->config.mmds.address, NULL) < 0)
        return config_reader_must_be(r, "an IPv4 address");
    return 0;
}

static int read_compat(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &r->config.mmds.imds_compat);
}

int config_json_read_mmds(struct config_reader *r, const json_t *value)
{
    static const struct config_key keys[] = {
        {"version", read_version},
        {"network_interfaces", read_interfaces},
        {"ipv4_address", read_address},
        {"imds_compat", read_compat},
    };
    int rc;

    r->config.mmds = (struct config_mmds){.address = CONFIG_MMDS_ADDRESS};
    rc = config_reader_object(r, value, keys, ARRAY_SIZE(keys));
    /* An empty section asks for nothing. */
    if (rc == 0 && r->mmds_ids == NULL && json_object_size(value) > 0)
        return config_reader_missing(r, "network_interfaces");
    return rc;
}

int config_json_settle_mmds(struct config_reader *r)
{
    size_t i;
    json_t *id;

    for (uint32_t n = 0; r->mmds_ids != NULL && n < r->config.net_count; n++)
        r->config.nets[n].has_mmds = false;
    json_array_foreach(r->mmds_ids, i, id)
    {
        const char *text = json_string_value(id);
        uint32_t n = 0;

        while (
            n < r->config.net_count && strcmp(r->config.nets[n].id, text) != 0)
            n++;
        if (n == r->config.net_count)
            return err_set(r->err, EINVAL,
                "mmds-config.network_interfaces[%zu]: no interface is called "
                "'%.64s'",
                i, text);
        r->config.nets[n].has_mmds = true;
    }
    return 0;
}
