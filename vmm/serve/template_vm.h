/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine that a template is made of: a `spore run --stay` of our own
 * binary, in the jail that every machine has, which dies with us.
 *
 * Owns the process. Thread rule: the process's main thread. Hostile: the
 * guest, and with it the machine's process; what they say is checked where it
 * is read, and they are waited for no longer than until a signal comes.
 */
#ifndef VMM_SERVE_TEMPLATE_VM_H
#define VMM_SERVE_TEMPLATE_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/rundir.h"
#include "vmm/serve/interrupt.h"

struct template_vm {
    const struct interrupt *interrupt; /* borrowed */
    char id[RUNDIR_ID_SIZE];
    pid_t pid; /* 0: none */
    int pid_fd;
    int out_fd; /* its standard output */
};

#define TEMPLATE_VM_NONE ((struct template_vm){.pid_fd = -1, .out_fd = -1})

/* All borrowed; as guest_exec has them. */
struct template_vm_command {
    const char *const *argv;
    const char *const *env;
    const char *cwd;
    const char *user;
    bool detach;   /* started, and not waited for */
    bool is_quiet; /* its output goes nowhere */
};

/*
 * Boots it with `options` of spore run (NULL-terminated), and waits until its
 * agent is ready. template_vm_end is due whatever comes of it.
 */
CC_MUST_CHECK int template_vm_start(struct template_vm *vm,
    const struct interrupt *interrupt, char *const *options, struct err *err);

/*
 * Runs a command there, whose output goes to our standard error; *ret_status
 * is as a shell has it. The error is about what kept it from running.
 */
CC_MUST_CHECK int template_vm_exec(struct template_vm *vm,
    const struct template_vm_command *command, int *ret_status,
    struct err *err);

/* Copies the file to `name` in the guest's folder `dir`. */
CC_MUST_CHECK int template_vm_copy(struct template_vm *vm, const char *path,
    const char *dir, const char *name, struct err *err);

/* 1 if somebody listens at this vsock port of the guest, 0 if nobody does. */
CC_MUST_CHECK int template_vm_listens(
    struct template_vm *vm, uint32_t port, struct err *err);

/*
 * The same of a TCP port, of whatever address; with a help file in the folder
 * `scratch_fd`.
 */
CC_MUST_CHECK int template_vm_listens_tcp(
    struct template_vm *vm, uint16_t port, int scratch_fd, struct err *err);

/* Has the guest write to its disks what it has not written yet. */
CC_MUST_CHECK int template_vm_sync(struct template_vm *vm, struct err *err);

/* A snapshot of it in the store `store`, which is made, under `name`. */
CC_MUST_CHECK int template_vm_save(struct template_vm *vm, const char *store,
    const char *name, struct err *err);

/* Ends it, and waits for that. */
void template_vm_end(struct template_vm *vm);

#endif
