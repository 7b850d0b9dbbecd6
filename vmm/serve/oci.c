/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/oci.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/serve/digest.h"
#include "vmm/serve/oci_json.h"
#include "vmm/serve/rootfs_layer.h"
#include "vmm/serve/rootfs_pack.h"
#include "vmm/serve/rootfs_tree.h"

/* Indexes that lead to indexes. */
#define DEPTH_MAX 4

#define INDEX  "index.json"
#define DOCKER "manifest.json"

struct image {
    const struct oci_blobs *blobs;
    const struct interrupt *interrupt;
    struct oci_manifest manifest;
    struct oci_config config;
    struct rootfs_tree tree;
};

bool oci_is_image(const struct oci_blobs *blobs)
{
    return oci_blobs_have(blobs, INDEX) || oci_blobs_have(blobs, DOCKER);
}

static int check_digest(
    const char *name, const char *is, const char *must_be, struct err *err)
{
    if (must_be[0] == '\0' || strcmp(is, must_be) == 0)
        return 0;
    return err_set(err, EBADMSG,
        "damaged: the digest of %.100s is %.12s... and must be %.12s...", name,
        is, must_be);
}

/* A small one; `hex` is its digest, or empty. */
static int read_blob(const struct image *image, const char *name,
    const char *hex, char **ret_text, size_t *ret_size, struct err *err)
{
    char is[DIGEST_HEX_SIZE];
    struct digest d;
    int rc = oci_blobs_read(
        image->blobs, name, OCI_JSON_MAX, ret_text, ret_size, err);

    if (rc < 0)
        return rc;
    digest_init(&d);
    digest_add(&d, *ret_text, *ret_size);
    digest_take(&d, is);
    rc = check_digest(name, is, hex, err);
    if (rc < 0)
        free(*ret_text);
    return rc;
}

/* ---- what there is ------------------------------------------------------- */

static int find_manifest(struct image *image, struct err *err)
{
    struct oci_ref ref = {.is_index = true};
    char name[sizeof("blobs/sha256/") + DIGEST_HEX_SIZE] = INDEX;
    int rc = 0;

    for (int depth = 0; rc == 0 && ref.is_index; depth++) {
        char *text;
        size_t size;

        if (depth == DEPTH_MAX)
            return err_set(err, ELOOP, "damaged: too many indexes");
        rc = read_blob(image, name, ref.hex, &text, &size, err);
        if (rc < 0)
            return rc;
        rc = oci_json_read_index(text, size, &ref, err);
        free(text);
        (void)snprintf(name, sizeof(name), "blobs/sha256/%s", ref.hex);
    }
    if (rc == 0) {
        char *text;
        size_t size;

        rc = read_blob(image, name, ref.hex, &text, &size, err);
        if (rc < 0)
            return rc;
        rc = oci_json_read_manifest(text, size, &image->manifest, err);
        free(text);
    }
    return rc;
}

static int find_docker_manifest(struct image *image, struct err *err)
{
    char *text;
    size_t size;
    int rc = read_blob(image, DOCKER, "", &text, &size, err);

    if (rc < 0)
        return rc;
    rc = oci_json_read_docker(text, size, &image->manifest, err);
    free(text);
    return rc;
}

static int find_config(struct image *image, struct err *err)
{
    const struct oci_manifest *m = &image->manifest;
    char *text;
    size_t size;
    int rc = read_blob(image, m->config, m->config_hex, &text, &size, err);

    if (rc < 0)
        return rc;
    rc = oci_json_read_config(text, size, &image->config, err);
    free(text);
    if (rc == 0 && image->config.diff_id_count != m->layer_count)
        rc =
            err_set(err, EBADMSG, "damaged: it has %zu layers and %zu diff_ids",
                m->layer_count, image->config.diff_id_count);
    return rc;
}

/* ---- layers -------------------------------------------------------------- */

/* All of them, into the tree, or with `pack` into the image. */
static int read_layer(struct image *image, size_t i, uint64_t *budget,
    struct rootfs_pack *pack, struct err *err)
{
    const struct oci_layer *about = &image->manifest.layers[i];
    CC_CLEANUP(fd_closep) int fd = -1;
    char unpacked[DIGEST_HEX_SIZE];
    char file[DIGEST_HEX_SIZE];
    struct rootfs_layer *layer = NULL;
    int rc = oci_blobs_open(image->blobs, about->name, &fd, err);

    if (rc == 0)
        rc = rootfs_layer_open(fd, image->interrupt, budget, &layer, err);
    if (rc < 0)
        return rc;
    rc = pack == NULL ? rootfs_layer_merge(layer, &image->tree, err)
                      : rootfs_pack_layer(pack, layer, err);
    if (rc == 0)
        rc = rootfs_layer_digests(layer, file, unpacked, err);
    rootfs_layer_close(layer);
    if (rc == 0)
        rc = check_digest(about->name, file, about->hex, err);
    if (rc == 0)
        rc =
            check_digest(about->name, unpacked, image->config.diff_ids[i], err);
    return rc;
}

static int read_layers(
    struct image *image, struct rootfs_pack *pack, struct err *err)
{
    uint64_t budget = ROOTFS_LAYER_BYTES_MAX;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < image->manifest.layer_count; i++) {
        rc = read_layer(image, i, &budget, pack, err);
        if (rc < 0)
            rc = err_wrap(err, rc, "layer %zu", i + 1);
    }
    return rc;
}

static int make(struct image *image, const char *path, struct err *err)
{
    struct rootfs_pack *pack = NULL;
    int rc = rootfs_tree_init(&image->tree, true, err);

    if (rc == 0)
        rc = read_layers(image, NULL, err);
    if (rc == 0)
        rc =
            rootfs_pack_begin(path, &image->tree, image->interrupt, &pack, err);
    if (rc < 0)
        return rc;
    rc = read_layers(image, pack, err);
    if (rc == 0)
        rc = rootfs_pack_end(pack, err);
    else
        rootfs_pack_abandon(pack);
    return rc;
}

int oci_make(const struct oci_blobs *blobs, const char *path,
    const struct interrupt *interrupt, struct rootfs_command *ret_command,
    struct err *err)
{
    struct image image = {.blobs = blobs, .interrupt = interrupt};
    int rc = oci_blobs_have(blobs, INDEX) ? find_manifest(&image, err)
                                          : find_docker_manifest(&image, err);

    if (rc == 0)
        rc = find_config(&image, err);
    if (rc == 0)
        rc = make(&image, path, err);
    if (rc == 0) {
        *ret_command = image.config.command;
        image.config.command = (struct rootfs_command){0};
    }
    rootfs_tree_fini(&image.tree);
    oci_manifest_fini(&image.manifest);
    oci_config_fini(&image.config);
    return rc;
}
