/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program may send to the process that has libspore's machines. The
 * first byte is the number of descriptors, the rest the packet. What is taken
 * for a request is within its bounds, and every string of it in the packet.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/serve/lib_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void require_within(const char *text, const uint8_t *packet, size_t size)
{
    const char *begin = (const char *)packet;

    require(text >= begin + sizeof(struct lib_request));
    require(text + strlen(text) < begin + size);
}

static void require_list(
    const char *const *list, uint32_t count, const uint8_t *packet, size_t size)
{
    require(count <= LIB_ARGS_MAX);
    for (uint32_t i = 0; i < count; i++)
        require_within(list[i], packet, size);
    require(list[count] == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct lib_call call;
    struct err err = {""};
    uint8_t *packet;
    int rc;

    if (size < 1)
        return 0;
    /* Its end is the end of the memory. */
    packet = malloc(size - 1 == 0 ? 1 : size - 1);
    require(packet != NULL);
    memcpy(packet, data + 1, size - 1);
    memset(&call, 0xa5, sizeof(call));
    rc = lib_request_parse(packet, size - 1, data[0], &call, &err);
    if (rc < 0) {
        require(rc == -EPROTO || rc == -EINVAL);
        require(err.text[0] != '\0');
    } else {
        require(call.op < LIB_OPS);
        require(call.op != LIB_CLONE || data[0] == 1);
        require(data[0] <= LIB_FDS_MAX);
        require_list(call.argv, call.argc, packet, size - 1);
        require_list(call.env, call.envc, packet, size - 1);
        if (call.op == LIB_OPEN) {
            require_within(call.name, packet, size - 1);
            require(call.max >= 1 && call.max <= LIB_CLONES_MAX);
            require(call.ready <= call.max);
        }
        if (call.cwd != NULL)
            require_within(call.cwd, packet, size - 1);
        if (call.user != NULL)
            require_within(call.user, packet, size - 1);
        for (uint32_t i = 0; i < call.envc; i++)
            require(strchr(call.env[i], '=') > call.env[i]);
    }
    free(packet);
    return 0;
}
