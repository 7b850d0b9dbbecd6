/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C interface of libnyx, as AFL++ loads it (-X, -Y), in both of its forms.
 *
 * AFL++ up to 4.05c creates runners with nyx_new, nyx_new_parent and
 * nyx_new_child of a directory and more; from 4.06c on with nyx_new of a
 * configuration and a number. One name, two functions: what was made by
 * nyx_config_load tells them apart.
 *
 * Thread rule: a runner belongs to one thread, which is the one that made it:
 * its worker ends with that thread.
 */
#ifndef FUZZ_NYX_H
#define FUZZ_NYX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum NyxReturnValue {
    NYX_NORMAL,
    NYX_CRASH,
    NYX_ASAN,
    NYX_TIMEOUT,
    NYX_INVALID_WRITE_TO_PAYLOAD,
    NYX_ERROR,
    NYX_IO_ERROR,
    NYX_ABORT,
};

enum NyxProcessRole { NYX_STANDALONE, NYX_PARENT, NYX_CHILD };

/* ---- both ---------------------------------------------------------------- */

void nyx_shutdown(void *runner);
void nyx_option_set_reload_mode(void *runner, bool enable);
void nyx_option_set_timeout(void *runner, uint8_t sec, uint32_t usec);
void nyx_option_apply(void *runner);
void nyx_set_afl_input(void *runner, uint8_t *buf, uint32_t size);
enum NyxReturnValue nyx_exec(void *runner);
uint8_t *nyx_get_bitmap_buffer(void *runner);
size_t nyx_get_bitmap_buffer_size(void *runner);
uint32_t nyx_get_aux_string(void *runner, uint8_t *buf, uint32_t size);
void *nyx_get_aux_buffer(void *runner);
void nyx_print_aux_buffer(void *runner);
void nyx_set_hprintf_fd(void *runner, int32_t fd);

/*
 * A runner, or NULL after a line on standard error. `dir` may be a
 * configuration: then the number of the worker is what is in `workdir`.
 */
void *nyx_new(const char *dir, const char *workdir, uint32_t cpu,
    uint32_t input_size, bool write_protection);

/* ---- up to 4.05c --------------------------------------------------------- */

void *nyx_new_parent(const char *dir, const char *workdir, uint32_t cpu,
    uint32_t input_size, bool write_protection);
void *nyx_new_child(
    const char *dir, const char *workdir, uint32_t cpu, uint32_t worker);

/* ---- from 4.06c on: NULL is let be --------------------------------------- */

void *nyx_config_load(const char *dir);
void nyx_config_free(void *config);
void nyx_config_set_workdir_path(void *config, const char *path);
void nyx_config_set_input_buffer_size(void *config, uint32_t size);
void nyx_config_set_input_buffer_write_protection(void *config, bool on);
void nyx_config_set_hprintf_fd(void *config, int32_t fd);
void nyx_config_set_process_role(void *config, enum NyxProcessRole role);
void nyx_config_set_reuse_snapshot_path(void *config, const char *path);
bool nyx_config_set_aux_buffer_size(void *config, uint32_t size);
void nyx_config_print(void *config);
void nyx_config_debug(void *config);
uint64_t nyx_get_target_hash64(void *config);
bool nyx_get_target_hash(void *config, uint8_t *ret_hash);
bool nyx_remove_work_dir(const char *path);

#endif
