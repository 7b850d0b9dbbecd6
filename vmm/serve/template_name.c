/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "vmm/serve/template.h"

bool template_name_is_valid(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t size = strnlen(name, TEMPLATE_NAME_MAX + 1);

    return size > 0 && size <= TEMPLATE_NAME_MAX && name[0] != '.' &&
           name[0] != '-' && strspn(name, allowed) == size;
}
