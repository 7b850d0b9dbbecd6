/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* The kernel's own bounds are far below these. */
#define NAME_MAX_BYTES 256u
#define COUNTERS_MAX   1024u

struct layout {
    uint32_t name_size;
    uint32_t count;
    uint32_t desc_offset;
    uint32_t data_offset;
};

static int read_layout(int fd, struct layout *ret_layout)
{
    struct kvm_stats_header head;
    ssize_t n = fd_pread_full(fd, &head, sizeof(head), 0);

    if (n != (ssize_t)sizeof(head))
        return n < 0 ? (int)n : -ENODATA;
    if (head.name_size == 0 || head.name_size > NAME_MAX_BYTES ||
        head.num_desc > COUNTERS_MAX)
        return -EPROTO;
    *ret_layout = (struct layout){.name_size = head.name_size,
        .count = head.num_desc,
        .desc_offset = head.desc_offset,
        .data_offset = head.data_offset};
    return 0;
}

/* Where in the data block the counter `name` is. */
static int find_counter(
    int fd, const struct layout *l, const char *name, uint32_t *ret_offset)
{
    size_t each = sizeof(struct kvm_stats_desc) + l->name_size;
    size_t size = each * l->count;
    uint8_t *descs = malloc(num_max(size, 1));
    struct bytes_reader r;
    int rc = -ENOENT;
    ssize_t n;

    if (descs == NULL)
        return -ENOMEM;
    n = fd_pread_full(fd, descs, size, l->desc_offset);
    if (n != (ssize_t)size) {
        free(descs);
        return n < 0 ? (int)n : -ENODATA;
    }
    bytes_reader_init(&r, descs, size);
    for (uint32_t i = 0; rc == -ENOENT && i < l->count; i++) {
        struct kvm_stats_desc desc;
        char text[NAME_MAX_BYTES + 1] = "";

        bytes_get(&r, &desc, sizeof(desc));
        bytes_get(&r, text, l->name_size);
        if (strcmp(text, name) == 0) {
            *ret_offset = desc.offset;
            rc = 0;
        }
    }
    free(descs);
    return rc;
}

int vcpu_stats_open(
    const struct vcpu *vcpu, const char *name, struct vcpu_stats *ret_stats)
{
    CC_CLEANUP(fd_closep) int fd = ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL);
    struct layout layout = {0};
    uint32_t offset = 0;
    int rc;

    if (fd < 0)
        return -errno;
    rc = read_layout(fd, &layout);
    if (rc == 0)
        rc = find_counter(fd, &layout, name, &offset);
    if (rc < 0)
        return rc;
    *ret_stats = (struct vcpu_stats){
        .fd = fd_steal(&fd), .at = (uint64_t)layout.data_offset + offset};
    return 0;
}

void vcpu_stats_close(struct vcpu_stats *stats)
{
    fd_closep(&stats->fd);
}

int vcpu_stats_read(const struct vcpu_stats *stats, uint64_t *ret_value)
{
    uint64_t value;
    ssize_t n = fd_pread_full(stats->fd, &value, sizeof(value), stats->at);

    if (n != (ssize_t)sizeof(value))
        return n < 0 ? (int)n : -ENODATA;
    *ret_value = value;
    return 0;
}
