/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine description: what the command line, the configuration file and
 * the control socket all produce, and all that the machine is built from.
 *
 * On disk it is JSON shaped as Firecracker's configuration file, with our
 * additions under "spore". Thread rule: one thread. The file is hostile:
 * every value is checked, unknown keys are refused by name, and a description
 * that config_check accepts can be handed to machine_init as it is.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define CONFIG_FILE_MAX   (UINT64_C(1) << 20)
#define CONFIG_DRIVES_MAX 16u
#define CONFIG_ID_MAX     64u
#define CONFIG_VCPUS_MAX  32u

enum config_io_engine { CONFIG_IO_AUTO, CONFIG_IO_SYNC, CONFIG_IO_ASYNC };

struct config_drive {
    char *id;   /* [A-Za-z0-9_]+ */
    char *path; /* image file or block device */
    bool is_root;
    bool is_read_only;
    bool is_writeback; /* flushes of the guest reach the disk */
    enum config_io_engine engine;
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
    uint32_t vcpus;
    uint32_t drive_count;
    struct config_drive drives[CONFIG_DRIVES_MAX];
    enum config_discovery discovery;
    bool has_agent;     /* load the agent and give it a vsock device */
    bool has_exit_port; /* a write to LAYOUT_PORT_EXIT ends the VM */
    uint32_t guest_cid; /* of the vsock device; 3 or above */
    char *vsock_path;   /* its Unix socket on the host; NULL: none */
};

/* The defaults: 1 vCPU, 128 MiB, agent, no drives. */
void config_init(struct config *config);
void config_fini(struct config *config);

/*
 * Reads a file over what `config` holds already: a key that is missing or
 * null leaves its value, "drives" takes the place of the whole list. The
 * result has passed config_check. An error names the file and the key
 * ("guest.json: drives[1].path_on_host: missing"), or line and column for
 * what is not JSON. On failure *config is still valid, its content is
 * unspecified.
 */
CC_MUST_CHECK int config_load_file(
    struct config *config, const char *path, struct err *err);

/* The same from memory; `name` stands for the file in errors. */
CC_MUST_CHECK int config_load_json(struct config *config, const char *json,
    size_t len, const char *name, struct err *err);

/*
 * Adds a drive: a root drive in front of all others, so that it is the guest's
 * first, any other behind them. The strings are copied. Fails if it is one
 * too many.
 */
CC_MUST_CHECK int config_add_drive(
    struct config *config, const struct config_drive *drive, struct err *err);

void config_clear_drives(struct config *config);

/* "128", "128M" (both MiB), "2G", "512K" to bytes; whole pages only. */
CC_MUST_CHECK int config_parse_size(
    const char *text, uint64_t *ret_bytes, struct err *err);

/* Checks ranges and what must fit together (one root, distinct ids, ...). */
CC_MUST_CHECK int config_check(const struct config *config, struct err *err);

/*
 * Writes the description as JSON that config_load_json reads back; free it.
 * -EILSEQ for a string that is not UTF-8, which JSON cannot hold.
 */
CC_MUST_CHECK int config_to_json(
    const struct config *config, char **ret_json, struct err *err);

#endif
