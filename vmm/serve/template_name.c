/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
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

int template_name_check(const char *name, struct err *err)
{
    if (template_name_is_valid(name))
        return 0;
    return err_set(err, EINVAL,
        "'%.80s' is no template's name: 1 to %u of A-Z a-z 0-9 _ . - and "
        "neither . nor - in front",
        name, TEMPLATE_NAME_MAX);
}
