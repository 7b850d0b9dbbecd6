/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vmgenid.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

#include "vmm/hw/layout.h"

static const struct state_field vmgenid_fields[] = {
    STATE_ARRAY(struct vmgenid_state, id, 1),
};

static const struct state_desc vmgenid_desc =
    STATE_DESC(struct vmgenid_state, "vmgenid", 1, vmgenid_fields);

/* Any 16 bytes are an id, and only a bump changes it. */
static const struct device_ops vmgenid_ops = {.state = &vmgenid_desc};

void vmgenid_init(struct vmgenid *gen, struct gmem *mem, struct irq_line irq)
{
    *gen = (struct vmgenid){.mem = mem, .irq = irq};
    device_init(&gen->dev, &vmgenid_ops, "vmgenid", &gen->state);
}

int vmgenid_bump(struct vmgenid *gen, struct err *err)
{
    uint8_t id[VMGENID_SIZE];
    ssize_t n;
    int rc;

    do {
        n = getrandom(id, sizeof(id), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(err, errno, "vmgenid: no random bytes from the kernel");
    /* Up to 256 bytes come whole: random(7). */
    assert((size_t)n == sizeof(id));
    rc = gmem_write(gen->mem, gpa(LAYOUT_VMGENID), id, sizeof(id));
    if (rc < 0)
        return err_sys(err, rc, "vmgenid: no RAM at %#llx",
            (unsigned long long)LAYOUT_VMGENID);
    memcpy(gen->state.id, id, sizeof(id));
    irq_raise(&gen->irq);
    return 0;
}
