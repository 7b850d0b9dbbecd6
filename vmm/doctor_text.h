/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the text files in which Linux describes a host: /proc and cgroup
 * files, given as NUL-terminated text. What is malformed reads as absent.
 * Thread rule: none, nothing is kept.
 */
#ifndef VMM_DOCTOR_TEXT_H
#define VMM_DOCTOR_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

/* A whole decimal number, with white space around it only. */
CC_MUST_CHECK bool doctor_text_number(const char *text, uint64_t *ret_number);

/*
 * The value of the first "key : value" line, cut to `size` bytes with its
 * NUL: /proc/cpuinfo, /proc/meminfo, /proc/self/status.
 */
CC_MUST_CHECK bool doctor_text_field(
    const char *text, const char *key, char *ret_value, size_t size);

/* A /proc/meminfo field, which is in kB; in bytes. */
CC_MUST_CHECK bool doctor_text_meminfo(
    const char *text, const char *key, uint64_t *ret_bytes);

/* Whether `word` is one of the words between white space. */
bool doctor_text_has_word(const char *text, const char *word);

/* The "[chosen]" of "always [madvise] never", without the brackets. */
CC_MUST_CHECK bool doctor_text_choice(
    const char *text, char *ret_value, size_t size);

/* Major and minor of "6.1.0-18-amd64"; 0 if there is none. */
uint32_t doctor_text_release(const char *text); /* major << 16 | minor */

struct doctor_cgroups {
    bool has_v1;
    bool has_v2;
    char v1[160];     /* controllers in v1 hierarchies, by spaces */
    char v2_dir[512]; /* where the v2 hierarchy is mounted */
};

/* From /proc/self/mounts. */
void doctor_text_cgroups(
    const char *mounts, struct doctor_cgroups *ret_cgroups);

/* The path behind "0::" of /proc/self/cgroup. */
CC_MUST_CHECK bool doctor_text_own_cgroup(
    const char *text, char *ret_path, size_t size);

#endif
