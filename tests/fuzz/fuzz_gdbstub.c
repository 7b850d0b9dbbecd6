/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a peer, in pieces; whatever it asks for is answered somehow. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/gdbstub.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int get_regs(void *opaque, struct gdbstub_regs *ret_regs)
{
    (void)opaque;
    memset(ret_regs, 0xa5, sizeof(*ret_regs));
    return 0;
}

static int set_regs(void *opaque, const struct gdbstub_regs *regs)
{
    (void)opaque;
    return regs->general[0] == 0 ? -EIO : 0;
}

/* Half of all pages are there. */
static int read_mem(void *opaque, uint64_t at, void *dst, size_t size)
{
    (void)opaque;
    if ((at >> 12 & 1) != 0 || ((at + size - 1) >> 12 & 1) != 0)
        return -EFAULT;
    memset(dst, 0x5a, size);
    return 0;
}

static int write_mem(void *opaque, uint64_t at, const void *src, size_t size)
{
    volatile uint8_t sum = 0;

    (void)opaque;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)src)[i]);
    return (at & 1) != 0 ? -EFAULT : 0;
}

static int set_break(void *opaque, uint64_t at, bool is_set)
{
    (void)opaque;
    (void)is_set;
    return (at & 1) != 0 ? -EFAULT : 0;
}

static void drain(struct gdbstub *stub, size_t most)
{
    size_t size;
    const char *out = gdbstub_output(stub, &size);
    volatile char sum = 0;

    size = num_min(size, most);
    for (size_t i = 0; i < size; i++)
        sum = (char)(sum ^ out[i]);
    gdbstub_sent(stub, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct gdbstub_ops ops = {.get_regs = get_regs,
        .set_regs = set_regs,
        .read = read_mem,
        .write = write_mem,
        .set_break = set_break};
    struct gdbstub_stop stop = {.reason = GDBSTUB_SIGNAL, .signal = 5};
    struct gdbstub *stub = malloc(sizeof(*stub));
    const char *text = (const char *)data;
    size_t at = 0;

    if (stub == NULL)
        return 0;
    gdbstub_init(stub, &ops, NULL, &stop);
    while (at < size && stub->state != GDBSTUB_DONE) {
        if (stub->state == GDBSTUB_MOVING) {
            stop.reason = (enum gdbstub_reason)(data[at] % 5);
            stop.signal = data[at];
            (void)gdbstub_asks_stop(stub, text + at, 1);
            gdbstub_stopped(stub, &stop);
            at++;
        } else {
            at += gdbstub_input(
                stub, text + at, num_min(size - at, 1u + data[at] % 64u));
        }
        drain(stub, 1u + data[at < size ? at : 0]);
    }
    free(stub);
    return 0;
}
