/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_live.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/num.h"

#define PAGES_PER_MIB (NUM_MIB / NUM_PAGE_SIZE)

/* The balloon with its lock held, or an error. */
static int lock_balloon(
    const struct machine *m, struct balloon **ret_balloon, struct err *err)
{
    if (m->balloon == NULL)
        return err_set(err, ENODEV,
            "the machine has no balloon: it must be started with one");
    device_lock(&m->balloon->virtio.base);
    *ret_balloon = m->balloon;
    return 0;
}

static void unlock_balloon(struct balloon *b)
{
    device_unlock(&b->virtio.base);
}

int machine_balloon_set(struct machine *m, uint64_t target_mib, struct err *err)
{
    struct balloon *b;
    uint64_t pages;
    int rc;

    if (!num_mul(target_mib, PAGES_PER_MIB, &pages))
        return err_set(err, EINVAL, "a balloon of %llu MiB is too large",
            (unsigned long long)target_mib);
    rc = lock_balloon(m, &b, err);
    if (rc < 0)
        return rc;
    rc = balloon_set_target(b, pages, err);
    unlock_balloon(b);
    return rc;
}

int machine_balloon_info(const struct machine *m,
    struct machine_balloon_info *ret_info, struct err *err)
{
    struct balloon *b;
    int rc = lock_balloon(m, &b, err);

    if (rc < 0)
        return rc;
    *ret_info = (struct machine_balloon_info){.target_pages = b->state.target,
        .actual_pages = b->state.actual,
        .has_stats = b->interval_ms != 0,
        .interval_s = b->interval_ms / 1000,
        .host_cmd = b->state.host_cmd,
        .guest_cmd = b->state.guest_cmd,
        .guest = b->guest};
    unlock_balloon(b);
    return 0;
}

int machine_balloon_set_interval(
    struct machine *m, uint64_t interval_s, struct err *err)
{
    struct balloon *b;
    int rc;

    if (interval_s < 1 || interval_s > UINT16_MAX)
        return err_set(err, EINVAL,
            "statistics every %llu s: it must be 1 to 65535",
            (unsigned long long)interval_s);
    rc = lock_balloon(m, &b, err);
    if (rc < 0)
        return rc;
    rc = balloon_set_interval(b, interval_s * 1000, err);
    unlock_balloon(b);
    return rc;
}

int machine_balloon_start_hinting(
    struct machine *m, bool ack_stop, struct err *err)
{
    struct balloon *b;
    int rc = lock_balloon(m, &b, err);

    if (rc < 0)
        return rc;
    rc = balloon_start_hinting(b, ack_stop, err);
    unlock_balloon(b);
    return rc;
}

int machine_balloon_stop_hinting(struct machine *m, struct err *err)
{
    struct balloon *b;
    int rc = lock_balloon(m, &b, err);

    if (rc < 0)
        return rc;
    balloon_stop_hinting(b);
    unlock_balloon(b);
    return 0;
}

struct machine_net *machine_net_find(
    const struct machine *m, const char *iface_id)
{
    for (uint32_t i = 0; i < CONFIG_NETS_MAX; i++) {
        if (m->nets[i] != NULL && strcmp(m->nets[i]->config->id, iface_id) == 0)
            return m->nets[i];
    }
    return NULL;
}

struct machine_drive *machine_drive_find(
    const struct machine *m, const char *drive_id)
{
    for (uint32_t i = 0; i < m->config->drive_count; i++) {
        if (m->drives[i] != NULL &&
            strcmp(m->config->drives[i].id, drive_id) == 0)
            return m->drives[i];
    }
    return NULL;
}

int machine_net_limits(struct machine *m, const char *iface_id,
    const struct rate_change *rx, const struct rate_change *tx, struct err *err)
{
    struct machine_net *n = machine_net_find(m, iface_id);
    int rc;

    if (n == NULL)
        return err_set(
            err, ENODEV, "there is no network interface '%.64s'", iface_id);
    /* The second one cannot be refused any more when the first is in force. */
    rc = rate_check(&tx->limits, err);
    if (rc < 0)
        return rc;
    device_lock(&n->net.virtio.base);
    rc = net_limit_set(&n->rx, rx, err);
    if (rc == 0)
        rc = net_limit_set(&n->tx, tx, err);
    device_unlock(&n->net.virtio.base);
    return rc;
}
