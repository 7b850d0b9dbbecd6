/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata store of a machine (MMDS): JSON that its owner puts there over
 * the control socket and that its guest reads over HTTP at a link-local
 * address (mmds_http.h), and the tokens by which guests of version 2 prove
 * that they have asked for a session.
 *
 * A snapshot keeps how the service is configured, by the machine's
 * description, and neither data nor tokens.
 *
 * Owns the data. Thread rule: the loop's thread, on which both the control
 * socket and network devices are served; or before it runs. Data and patches
 * are the client's, nested no deeper than JSON_READER_DEPTH_MAX (schema.h
 * sees to it); paths and tokens are the guest's.
 */
#ifndef VMM_MMDS_H
#define VMM_MMDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* Bytes of data as JSON, unless the owner says otherwise. */
#define MMDS_LIMIT_DEFAULT 51200u

/* Seconds that a token may live. */
#define MMDS_TTL_MIN 1u
#define MMDS_TTL_MAX 21600u

/* Of 256 random bits, in hexadecimal. */
#define MMDS_TOKEN_BYTES 32u
#define MMDS_TOKEN_CHARS (2u * MMDS_TOKEN_BYTES)

/* That live at a time; one more, and that which ends first is no more. */
#define MMDS_TOKENS_MAX 128u

struct mmds_token {
    uint8_t secret[MMDS_TOKEN_BYTES];
    uint64_t ends_ns; /* on clock_now_ns(); 0: none */
};

struct mmds {
    json_t *data;     /* NULL: nothing was ever put there */
    size_t limit;     /* bytes of data as JSON */
    uint32_t address; /* of the service, IPv4 as a number */
    bool is_v2;
    bool imds_compat;          /* answers are IMDS text whatever is asked for */
    struct mmds_token *tokens; /* MMDS_TOKENS_MAX of them, or NULL yet */
    uint64_t invalid_tokens;   /* requests with one that is none */
    uint64_t no_tokens;        /* requests without one */
};

void mmds_init(struct mmds *mmds);
void mmds_fini(struct mmds *mmds);

/*
 * Takes a reference of `data`, any JSON, in the place of what was there.
 * -E2BIG if it is longer than the limit, -ENOMEM.
 */
CC_MUST_CHECK int mmds_put(struct mmds *mmds, json_t *data, struct err *err);

/*
 * Merges a patch into the data (RFC 7396, which took the place of 7386).
 * -ENODATA if there is none yet, else as mmds_put.
 */
CC_MUST_CHECK int mmds_patch(
    struct mmds *mmds, const json_t *patch, struct err *err);

/*
 * A token for `ttl_s` seconds, MMDS_TTL_MIN to MMDS_TTL_MAX (else -ERANGE).
 * -ENOMEM; -EIO if the host has no random bits.
 */
CC_MUST_CHECK int mmds_make_token(struct mmds *mmds, uint64_t now_ns,
    uint32_t ttl_s, char ret_token[MMDS_TOKEN_CHARS + 1]);

/* Whether it is one of ours, and lives. Takes as long for any guess. */
bool mmds_has_token(
    const struct mmds *mmds, uint64_t now_ns, const char *token, size_t len);

#endif
