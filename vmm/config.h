/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine description: what the command line, the configuration file and
 * the control socket all produce, and all that the machine is built from.
 *
 * On disk it is JSON shaped as Firecracker's configuration file, with our
 * additions under "spore": at the top, and in each drive and interface. Thread
 * rule: one thread. The file is hostile: every value is checked, unknown keys
 * are refused by name, and a description that config_check accepts can be
 * handed to machine_init as it is.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/spec.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/rate.h"
#include "vmm/hw/cpu_modifiers.h"

#define CONFIG_FILE_MAX     (UINT64_C(1) << 20)
#define CONFIG_DRIVES_MAX   16u
#define CONFIG_PMEMS_MAX    8u
#define CONFIG_NETS_MAX     8u
#define CONFIG_FORWARDS_MAX 16u
#define CONFIG_ID_MAX       64u
#define CONFIG_VCPUS_MAX    32u
#define CONFIG_QUEUES_MAX   ((uint32_t)VIRTIO_QUEUES_MAX)
#define CONFIG_MAC_BYTES    6u
#define CONFIG_PARTUUID_MAX 64u
#define CONFIG_IFNAME_MAX   15u

/* 169.254.169.254 */
#define CONFIG_MMDS_ADDRESS UINT32_C(0xa9fea9fe)

/*
 * boot_args unless the user gives others: ends with the machine, quiet, one
 * serial port, which is the console.
 */
#define CONFIG_BOOT_ARGS_DEFAULT                                               \
    "console=ttyS0 quiet reboot=k panic=-1 8250.nr_uarts=1"

enum config_io_engine { CONFIG_IO_AUTO, CONFIG_IO_SYNC, CONFIG_IO_ASYNC };

/* Where a drive's writes go. */
enum config_overlay {
    CONFIG_OVERLAY_NONE,   /* into its file */
    CONFIG_OVERLAY_MEMORY, /* and are gone with the machine */
    CONFIG_OVERLAY_FILE,   /* a sparse file beside it */
};

struct config_drive {
    char *id;       /* [A-Za-z0-9_]+ */
    char *path;     /* image file or block device */
    char *partuuid; /* of the root file system's partition; NULL: no table */
    bool is_root;
    bool is_read_only;
    bool is_writeback; /* flushes of the guest reach the disk */
    enum config_io_engine engine;
    enum config_overlay overlay;
    char *overlay_path;        /* CONFIG_OVERLAY_FILE */
    uint64_t max_growth;       /* bytes of the overlay; 0: the disk's size */
    uint32_t queues;           /* 1 to CONFIG_QUEUES_MAX */
    bool is_other;             /* restored with another file than it had */
    struct rate_config limits; /* all zero: none */
};

/* A file that is mapped into the guest's memory: its /dev/pmemN. */
struct config_pmem {
    char *id;   /* [A-Za-z0-9_]+ */
    char *path; /* a regular file */
    bool is_root;
    bool is_read_only;
    struct rate_config limits; /* of flushes; all zero: none */
};

/* What stands behind a network interface. */
enum config_net_backend {
    CONFIG_NET_TAP,    /* the host's tap interface named `target` */
    CONFIG_NET_FD,     /* `fd`, inherited: a tap's, or a stream of frames */
    CONFIG_NET_USER,   /* passt, which the monitor starts */
    CONFIG_NET_STREAM, /* frames over the Unix socket at `target` */
    CONFIG_NET_SWITCH, /* the virtual switch `target`: its name, or a path */
};

/* A port of the host that leads to one of the guest. */
struct config_forward {
    uint32_t address; /* of the host, IPv4 as a number; 127.0.0.1 */
    uint16_t host_port;
    uint16_t guest_port;
    bool is_udp;
};

struct config_net {
    char *id; /* [A-Za-z0-9_]+ */
    enum config_net_backend backend;
    char *target; /* NULL for those that need none */
    int fd;
    bool has_mac; /* else a random one */
    uint8_t mac[CONFIG_MAC_BYTES];
    uint16_t mtu;          /* 0: the guest is not told */
    struct rate_config rx; /* to the guest; all zero: no limit */
    struct rate_config tx; /* from it */
    uint8_t prefix;        /* bits of the guest's network, 0: no address */
    uint32_t address;      /* the guest's, IPv4 as a number */
    uint32_t gateway;      /* 0: none */
    uint32_t forward_count;
    struct config_forward forwards[CONFIG_FORWARDS_MAX]; /* CONFIG_NET_USER */
    bool has_mmds; /* the guest reaches the metadata service over it */
};

/* The metadata service, of those interfaces that have it. */
struct config_mmds {
    bool is_v2;       /* only who has a session's token is answered */
    bool imds_compat; /* never in JSON */
    uint32_t address; /* IPv4 as a number, link-local */
};

struct config_balloon {
    uint64_t target_mib;
    uint32_t stats_interval_s; /* 0: no statistics */
    bool deflate_on_oom;
    bool page_hinting;
    bool page_reporting;
};

/* How the guest kernel learns of its virtio devices. */
enum config_discovery {
    CONFIG_DISCOVERY_ACPI,
    CONFIG_DISCOVERY_CMDLINE, /* virtio_mmio.device= and an MP table */
};

struct config {
    char *kernel;    /* NULL: the installed or built guest kernel */
    char *initrd;    /* NULL: none but the agent's */
    char *boot_args; /* NULL: the defaults; never holds root= of a drive */
    uint64_t mem_bytes;
    bool has_huge_pages; /* RAM is of 2 MiB pages of the host's pool, if it
                            boots */
    uint32_t vcpus;
    char *cpu_template; /* vmm/hw/cpuid_template.h; NULL: the host's CPU */
    struct cpu_modifiers *cpu_modifiers; /* of one that boots; NULL: none */
    uint32_t drive_count;
    struct config_drive drives[CONFIG_DRIVES_MAX];
    uint32_t pmem_count;
    struct config_pmem pmems[CONFIG_PMEMS_MAX];
    uint32_t net_count;
    struct config_net nets[CONFIG_NETS_MAX];
    struct config_mmds mmds;
    bool has_entropy;
    struct rate_config entropy; /* its limits; all zero: none */
    bool has_balloon;
    struct config_balloon balloon;
    bool has_vconsole; /* a virtio console beside the serial port */
    enum config_discovery discovery;
    bool has_agent;     /* load the agent and give it a vsock device */
    bool has_exit_port; /* a write to LAYOUT_PORT_EXIT ends the VM */
    uint32_t guest_cid; /* of the vsock device; 3 or above */
    char *vsock_path;   /* its Unix socket on the host; NULL: none */
    bool has_vsock;     /* a vsock device even without agent and socket */
};

/* The defaults: 1 vCPU, 128 MiB, agent, no drives, no network. */
void config_init(struct config *config);
void config_fini(struct config *config);

/* A description of its own with the same content (config_fini); -ENOMEM. */
CC_MUST_CHECK int config_copy(
    const struct config *from, struct config *ret_config, struct err *err);

/* Puts a copy of `value` in the place of *at, which it frees. */
CC_MUST_CHECK int config_set_string(
    char **at, const char *value, struct err *err);

/* Whether its guest is told, by a device, that it has become another. */
bool config_has_generation(const struct config *config);

/* Whether the machine has a vsock device. */
bool config_has_vsock(const struct config *config);

/*
 * Reads a file over what `config` holds already: a key that is missing or
 * null leaves its value, "drives", "pmem" and "network-interfaces" take the
 * place of the whole list. The result has passed config_check. An error names
 * the file and the key ("guest.json: drives[1].path_on_host: missing"), or line
 * and column for what is not JSON. On failure *config is still valid, its
 * content is unspecified.
 */
CC_MUST_CHECK int config_load_file(
    struct config *config, const char *path, struct err *err);

/* The same from memory; `name` stands for the file in errors. */
CC_MUST_CHECK int config_load_json(struct config *config, const char *json,
    size_t len, const char *name, struct err *err);

/* A drive or an interface with our defaults, and nothing allocated. */
struct config_drive config_drive_default(void);
struct config_net config_net_default(void);

/* Frees the strings of one that config_add_* has not taken. */
void config_drive_fini(struct config_drive *drive);
void config_pmem_fini(struct config_pmem *pmem);
void config_net_fini(struct config_net *net);

/*
 * Adds a drive: a root drive in front of all others, so that it is the guest's
 * first, any other behind them. The strings are copied. Fails if it is one
 * too many.
 */
CC_MUST_CHECK int config_add_drive(
    struct config *config, const struct config_drive *drive, struct err *err);

void config_clear_drives(struct config *config);

/* Adds a persistent memory behind the others; likewise. */
CC_MUST_CHECK int config_add_pmem(
    struct config *config, const struct config_pmem *pmem, struct err *err);

void config_clear_pmems(struct config *config);

/* Whether a drive or a persistent memory is the root file system. */
bool config_has_root(const struct config *config);

/* Whether the guest can write to a drive or a persistent memory. */
bool config_has_writable_file(const struct config *config);

/* Adds a network interface behind the others: the guest's next ethN. */
CC_MUST_CHECK int config_add_net(
    struct config *config, const struct config_net *net, struct err *err);

void config_clear_nets(struct config *config);

/* Whether an interface has the metadata service. */
bool config_has_mmds(const struct config *config);

/* One that RFC 3927 has stations choose: 169.254.1.0 to 169.254.254.255. */
bool config_is_link_local(uint32_t address);

/* The interface that the guest's kernel gives an address to, or NULL. */
const struct config_net *config_addressed_net(const struct config *config);

/* Checks ranges and what must fit together (one root, distinct ids, ...). */
CC_MUST_CHECK int config_check(const struct config *config, struct err *err);

/*
 * Writes the description as JSON that config_load_json reads back; free it.
 * -EILSEQ for a string that is not UTF-8, which JSON cannot hold.
 */
CC_MUST_CHECK int config_to_json(
    const struct config *config, char **ret_json, struct err *err);

#endif
