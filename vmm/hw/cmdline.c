/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/cmdline.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void cmdline_init(struct cmdline *line)
{
    line->len = 0;
    line->text[0] = '\0';
}

int cmdline_append(struct cmdline *line, const char *words, struct err *err)
{
    size_t len = strlen(words);
    size_t space = line->len != 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)words[i];

        if (c < 0x20 || c == 0x7f)
            return err_set(err, EINVAL,
                "kernel command line: control character 0x%02x at byte %zu of "
                "\"%.40s\"",
                c, i, words);
    }
    if (len == 0)
        return 0;
    if (len >= sizeof(line->text) - line->len - space)
        return err_set(err, E2BIG,
            "kernel command line: longer than %zu bytes with \"%.40s\"",
            sizeof(line->text) - 1, words);
    if (space != 0)
        line->text[line->len++] = ' ';
    memcpy(line->text + line->len, words, len + 1);
    line->len += len;
    return 0;
}

int cmdline_append_virtio(struct cmdline *line, uint64_t base, uint32_t gsi,
    unsigned int id, struct err *err)
{
    char word[80];
    int n;

    n = snprintf(word, sizeof(word),
        "virtio_mmio.device=4K@0x%" PRIx64 ":%" PRIu32 ":%u", base, gsi, id);
    assert(n > 0 && (size_t)n < sizeof(word));
    return cmdline_append(line, word, err);
}
