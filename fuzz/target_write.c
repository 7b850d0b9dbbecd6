/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target to target.json and config.ron.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/ron.h"
#include "fuzz/target.h"
#include "snapshot/dirfile.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

static void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

/* NULL where a word is no UTF-8, or for lack of memory. */
static json_t *pack_list(char *const *list)
{
    json_t *array = json_array();

    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        if (json_array_append_new(array, json_string(list[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

int fuzz_target_encode(
    const struct fuzz_target *t, char **ret_text, struct err *err)
{
    json_t *argv = pack_list(t->argv);
    json_t *env = pack_list(t->env);
    char *body = NULL;
    int n = -1;

    /* json_pack takes both lists, whether it succeeds or not. */
    CC_CLEANUP(json_freep)
    json_t *root =
        json_pack("{s:i, s:o, s:o, s:s, s:I, s:I, s:s*, s:s, s:b, s:b}",
            "version", FUZZ_TARGET_VERSION, "argv", argv, "env", env, "input",
            fuzz_target_input_name(t->input), "mem_size_mib",
            (json_int_t)(t->mem_bytes / NUM_MIB), "boot_timeout_ms",
            (json_int_t)t->boot_timeout_ms, "kernel", t->kernel, "boot_args",
            t->boot_args == NULL ? "" : t->boot_args, "asan", t->asan, "levels",
            t->levels);
    if (root == NULL)
        return err_set(err, EINVAL,
            FUZZ_TARGET_JSON ": cannot be written: its words have to be UTF-8");
    body = json_dumps(root, JSON_INDENT(2));
    if (body != NULL)
        n = asprintf(ret_text, "%s\n", body);
    free(body);
    return n < 0 ? err_sys(err, ENOMEM, FUZZ_TARGET_JSON) : 0;
}

/*
 * What Nyx's own tools read is whole in itself: it names itself as the file of
 * defaults, and every member that they ask for is there.
 */
static int encode_ron(
    const struct fuzz_target *t, char **ret_text, struct err *err)
{
    int n = asprintf(ret_text,
        "#![enable(implicit_some)]\n"
        "// For afl-fuzz -X and -Y: spore reads " FUZZ_TARGET_JSON ".\n"
        "(\n"
        "    include_default_config_path: \"" FUZZ_RON_FILE "\",\n"
        "    runner: QemuKernel((\n"
        "        qemu_binary: \"/bin/false\",\n"
        "        kernel: \"/dev/null\",\n"
        "        ramfs: \"/dev/null\",\n"
        "        debug: false,\n"
        "    )),\n"
        "    fuzz: (\n"
        "        workdir_path: \"/tmp/workdir\",\n"
        "        bitmap_size: 65536,\n"
        "        mem_limit: %llu,\n"
        "        time_limit: (secs: 0, nanos: 80000000),\n"
        "        threads: 1,\n"
        "        thread_id: 0,\n"
        "        cpu_pin_start_at: 0,\n"
        "        snapshot_placement: none,\n"
        "        seed_path: \"\",\n"
        "        dict: [],\n"
        "        ip0: (a: 0, b: 0),\n"
        "        ip1: (a: 0, b: 0),\n"
        "        ip2: (a: 0, b: 0),\n"
        "        ip3: (a: 0, b: 0),\n"
        "    ),\n"
        ")\n",
        (unsigned long long)(t->mem_bytes / NUM_MIB));

    return n < 0 ? err_sys(err, ENOMEM, FUZZ_RON_FILE) : 0;
}

static int replace(int dir_fd, const char *name,
    int (*encode)(const struct fuzz_target *, char **, struct err *),
    const struct fuzz_target *t, struct err *err)
{
    char *text = NULL;
    int rc = encode(t, &text, err);

    if (rc < 0)
        return rc;
    rc = dirfile_replace(dir_fd, name, text, strlen(text), err);
    free(text);
    return rc;
}

int fuzz_target_write(const struct fuzz_target *target, struct err *err)
{
    CC_CLEANUP(fd_closep) int dir_fd = -1;
    int rc = fuzz_target_check(target, err);

    if (rc < 0)
        return err_wrap(err, rc, FUZZ_TARGET_JSON);
    dir_fd = open(target->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return err_sys(err, errno, "%s", target->dir);
    rc = replace(dir_fd, FUZZ_TARGET_JSON, fuzz_target_encode, target, err);
    if (rc == 0)
        rc = replace(dir_fd, FUZZ_RON_FILE, encode_ron, target, err);
    return rc < 0 ? err_wrap(err, rc, "%s", target->dir) : 0;
}
