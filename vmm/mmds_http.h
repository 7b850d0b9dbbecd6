/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's requests to the metadata service are answered with: GET of
 * a path of the data, as the text of the EC2 service or as JSON, and PUT of
 * /latest/api/token for a session. Without a session's token guests of
 * version 2 see nothing; for those of version 1 it makes no difference.
 *
 * Statuses and texts are Firecracker's. Thread rule: as mmds.h. Everything in
 * a request is the guest's.
 */
#ifndef VMM_MMDS_HTTP_H
#define VMM_MMDS_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/mmds.h"

/* The longest request, its body included. */
#define MMDS_REQUEST_MAX 4096u

struct mmds_reply {
    char *data; /* the receiver's to free */
    size_t len;
    bool is_last; /* the connection ends behind it */
};

/*
 * Answers the request that `data` begins with: 1, with its bytes in *ret_used.
 * 0 if it is not all there, -ENOMEM. What is no request is answered, too, and
 * everything behind it is lost.
 */
CC_MUST_CHECK int mmds_http_answer(struct mmds *mmds, const char *data,
    size_t len, uint64_t now_ns, size_t *ret_used,
    struct mmds_reply *ret_reply);

#endif
