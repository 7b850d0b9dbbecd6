/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON of container images, by the first byte: index, manifest,
 * configuration, docker save's manifest. What is accepted is within bounds.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/serve/oci_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void check_manifest(struct oci_manifest *m)
{
    require(m->layer_count <= OCI_LAYERS_MAX && m->config != NULL);
    require(m->config_hex[0] == '\0' || digest_is_hex(m->config_hex));
    for (size_t i = 0; i < m->layer_count; i++) {
        require(m->layers[i].name != NULL &&
                strlen(m->layers[i].name) <= OCI_NAME_MAX);
        require(m->layers[i].hex[0] == '\0' || digest_is_hex(m->layers[i].hex));
    }
    oci_manifest_fini(m);
}

static void check_config(struct oci_config *c)
{
    size_t words = 0;

    while (c->command.argv != NULL && c->command.argv[words] != NULL)
        words++;
    require(words <= OCI_ARGS_MAX && c->diff_id_count <= OCI_LAYERS_MAX);
    for (size_t i = 0; c->command.env != NULL && c->command.env[i] != NULL; i++)
        require(strchr(c->command.env[i], '=') > c->command.env[i]);
    require(c->command.cwd == NULL || c->command.cwd[0] == '/');
    require(c->command.user == NULL || c->command.user[0] != '\0');
    for (size_t i = 0; i < c->diff_id_count; i++)
        require(digest_is_hex(c->diff_ids[i]));
    oci_config_fini(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    struct oci_manifest manifest;
    struct oci_config config;
    struct oci_ref ref;
    struct err err = {.text = "x"};

    if (size == 0)
        return 0;
    size--;
    switch (data[0] & 3) {
    case 0:
        if (oci_json_read_index(text, size, &ref, &err) == 0)
            require(digest_is_hex(ref.hex));
        break;
    case 1:
        if (oci_json_read_manifest(text, size, &manifest, &err) == 0)
            check_manifest(&manifest);
        break;
    case 2:
        if (oci_json_read_config(text, size, &config, &err) == 0)
            check_config(&config);
        break;
    default:
        if (oci_json_read_docker(text, size, &manifest, &err) == 0)
            check_manifest(&manifest);
        break;
    }
    require(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
    return 0;
}
