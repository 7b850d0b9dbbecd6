/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent may say in front of a server's bytes (FORWARD), in pieces of
 * any size: it comes to the same in one piece and byte by byte, and nothing
 * that is the server's is taken.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/guest_forward.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

struct result {
    int rc;
    bool is_open;
    size_t taken;
};

static struct result feed(const uint8_t *data, size_t size, size_t step)
{
    struct guest_forward f = {0};
    struct result r = {0};
    struct err err;

    while (r.rc == 0 && !f.is_open && r.taken < size) {
        size_t n = size - r.taken < step ? size - r.taken : step;
        size_t taken = 0;
        uint8_t *piece = malloc(n);

        require(piece != NULL);
        memcpy(piece, data + r.taken, n);
        err.text[0] = '\0';
        r.rc = guest_forward_feed(&f, piece, n, &taken, &err);
        require(r.rc <= 0 && (r.rc == 0 || err.text[0] != '\0'));
        require(taken <= n && (r.rc < 0 || f.is_open || taken == n));
        r.taken += taken;
        free(piece);
    }
    r.is_open = f.is_open;
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct result whole = feed(data, size, size);
    struct result bytes = feed(data, size, 1);

    require(whole.rc == bytes.rc && whole.is_open == bytes.is_open);
    require(!whole.is_open || whole.taken == bytes.taken);
    return 0;
}
