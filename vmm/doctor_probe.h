/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probes of `spore doctor`. Each adds its lines to the report whatever it
 * meets, needs no privilege, and leaves the host as it was. Thread rule: one
 * thread in the process, because doctor_probe_kernel forks.
 */
#ifndef VMM_DOCTOR_PROBE_H
#define VMM_DOCTOR_PROBE_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/doctor_report.h"

/* KVM: its extensions, and how fast guest kernels run. */
void doctor_probe_kvm(struct doctor_report *report);

/* The kernel's other services: userfaultfd, io_uring, Landlock, ... */
void doctor_probe_kernel(struct doctor_report *report);

/* Control groups, devices, memory, processor. */
void doctor_probe_host(struct doctor_report *report);

/* Programs and guest images. */
void doctor_probe_files(struct doctor_report *report);

/* The first `size` - 1 bytes of a file as text; false if there are none. */
bool doctor_probe_read(const char *path, char *ret_text, size_t size);

#endif
