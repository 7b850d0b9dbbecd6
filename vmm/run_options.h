/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of `spore run`.
 *
 * Thread rule: one thread. The command line is the user's and is checked.
 */
#ifndef VMM_RUN_OPTIONS_H
#define VMM_RUN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/config_settings.h"
#include "vmm/jail_options.h"
#include "vmm/machine.h"
#include "vmm/session.h"

enum run_console {
    RUN_CONSOLE_TAIL,   /* kept for error reports */
    RUN_CONSOLE_STDIO,  /* the serial port is our standard input and output */
    RUN_CONSOLE_STDERR, /* copied to standard error */
    RUN_CONSOLE_FILE,
};

/* Which pages of a snapshot are compared with their hashes. */
enum run_verify {
    RUN_VERIFY_AUTO, /* all, unless this host's store knows them */
    RUN_VERIFY_ALL,  /* before anything runs */
    RUN_VERIFY_LAZY, /* each at its first use */
    RUN_VERIFY_TRUST,
};

/* The working set that is recorded with a snapshot. */
enum run_prefetch {
    RUN_PREFETCH_AUTO, /* brought in if not cached; recorded if there is none */
    RUN_PREFETCH_ON,   /* brought in */
    RUN_PREFETCH_OFF,  /* left alone */
    RUN_PREFETCH_RECORD, /* brought in if not cached, and added to */
};

enum run_timings {
    RUN_TIMINGS_OFF,
    RUN_TIMINGS_TEXT,
    RUN_TIMINGS_JSON,
    RUN_TIMINGS_SVG,
};

/* Options that describe a machine: those that were given. */
enum run_given {
    RUN_GIVEN_KERNEL = 1u << 0,
    RUN_GIVEN_INITRD = 1u << 1,
    RUN_GIVEN_CMDLINE = 1u << 2,
    RUN_GIVEN_CONFIG = 1u << 3,
    RUN_GIVEN_ROOTFS = 1u << 4,
    RUN_GIVEN_DISK = 1u << 5,
    RUN_GIVEN_PMEM = 1u << 6,
    RUN_GIVEN_MEM = 1u << 7,
    RUN_GIVEN_CPUS = 1u << 8,
    RUN_GIVEN_NET = 1u << 9,
    RUN_GIVEN_RNG = 1u << 10,
    RUN_GIVEN_BALLOON = 1u << 11,
    RUN_GIVEN_DISCOVERY = 1u << 12,
    RUN_GIVEN_VCONSOLE = 1u << 13,
    RUN_GIVEN_VSOCK = 1u << 14,
    RUN_GIVEN_CPU_TEMPLATE = 1u << 15,
};

struct run_options {
    struct config config;
    uint32_t given; /* of enum run_given */
    enum run_console console;
    const char *console_file;
    const char *vconsole_file; /* NULL: standard error */
    enum run_timings timings;
    const char *timings_file; /* of the picture; NULL: standard error */
    uint64_t timeout_ns;      /* 0: none */
    bool no_root;             /* --rootfs none: stay in the initrd */
    struct session_command command;
    const char *from;  /* a snapshot; NULL: the machine boots */
    const char *store; /* where it is; NULL: the default store */
    enum run_verify verify;
    const char *page_server; /* a socket; NULL: memory is from the snapshot */
    bool has_memory_option;
    enum run_prefetch prefetch;
    bool allow_changed_disks; /* files written to since the save */
    bool freeze;              /* the guest's clock stood still meanwhile */
    /* Writes are followed, so that a diff can be saved. */
    enum machine_tracking tracking;
    const char *id;       /* NULL: a random one; else checked */
    const char *api_sock; /* NULL: in the machine's folder */
    bool allow_duplicate; /* of a guest that cannot tell that it is one */
    bool keeps_vsock;     /* the socket's path in the snapshot is ours */
    bool no_api;
    bool no_boot; /* the control socket makes the machine */
    /*
     * spore-firecracker: no folder of its own, the contract's statuses, and a
     * snapshot that cannot be loaded is the end.
     */
    bool is_firecracker;
    bool filters_vcpus;              /* where there is no jail (machine.h) */
    const char *api_id;              /* what clients are told; NULL: `id` */
    size_t body_max;                 /* bytes of a request's; 0: the usual */
    struct config_settings settings; /* of the configuration file */
    uint64_t start_us;               /* the process was started before us */
    uint64_t start_cpu_us;
    bool detach;
    bool cold;            /* boots, whatever has been booted before */
    bool stay;            /* without a command: until it is stopped, in front */
    const char *log_file; /* of what is detached; NULL: in the folder */
    /* Bytes for each file that the guest's output goes to; 0: no limit. */
    uint64_t output_limit;
    bool has_output_limit;
    struct jail_options jail;
    bool help;
};

/* The defaults, for who parses another command line. */
void run_options_init(struct run_options *options);

/*
 * Parses; strings point into argv. On failure run_options_fini is still due.
 * `config` is checked (config_check) but for its root drive.
 */
CC_MUST_CHECK int run_options_parse(
    struct run_options *options, int argc, char **argv, struct err *err);
void run_options_fini(struct run_options *options);

#endif
