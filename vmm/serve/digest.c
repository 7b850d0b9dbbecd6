/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/digest.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

void digest_init(struct digest *d)
{
    sha256_init(&d->ctx);
}

void digest_add(struct digest *d, const void *data, size_t size)
{
    if (size > 0)
        sha256_update(&d->ctx, size, data);
}

void digest_take(struct digest *d, char ret_hex[DIGEST_HEX_SIZE])
{
    uint8_t bytes[SHA256_DIGEST_SIZE];

    sha256_digest(&d->ctx, sizeof(bytes), bytes);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        ret_hex[2 * i] = digits[bytes[i] >> 4];
        ret_hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret_hex[DIGEST_HEX_SIZE - 1] = '\0';
}

bool digest_is_hex(const char *text)
{
    return strspn(text, digits) == DIGEST_HEX_SIZE - 1 &&
           text[DIGEST_HEX_SIZE - 1] == '\0';
}

bool digest_parse(const char *text, char ret_hex[DIGEST_HEX_SIZE])
{
    static const char prefix[] = "sha256:";
    size_t size = sizeof(prefix) - 1;

    if (strncmp(text, prefix, size) != 0 || !digest_is_hex(text + size))
        return false;
    memcpy(ret_hex, text + size, DIGEST_HEX_SIZE);
    return true;
}
