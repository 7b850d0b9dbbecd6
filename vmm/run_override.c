/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_override.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/config_paths.h"
#include "vmm/machine_net.h"

/* Room for the ids of a machine's devices in an error. */
#define IDS_MAX 160u

/* Devices that are given something else, a bit for each. */
struct taken {
    uint32_t drives;
    uint32_t pmems;
    uint32_t nets;
};

/* Of a device that an option names: what its id may be. */
struct ids {
    char text[IDS_MAX];
    size_t len;
};

static void add_id(struct ids *ids, const char *id)
{
    size_t room = sizeof(ids->text) - ids->len;
    int n = snprintf(
        ids->text + ids->len, room, "%s%s", ids->len == 0 ? "" : ", ", id);

    if (n > 0 && (size_t)n < room)
        ids->len += (size_t)n;
    else
        ids->text[ids->len] = '\0';
}

static int no_such_device(const char *option, const char *what, const char *id,
    const struct ids *ids, struct err *err)
{
    if (ids->len == 0)
        return err_set(err, EINVAL,
            "%s: the machine in the snapshot has no %s: leave it out", option,
            what);
    return err_set(err, EINVAL,
        "%s: the machine in the snapshot has no %s '%s', only %s: say which "
        "with id=",
        option, what, id, ids->text);
}

static int check_fixed(const struct run_options *o, struct err *err)
{
    static const struct {
        enum run_given bit;
        const char *name;
    } fixed[] = {
        {RUN_GIVEN_KERNEL, "--kernel"},
        {RUN_GIVEN_INITRD, "--initrd"},
        {RUN_GIVEN_CMDLINE, "--cmdline"},
        {RUN_GIVEN_CONFIG, "--config"},
        {RUN_GIVEN_CPU_TEMPLATE, "--cpu-template"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        if ((o->given & fixed[i].bit) != 0)
            return err_set(err, EINVAL,
                "%s: what a machine is made of is in the snapshot: leave it "
                "out",
                fixed[i].name);
    }
    return 0;
}

static int check_same(
    const struct config *config, const struct run_options *o, struct err *err)
{
    if ((o->given & RUN_GIVEN_MEM) != 0 &&
        o->config.mem_bytes != config->mem_bytes)
        return err_set(err, EINVAL,
            "--mem: the machine in the snapshot has %llu KiB: leave it out",
            (unsigned long long)(config->mem_bytes / NUM_KIB));
    if ((o->given & RUN_GIVEN_CPUS) != 0 && o->config.vcpus != config->vcpus)
        return err_set(err, EINVAL,
            "--cpus: the machine in the snapshot has %u: leave it out",
            config->vcpus);
    if ((o->given & RUN_GIVEN_DISCOVERY) != 0 &&
        o->config.discovery != config->discovery)
        return err_set(err, EINVAL,
            "--discovery: the guest in the snapshot has found its devices the "
            "other way: leave it out");
    if ((o->given & RUN_GIVEN_RNG) != 0 &&
        o->config.has_entropy != config->has_entropy)
        return err_set(err, EINVAL,
            "%s: the machine in the snapshot has %s entropy device: leave it "
            "out",
            config->has_entropy ? "--no-rng" : "--rng",
            config->has_entropy ? "an" : "no");
    if ((o->given & RUN_GIVEN_VCONSOLE) != 0 && !config->has_vconsole)
        return err_set(err, EINVAL,
            "--virtio-console: the machine in the snapshot has none: leave it "
            "out");
    if (o->console == RUN_CONSOLE_STDIO && config->has_agent)
        return err_set(err, EINVAL,
            "--console: standard input and output are for the agent of the "
            "machine in the snapshot: use --console=stderr or a file");
    if (o->no_root && config_has_root(config))
        return err_set(err, EINVAL,
            "--rootfs none: the machine in the snapshot has one: leave it out");
    return 0;
}

/* ---- files --------------------------------------------------------------- */

static struct config_drive *find_drive(struct config *config,
    const struct config_drive *said, bool by_root, struct ids *ids)
{
    for (uint32_t i = 0; i < config->drive_count; i++) {
        struct config_drive *drive = &config->drives[i];

        if (by_root ? drive->is_root : strcmp(drive->id, said->id) == 0)
            return drive;
        add_id(ids, drive->id);
    }
    return NULL;
}

static int take_drive(struct config_drive *drive,
    const struct config_drive *said, const char *option, struct err *err)
{
    if (said->is_read_only && !drive->is_read_only)
        return err_set(err, EINVAL,
            "%s: ro: the guest in the snapshot can write to %s: leave ro out",
            option, drive->id);
    if (said->queues != 1 && said->queues != drive->queues)
        return err_set(err, EINVAL,
            "%s: queues: %s has %u in the snapshot: leave it out", option,
            drive->id, drive->queues);
    if (said->limits.bytes.size != 0 || said->limits.ops.size != 0)
        return err_set(err, EINVAL,
            "%s: rate and iops of %s are in the snapshot: change them with "
            "PATCH /drives/%s when it runs",
            option, drive->id, drive->id);
    if (said->overlay != CONFIG_OVERLAY_NONE) {
        drive->overlay = said->overlay;
        free(drive->overlay_path);
        drive->overlay_path = NULL;
        if (said->overlay_path != NULL &&
            config_set_string(&drive->overlay_path, said->overlay_path, err) <
                0)
            return -ENOMEM;
    }
    if (said->max_growth != 0)
        drive->max_growth = said->max_growth;
    drive->is_other = true;
    return config_set_string(&drive->path, said->path, err);
}

static int take_drives(struct config *config, const struct run_options *o,
    struct taken *taken, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < o->config.drive_count; i++) {
        const struct config_drive *said = &o->config.drives[i];
        const char *option = said->is_root ? "--rootfs" : "--disk";
        bool by_root = said->is_root && strcmp(said->id, "rootfs") == 0;
        struct ids ids = {0};
        struct config_drive *drive = find_drive(config, said, by_root, &ids);

        if (drive == NULL && by_root && config_has_root(config))
            return err_set(err, EINVAL,
                "--rootfs: the root of the machine in the snapshot is "
                "persistent memory: say FILE,pmem");
        if (drive == NULL)
            return no_such_device(option,
                said->is_root ? "root drive" : "drive", said->id, &ids, err);
        taken->drives |= 1u << (drive - config->drives);
        rc = take_drive(drive, said, option, err);
    }
    return rc;
}

static int take_pmems(struct config *config, const struct run_options *o,
    struct taken *taken, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < o->config.pmem_count; i++) {
        const struct config_pmem *said = &o->config.pmems[i];
        const char *option = said->is_root ? "--rootfs" : "--pmem";
        bool by_root = said->is_root && strcmp(said->id, "rootfs") == 0;
        struct config_pmem *pmem = NULL;
        struct ids ids = {0};

        for (uint32_t k = 0; pmem == NULL && k < config->pmem_count; k++) {
            struct config_pmem *one = &config->pmems[k];

            if (by_root ? one->is_root : strcmp(one->id, said->id) == 0)
                pmem = one;
            else
                add_id(&ids, one->id);
        }
        if (pmem == NULL)
            return no_such_device(
                option, "persistent memory", said->id, &ids, err);
        if (said->is_read_only && !pmem->is_read_only)
            return err_set(err, EINVAL,
                "%s: ro: the guest in the snapshot can write to %s: leave ro "
                "out",
                option, pmem->id);
        taken->pmems |= 1u << (pmem - config->pmems);
        rc = config_set_string(&pmem->path, said->path, err);
    }
    return rc;
}

/* ---- the rest ------------------------------------------------------------ */

static bool has_rate(const struct rate_config *rate)
{
    return rate->bytes.size != 0 || rate->ops.size != 0;
}

static int take_net(
    struct config_net *net, const struct config_net *said, struct err *err)
{
    uint16_t mtu = machine_net_mtu(net);
    int rc = 0;

    if (said->mtu != 0 && said->mtu != mtu)
        return err_set(err, EINVAL,
            "--net: mtu: the guest in the snapshot was told of %u for %s: "
            "leave it out",
            mtu, net->id);
    if ((said->prefix != 0 &&
            (said->prefix != net->prefix || said->address != net->address)) ||
        (said->gateway != 0 && said->gateway != net->gateway))
        return err_set(err, EINVAL,
            "--net: ip and gw: the guest in the snapshot has set up %s: leave "
            "them out",
            net->id);
    if (said->target != NULL) {
        rc = config_set_string(&net->target, said->target, err);
    } else {
        free(net->target);
        net->target = NULL;
    }
    net->backend = said->backend;
    net->fd = said->fd;
    net->mtu = mtu;
    net->forward_count = said->forward_count;
    memcpy(net->forwards, said->forwards, sizeof(net->forwards));
    if (said->has_mac) {
        net->has_mac = true;
        memcpy(net->mac, said->mac, sizeof(net->mac));
    }
    if (has_rate(&said->rx))
        net->rx = said->rx;
    if (has_rate(&said->tx))
        net->tx = said->tx;
    return rc;
}

static int take_nets(struct config *config, const struct run_options *o,
    struct taken *taken, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < o->config.net_count; i++) {
        const struct config_net *said = &o->config.nets[i];
        struct config_net *net = NULL;
        struct ids ids = {0};

        for (uint32_t k = 0; net == NULL && k < config->net_count; k++) {
            if (strcmp(config->nets[k].id, said->id) == 0)
                net = &config->nets[k];
            else
                add_id(&ids, config->nets[k].id);
        }
        if (net == NULL)
            return no_such_device(
                "--net", "network interface", said->id, &ids, err);
        taken->nets |= 1u << (net - config->nets);
        rc = take_net(net, said, err);
    }
    return rc;
}

static int take_balloon(
    struct config *config, const struct run_options *o, struct err *err)
{
    const struct config_balloon *said = &o->config.balloon;
    struct config_balloon *balloon = &config->balloon;

    if ((o->given & RUN_GIVEN_BALLOON) == 0)
        return 0;
    if (!config->has_balloon)
        return err_set(err, EINVAL,
            "--balloon: the machine in the snapshot has none: leave it out");
    if ((said->deflate_on_oom && !balloon->deflate_on_oom) ||
        (said->page_hinting && !balloon->page_hinting) ||
        (said->page_reporting && !balloon->page_reporting) ||
        (said->stats_interval_s != 0 &&
            said->stats_interval_s != balloon->stats_interval_s))
        return err_set(err, EINVAL,
            "--balloon: that of the machine in the snapshot was made without "
            "what the words say: give its size only");
    balloon->target_mib = said->target_mib;
    return 0;
}

/* A socket's path is one machine's; a clone has one if it is told. */
static int take_vsock(
    struct config *config, const struct run_options *o, struct err *err)
{
    config->has_vsock = config_has_vsock(config) && !config->has_agent;
    if ((o->given & RUN_GIVEN_VSOCK) != 0) {
        if (!config_has_vsock(config))
            return err_set(err, EINVAL,
                "--vsock: the machine in the snapshot has no vsock device: "
                "leave it out");
        return config_set_string(
            &config->vsock_path, o->config.vsock_path, err);
    }
    if (!o->keeps_vsock) {
        free(config->vsock_path);
        config->vsock_path = NULL;
    }
    return 0;
}

/* Descriptors are the process's that saved it: ours must be given anew. */
static int check_descriptors(
    const struct config *config, const struct taken *taken, struct err *err)
{
    for (uint32_t i = 0; i < config->drive_count; i++) {
        if ((taken->drives >> i & 1) == 0 &&
            config_paths_is_descriptor(config->drives[i].path))
            return err_set(err, EINVAL,
                "drive %s was handed down as a descriptor: say what is behind "
                "it now with %s",
                config->drives[i].id,
                config->drives[i].is_root ? "--rootfs" : "--disk and id=");
    }
    for (uint32_t i = 0; i < config->pmem_count; i++) {
        if ((taken->pmems >> i & 1) == 0 &&
            config_paths_is_descriptor(config->pmems[i].path))
            return err_set(err, EINVAL,
                "persistent memory %s was handed down as a descriptor: say "
                "what is behind it now with %s",
                config->pmems[i].id,
                config->pmems[i].is_root ? "--rootfs" : "--pmem and id=");
    }
    for (uint32_t i = 0; i < config->net_count; i++) {
        if ((taken->nets >> i & 1) == 0 &&
            config->nets[i].backend == CONFIG_NET_FD)
            return err_set(err, EINVAL,
                "network interface %s was handed down as a descriptor: say "
                "what is behind it now with --net and id=",
                config->nets[i].id);
    }
    return 0;
}

int run_override(
    struct config *config, const struct run_options *o, struct err *err)
{
    struct taken taken = {0};
    int rc = check_fixed(o, err);

    if (rc == 0)
        rc = check_same(config, o, err);
    if (rc == 0)
        rc = take_drives(config, o, &taken, err);
    if (rc == 0)
        rc = take_pmems(config, o, &taken, err);
    if (rc == 0)
        rc = take_nets(config, o, &taken, err);
    if (rc == 0)
        rc = check_descriptors(config, &taken, err);
    if (rc == 0)
        rc = take_balloon(config, o, err);
    if (rc == 0)
        rc = take_vsock(config, o, err);
    return rc == 0 ? config_check(config, err) : rc;
}
