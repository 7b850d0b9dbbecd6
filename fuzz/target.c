/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target's directory as a whole, and target.json to a target.
 */
#include "fuzz/target.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/ron.h"
#include "snapshot/dirfile.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/config_reader.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/cmdline.h"

struct reader {
    struct config_reader r; /* for its way through objects and lists */
    struct fuzz_target target;
    char ***list; /* that the elements go to */
    size_t list_count;
    bool has_version;
};

static struct reader *reader_of(struct config_reader *r)
{
    return container_of(r, struct reader, r);
}

static void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

static void free_list(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        free(list[i]);
    free(list);
}

void fuzz_target_fini(struct fuzz_target *target)
{
    free(target->dir);
    free(target->kernel);
    free_list(target->argv);
    free_list(target->env);
    free(target->boot_args);
    *target = (struct fuzz_target){0};
}

/* ---- members ------------------------------------------------------------- */

static int read_version(struct config_reader *r, const json_t *value)
{
    uint64_t version = 0;
    int rc = config_reader_number(r, value, 1, UINT32_MAX, &version);

    if (rc < 0)
        return rc;
    if (version != FUZZ_TARGET_VERSION)
        return config_reader_fail(r, ENOTSUP,
            "%llu is for another spore: pack the target again",
            (unsigned long long)version);
    reader_of(r)->has_version = true;
    return 0;
}

static int read_element(struct config_reader *r, const json_t *value)
{
    struct reader *reader = reader_of(r);
    char **slot = &(*reader->list)[reader->list_count];
    int rc = config_reader_string(r, value, slot);

    if (rc == 0)
        reader->list_count++;
    return rc;
}

static int read_list(
    struct config_reader *r, const json_t *value, char ***ret_list)
{
    struct reader *reader = reader_of(r);
    size_t count = json_array_size(value); /* 0 for what is no list */

    if (count > FUZZ_TARGET_WORDS_MAX)
        return config_reader_fail(
            r, E2BIG, "more than %u words", FUZZ_TARGET_WORDS_MAX);
    free_list(*ret_list);
    *ret_list = calloc(count + 1, sizeof(**ret_list));
    if (*ret_list == NULL)
        return config_reader_fail(r, ENOMEM, "no memory");
    reader->list = ret_list;
    reader->list_count = 0;
    return config_reader_list(r, value, read_element);
}

static int read_argv(struct config_reader *r, const json_t *value)
{
    return read_list(r, value, &reader_of(r)->target.argv);
}

static int read_env(struct config_reader *r, const json_t *value)
{
    return read_list(r, value, &reader_of(r)->target.env);
}

static const char *const inputs[] = {
    [FUZZ_TARGET_STDIN] = "stdin",
    [FUZZ_TARGET_FILE] = "file",
    [FUZZ_TARGET_MEMORY] = "memory",
    [FUZZ_TARGET_SOCKET] = "socket",
};

const char *fuzz_target_input_name(enum fuzz_target_input input)
{
    return inputs[input];
}

int fuzz_target_input_parse(const char *text, enum fuzz_target_input *ret_input)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(inputs); i++) {
        if (strcmp(text, inputs[i]) == 0) {
            *ret_input = (enum fuzz_target_input)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int read_input(struct config_reader *r, const json_t *value)
{
    unsigned int i = 0;
    int rc = config_reader_choice(r, value, inputs, ARRAY_SIZE(inputs), &i);

    if (rc == 0)
        reader_of(r)->target.input = (enum fuzz_target_input)i;
    return rc;
}

static int read_mem(struct config_reader *r, const json_t *value)
{
    uint64_t mib = 0;
    int rc = config_reader_number(r, value, FUZZ_TARGET_MEM_MIN / NUM_MIB,
        FUZZ_TARGET_MEM_MAX / NUM_MIB, &mib);

    if (rc == 0)
        reader_of(r)->target.mem_bytes = mib * NUM_MIB;
    return rc;
}

static int read_boot_timeout(struct config_reader *r, const json_t *value)
{
    return config_reader_number(r, value, 1, FUZZ_TARGET_BOOT_MS_MAX,
        &reader_of(r)->target.boot_timeout_ms);
}

static int read_kernel(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &reader_of(r)->target.kernel);
}

static int read_boot_args(struct config_reader *r, const json_t *value)
{
    return config_reader_string(r, value, &reader_of(r)->target.boot_args);
}

static int read_asan(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &reader_of(r)->target.asan);
}

static int read_levels(struct config_reader *r, const json_t *value)
{
    return config_reader_bool(r, value, &reader_of(r)->target.levels);
}

static int read_root(struct reader *reader, const json_t *root)
{
    static const struct config_key keys[] = {
        {"version", read_version},
        {"argv", read_argv},
        {"env", read_env},
        {"input", read_input},
        {"mem_size_mib", read_mem},
        {"boot_timeout_ms", read_boot_timeout},
        {"kernel", read_kernel},
        {"boot_args", read_boot_args},
        {"asan", read_asan},
        {"levels", read_levels},
    };
    struct config_reader *r = &reader->r;
    int rc = config_reader_object(r, root, keys, ARRAY_SIZE(keys));

    if (rc < 0)
        return rc;
    if (!reader->has_version)
        return config_reader_missing(r, "version");
    if (reader->target.argv == NULL)
        return config_reader_missing(r, "argv");
    return fuzz_target_check(&reader->target, r->err);
}

/* ---- what all members mean together -------------------------------------- */

/* Whether it has printable ASCII and spaces only. */
static bool is_plain(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~')
            return false;
    }
    return true;
}

bool fuzz_target_has_file(char *const *argv)
{
    for (size_t i = 1; argv[i] != NULL; i++) {
        if (strstr(argv[i], FUZZ_TARGET_FILE_MARK) != NULL)
            return true;
    }
    return false;
}

static int check_words(const struct fuzz_target *t, struct err *err)
{
    bool has_file;

    if (t->argv == NULL || t->argv[0] == NULL || t->argv[0][0] != '/')
        return err_set(err, EINVAL,
            "argv: must begin with the absolute path of a program");
    has_file = fuzz_target_has_file(t->argv);
    if (t->input == FUZZ_TARGET_FILE && !has_file)
        return err_set(err, EINVAL,
            "input: \"file\" needs an argument @@ for the file's name");
    if (t->input != FUZZ_TARGET_FILE && has_file)
        return err_set(err, EINVAL,
            "argv: @@ is for input \"file\", and this is \"%s\"",
            fuzz_target_input_name(t->input));
    for (size_t i = 0; t->env != NULL && t->env[i] != NULL; i++) {
        const char *equals = strchr(t->env[i], '=');

        if (equals == NULL || equals == t->env[i])
            return err_set(err, EINVAL, "env[%zu]: must be like NAME=VALUE", i);
    }
    return 0;
}

int fuzz_target_check(const struct fuzz_target *t, struct err *err)
{
    int rc = check_words(t, err);

    if (rc < 0)
        return rc;
    if (t->mem_bytes < FUZZ_TARGET_MEM_MIN ||
        t->mem_bytes > FUZZ_TARGET_MEM_MAX || t->mem_bytes % NUM_MIB != 0)
        return err_set(err, ERANGE,
            "mem_size_mib: must be within %llu and %llu",
            (unsigned long long)(FUZZ_TARGET_MEM_MIN / NUM_MIB),
            (unsigned long long)(FUZZ_TARGET_MEM_MAX / NUM_MIB));
    if (t->boot_args != NULL &&
        (!is_plain(t->boot_args) || strlen(t->boot_args) > CMDLINE_LINUX_MAX))
        return err_set(err, EINVAL,
            "boot_args: must be at most %u characters without control ones",
            CMDLINE_LINUX_MAX);
    if (t->kernel != NULL && t->kernel[0] != '/')
        return err_set(err, EINVAL, "kernel: must be an absolute path");
    return 0;
}

/* ---- files --------------------------------------------------------------- */

static int fill_defaults(struct fuzz_target *t, struct err *err)
{
    if (t->env == NULL)
        t->env = calloc(1, sizeof(*t->env));
    if (t->boot_args == NULL)
        t->boot_args = strdup("");
    if (t->env == NULL || t->boot_args == NULL)
        return err_sys(err, ENOMEM, FUZZ_TARGET_JSON);
    return 0;
}

int fuzz_target_decode(const char *text, size_t size,
    struct fuzz_target *ret_target, struct err *err)
{
    struct reader *reader;
    json_error_t error;
    int rc;

    CC_CLEANUP(json_freep)
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return err_set(err, EINVAL, FUZZ_TARGET_JSON ": line %d, column %d: %s",
            error.line, error.column, error.text);
    reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return err_sys(err, ENOMEM, FUZZ_TARGET_JSON);
    reader->r.err = err;
    reader->target.mem_bytes = FUZZ_TARGET_MEM_DEFAULT;
    reader->target.boot_timeout_ms = FUZZ_TARGET_BOOT_MS_DEFAULT;
    rc = read_root(reader, root);
    if (rc == 0)
        rc = fill_defaults(&reader->target, err);
    if (rc < 0)
        fuzz_target_fini(&reader->target);
    else
        *ret_target = reader->target;
    free(reader);
    return rc < 0 ? err_wrap(err, rc, FUZZ_TARGET_JSON) : 0;
}

/* A directory of Nyx: what it is, is in the guest's hands. */
static int from_ron(const char *text, size_t size,
    struct fuzz_target *ret_target, struct err *err)
{
    struct fuzz_target t = {
        .is_nyx = true,
        .input = FUZZ_TARGET_MEMORY,
        .mem_bytes = FUZZ_TARGET_NYX_MEM_DEFAULT,
        .boot_timeout_ms = FUZZ_TARGET_NYX_BOOT_MS,
    };
    struct fuzz_ron ron;
    int rc = fuzz_ron_read(text, size, &ron, err);

    if (rc < 0)
        return rc;
    if (ron.has_mem_limit) {
        if (ron.mem_limit_mib < FUZZ_TARGET_MEM_MIN / NUM_MIB ||
            ron.mem_limit_mib > FUZZ_TARGET_MEM_MAX / NUM_MIB)
            rc = err_set(err, ERANGE,
                FUZZ_RON_FILE ": mem_limit: %llu MiB is not within %llu to "
                              "%llu",
                (unsigned long long)ron.mem_limit_mib,
                (unsigned long long)(FUZZ_TARGET_MEM_MIN / NUM_MIB),
                (unsigned long long)(FUZZ_TARGET_MEM_MAX / NUM_MIB));
        else
            t.mem_bytes = ron.mem_limit_mib * NUM_MIB;
    }
    fuzz_ron_fini(&ron);
    if (rc < 0)
        return rc;
    t.argv = calloc(1, sizeof(*t.argv));
    rc = t.argv == NULL ? err_sys(err, ENOMEM, FUZZ_RON_FILE)
                        : fill_defaults(&t, err);
    if (rc < 0)
        fuzz_target_fini(&t);
    else
        *ret_target = t;
    return rc;
}

/* The one of the two files that is there. */
static int read_either(
    int dir_fd, struct fuzz_target *ret_target, struct err *err)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int rc = dirfile_read(
        dir_fd, FUZZ_TARGET_JSON, FUZZ_TARGET_JSON_MAX, &data, &size, err);

    if (rc == 0) {
        rc = fuzz_target_decode((const char *)data, size, ret_target, err);
        free(data);
        return rc;
    }
    if (rc != -ENOENT)
        return rc;
    rc = dirfile_read(
        dir_fd, FUZZ_RON_FILE, FUZZ_RON_FILE_MAX, &data, &size, err);
    if (rc == -ENOENT)
        return err_set(err, ENOENT,
            "no target: it has neither " FUZZ_TARGET_JSON " nor " FUZZ_RON_FILE
            " (spore fuzz pack makes one)");
    if (rc < 0)
        return rc;
    rc = from_ron((const char *)data, size, ret_target, err);
    free(data);
    return rc;
}

int fuzz_target_open(
    const char *dir, struct fuzz_target *ret_target, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fuzz_target t;
    int rc;

    if (dir_fd < 0)
        return err_sys(err, errno, "%s", dir);
    rc = read_either(dir_fd, &t, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", dir);
    t.dir = strdup(dir);
    if (t.dir == NULL) {
        fuzz_target_fini(&t);
        return err_sys(err, ENOMEM, "%s", dir);
    }
    *ret_target = t;
    return 0;
}
