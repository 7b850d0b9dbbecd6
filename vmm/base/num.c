/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/num.h"

#include <stddef.h>

const char *num_take_digits(const char *text, uint64_t *ret_number)
{
    const char *p = text;
    uint64_t value = 0;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (!num_mul(value, 10, &value) ||
            !num_add(value, (uint64_t)(*p - '0'), &value))
            return NULL;
    }
    if (p == text)
        return NULL;
    *ret_number = value;
    return p;
}
