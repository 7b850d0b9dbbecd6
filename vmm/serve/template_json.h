/* SPDX-License-Identifier: Apache-2.0 */
/*
 * template.json: what struct template has, as JSON.
 *
 *     {"version": 1, "made": SECONDS, "source": TEXT, "argv": [..],
 *      "env": ["NAME=VALUE", ..], "cwd": PATH, "user": USER,
 *      "port": TCP, "vsock_port": PORT, "spore": VERSION}
 *
 * All but the version may be missing; keys that are not known are passed over,
 * so that older versions can read what newer ones write.
 *
 * Thread rule: pure functions. The text is hostile.
 */
#ifndef VMM_SERVE_TEMPLATE_JSON_H
#define VMM_SERVE_TEMPLATE_JSON_H

#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/template.h"

#define TEMPLATE_JSON_MAX (1u << 20) /* bytes */

/*
 * Fills all of *ret_template but name, dir and store, which are NULL then.
 * -EBADMSG for what is no such text.
 */
CC_MUST_CHECK int template_json_read(const char *json, size_t size,
    struct template *ret_template, struct err *err);

/*
 * The caller frees *ret_json. -EILSEQ for a string that is not UTF-8, which
 * JSON cannot hold.
 */
CC_MUST_CHECK int template_json_write(
    const struct template *t, char **ret_json, struct err *err);

#endif
