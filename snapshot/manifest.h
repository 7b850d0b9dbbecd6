/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.json of a snapshot: what people and `spore snapshot ls` want to
 * know. Nothing that a restore needs is only here. What manifest_decode is
 * given is hostile. Thread rule: pure functions.
 */
#ifndef SNAPSHOT_MANIFEST_H
#define SNAPSHOT_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/id.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define MANIFEST_FILE_NAME "manifest.json"
#define MANIFEST_VERSION   1
#define MANIFEST_SIZE_MAX  ((size_t)64 << 10)
#define MANIFEST_TEXT_MAX  255

struct manifest {
    struct snapshot_id id;
    struct snapshot_id parent;           /* all zero: none, a full snapshot */
    char name[SNAPSHOT_NAME_MAX + 1];    /* empty: none */
    char monitor[MANIFEST_TEXT_MAX + 1]; /* "spore 0.1.0" */
    char kernel[MANIFEST_TEXT_MAX + 1];  /* its path at the boot */
    uint64_t created; /* seconds since the epoch, UTC; below 2^53 */
    uint32_t vcpus;
    uint64_t pages;       /* of RAM */
    uint64_t data_pages;  /* of them not zero */
    uint64_t own_pages;   /* of those in this snapshot's own image */
    uint64_t state_bytes; /* of device and vCPU state */
};

/* The text, with a newline at its end; the caller frees *ret_text. */
CC_MUST_CHECK int manifest_encode(
    const struct manifest *manifest, char **ret_text, struct err *err);

/* -EBADMSG says which key is wrong, -ENOTSUP a version of the future. */
CC_MUST_CHECK int manifest_decode(const char *text, size_t size,
    struct manifest *ret_manifest, struct err *err);

#endif
