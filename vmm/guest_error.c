/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_error.h"

#include <stdio.h>

bool guest_error_parse(struct bytes_reader *r, struct guest_error *ret_error)
{
    struct agent_error error;
    size_t len;

    bytes_get(r, &error, sizeof(error));
    len = bytes_left(r);
    if (r->failed || len > AGENT_ERROR_TEXT_MAX)
        return false;
    ret_error->error = agent_le32_get(error.error);
    ret_error->status = agent_le16_get(error.status) & 0xff;
    bytes_get(r, ret_error->text, len);
    ret_error->text[len] = '\0';
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)ret_error->text[i];

        if (c < 0x20 || c == 0x7f)
            ret_error->text[i] = '?';
    }
    if (len == 0)
        (void)snprintf(ret_error->text, sizeof(ret_error->text),
            "the agent gave no reason");
    return true;
}
