/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a machine description from JSON values: what the files of
 * config_json* share.
 *
 * A reader owns the description that is being made and knows where in the
 * file it is, so that every error begins with the key that it is about.
 * Thread rule: one thread. The values are hostile; types and keys are checked
 * here, what they mean by config_check.
 */
#ifndef VMM_CONFIG_READER_H
#define VMM_CONFIG_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"

/* The longest path of known keys, with room to spare. */
#define CONFIG_READER_PATH_MAX 160u

struct config_reader {
    struct config config; /* what was before, with what the file has */
    struct err *err;
    char path[CONFIG_READER_PATH_MAX]; /* "drives[1].rate_limiter" */
    size_t path_len;

    /* The element of a list that is being read, and which keys it had. */
    struct config_drive drive;
    struct config_pmem pmem;
    struct config_net net;
    bool has_root_key;

    /* The limits, or the bucket of them, that are being read. */
    struct rate_config *limits;
    struct rate_bucket_config *bucket;
    bool has_size;
    bool has_refill;

    const json_t *mmds_ids; /* interfaces of the metadata service; or NULL */

    bool has_amount; /* of the balloon */
    bool has_deflate;
    bool has_mem_mib;
    uint64_t mem_bytes; /* spore.mem_bytes, 0: not given */
};

/* Reads the value of one key. */
struct config_key {
    const char *name;
    int (*read)(struct config_reader *r, const json_t *value);
};

/* err_set with the path in front. */
int config_reader_fail(struct config_reader *r, int code, const char *fmt, ...)
    CC_PRINTF(3, 4);

/* "PATH: must be WHAT". */
int config_reader_must_be(struct config_reader *r, const char *what);

/* "PATH.KEY: missing". */
int config_reader_missing(struct config_reader *r, const char *key);

/*
 * Reads the members of an object by the table. null stands for a key that is
 * not there, as in what Firecracker prints.
 */
CC_MUST_CHECK int config_reader_object(struct config_reader *r,
    const json_t *value, const struct config_key *keys, size_t key_count);

/* Reads a list element by element. */
CC_MUST_CHECK int config_reader_list(struct config_reader *r,
    const json_t *value, int (*read)(struct config_reader *, const json_t *));

/* Puts a copy in the place of *ret_text, which is freed. */
CC_MUST_CHECK int config_reader_string(
    struct config_reader *r, const json_t *value, char **ret_text);
CC_MUST_CHECK int config_reader_bool(
    struct config_reader *r, const json_t *value, bool *ret_flag);
CC_MUST_CHECK int config_reader_number(struct config_reader *r,
    const json_t *value, uint64_t min, uint64_t max, uint64_t *ret_number);

/* Index of the string among the choices, or an error that shows them all. */
CC_MUST_CHECK int config_reader_choice(struct config_reader *r,
    const json_t *value, const char *const *choices, unsigned int count,
    unsigned int *ret_index);

/* Keys that are known but not served: fine as long as they ask for nothing. */
CC_MUST_CHECK int config_reader_no_flag(
    struct config_reader *r, const json_t *value);
CC_MUST_CHECK int config_reader_no_choice(
    struct config_reader *r, const json_t *value);
CC_MUST_CHECK int config_reader_no_string(
    struct config_reader *r, const json_t *value);
CC_MUST_CHECK int config_reader_no_settings(
    struct config_reader *r, const json_t *value);

/* A device is asked for by its key alone, even if that is an empty object. */
CC_MUST_CHECK int config_reader_no_device(
    struct config_reader *r, const json_t *value);

#endif
