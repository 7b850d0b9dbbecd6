/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON of container images: what is needed of OCI's index, manifest and
 * configuration (image-spec 1.1: image-index.md, manifest.md, config.md) and of
 * the manifest.json that docker save writes.
 *
 * Thread rule: pure functions. The texts are hostile: sizes and counts are
 * bounded, names are only what oci_blobs_open looks up.
 */
#ifndef VMM_SERVE_OCI_JSON_H
#define VMM_SERVE_OCI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/digest.h"
#include "vmm/serve/rootfs.h"

#define OCI_JSON_MAX   (4u << 20) /* bytes of one */
#define OCI_LAYERS_MAX 512u
#define OCI_ARGS_MAX   1024u /* words of a command, of an environment */
#define OCI_NAME_MAX   1023u

/* Something that is found by its digest. */
struct oci_ref {
    char hex[DIGEST_HEX_SIZE];
    bool is_index;
};

struct oci_layer {
    char *name;                /* of its blob */
    char hex[DIGEST_HEX_SIZE]; /* of the blob; empty: not known */
};

struct oci_manifest {
    char *config;                     /* name of its blob */
    char config_hex[DIGEST_HEX_SIZE]; /* empty: not known */
    struct oci_layer *layers;         /* the lowest first */
    size_t layer_count;
};

struct oci_config {
    struct rootfs_command command;
    char (*diff_ids)[DIGEST_HEX_SIZE]; /* of what layers unpack to */
    size_t diff_id_count;
};

/* What an index has for linux on amd64: -ENOENT if nothing. */
CC_MUST_CHECK int oci_json_read_index(
    const char *json, size_t size, struct oci_ref *ret_ref, struct err *err);

CC_MUST_CHECK int oci_json_read_manifest(const char *json, size_t size,
    struct oci_manifest *ret_manifest, struct err *err);

/* docker save's; of the one image that it has. */
CC_MUST_CHECK int oci_json_read_docker(const char *json, size_t size,
    struct oci_manifest *ret_manifest, struct err *err);

void oci_manifest_fini(struct oci_manifest *manifest);

/* -ENOTSUP for an image that is for another machine. */
CC_MUST_CHECK int oci_json_read_config(const char *json, size_t size,
    struct oci_config *ret_config, struct err *err);
void oci_config_fini(struct oci_config *config);

#endif
