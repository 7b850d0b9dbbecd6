/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/dirfile.h"
#include "vmm/base/fd.h"

#define BUNDLE_VERSION 1
#define NUMBER_SIZE    19 /* "0x", 16 digits, NUL */

static const char *const verdict_names[FUZZ_VERDICTS] = {
    [FUZZ_OK] = "ok",
    [FUZZ_CRASH] = "crash",
    [FUZZ_SANITIZER] = "sanitizer",
    [FUZZ_HANG] = "hang",
    [FUZZ_INPUT_WRITE] = "input-write",
    [FUZZ_ABORT] = "abort",
};

static const char *const reg_names[UNWIND_REGS] = {"rax", "rdx", "rcx", "rbx",
    "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "rip"};

/* The files but result.json. */
static const struct {
    const char *name;
    size_t max;
} parts[BUNDLE_PARTS] = {
    [BUNDLE_INPUT] = {"input", BUNDLE_INPUT_MAX},
    [BUNDLE_BACKTRACE] = {"backtrace.txt", BUNDLE_TEXT_MAX},
    [BUNDLE_REPORT] = {"report.txt", BUNDLE_TEXT_MAX},
    [BUNDLE_MAPS] = {"maps", BUNDLE_TEXT_MAX},
};

const char *bundle_verdict_name(enum fuzz_verdict verdict)
{
    return verdict_names[verdict];
}

void bundle_fini(struct bundle *bundle)
{
    for (size_t i = 0; i < BUNDLE_PARTS; i++)
        free(bundle->parts[i].text);
    free(bundle->snapshot);
    *bundle = (struct bundle){0};
}

/* ---- result.json --------------------------------------------------------- */

static json_t *number_to_json(uint64_t value)
{
    char text[NUMBER_SIZE];

    (void)snprintf(text, sizeof(text), "0x%016" PRIx64, value);
    return json_string(text);
}

static json_t *result_to_json(const struct bundle *b)
{
    json_t *regs = NULL;

    if (b->has_regs) {
        regs = json_object();
        for (size_t i = 0; i < UNWIND_REGS; i++)
            (void)json_object_set_new(
                regs, reg_names[i], number_to_json(b->regs[i]));
    }
    return json_pack("{s:i, s:s, s:I, s:I, s:o, s:o, s:s*, s:o*}", "version",
        BUNDLE_VERSION, "verdict", verdict_names[b->verdict], "status",
        (json_int_t)b->status, "signal", (json_int_t)b->signal, "rip",
        number_to_json(b->rip), "stack_hash", number_to_json(b->stack_hash),
        "snapshot", b->snapshot, "registers", regs);
}

/* What number_to_json writes, and nothing else. */
static bool parse_number(const json_t *value, uint64_t *ret_number)
{
    const char *text = json_string_value(value);
    char *end;
    uint64_t number;

    if (text == NULL || strlen(text) != NUMBER_SIZE - 1 ||
        strncmp(text, "0x", 2) != 0 ||
        strspn(text + 2, "0123456789abcdef") != NUMBER_SIZE - 3)
        return false;
    number = strtoull(text + 2, &end, 16);
    *ret_number = number;
    return true;
}

static int parse_regs(json_t *object, struct bundle *b, struct err *err)
{
    if (!json_is_object(object) || json_object_size(object) != UNWIND_REGS)
        return err_set(
            err, EINVAL, BUNDLE_RESULT ": registers: not the ones of a CPU");
    for (size_t i = 0; i < UNWIND_REGS; i++) {
        if (!parse_number(json_object_get(object, reg_names[i]), &b->regs[i]))
            return err_set(err, EINVAL,
                BUNDLE_RESULT ": registers.%s is no number in 0x and 16 digits",
                reg_names[i]);
    }
    b->has_regs = true;
    return 0;
}

static int parse_verdict(const char *name, struct bundle *b, struct err *err)
{
    for (unsigned int i = 0; i < FUZZ_VERDICTS; i++) {
        if (strcmp(name, verdict_names[i]) == 0) {
            b->verdict = (enum fuzz_verdict)i;
            return 0;
        }
    }
    return err_set(err, EINVAL, BUNDLE_RESULT ": verdict is not known");
}

static int parse_members(json_t *root, struct bundle *b, struct err *err)
{
    const char *snapshot = NULL;
    const char *verdict;
    json_t *regs = NULL;
    json_t *rip;
    json_t *hash;
    json_int_t status;
    json_int_t signal;
    int version;
    json_error_t why;

    if (json_unpack_ex(root, &why, JSON_STRICT,
            "{s:i, s:s, s:I, s:I, s:o, s:o, s?s, s?o}", "version", &version,
            "verdict", &verdict, "status", &status, "signal", &signal, "rip",
            &rip, "stack_hash", &hash, "snapshot", &snapshot, "registers",
            &regs) < 0)
        return err_set(err, EINVAL, BUNDLE_RESULT ": %s", why.text);
    if (version != BUNDLE_VERSION)
        return err_set(err, EINVAL,
            BUNDLE_RESULT ": version %d, this spore knows %d", version,
            BUNDLE_VERSION);
    if (status < INT32_MIN || status > INT32_MAX || signal < 0 || signal > 64)
        return err_set(
            err, EINVAL, BUNDLE_RESULT ": status or signal is out of range");
    if (!parse_number(rip, &b->rip) || !parse_number(hash, &b->stack_hash))
        return err_set(err, EINVAL,
            BUNDLE_RESULT
            ": rip or stack_hash is no number in 0x and 16 digits");
    if (snapshot != NULL && strlen(snapshot) > BUNDLE_SNAPSHOT_MAX)
        return err_set(err, EINVAL, BUNDLE_RESULT ": snapshot is too long");
    b->status = (int32_t)status;
    b->signal = (uint32_t)signal;
    if (snapshot != NULL && (b->snapshot = strdup(snapshot)) == NULL)
        return err_sys(err, ENOMEM, BUNDLE_RESULT);
    if (regs != NULL && parse_regs(regs, b, err) < 0)
        return -EINVAL;
    return parse_verdict(verdict, b, err);
}

int bundle_parse_result(
    const char *text, size_t size, struct bundle *ret_bundle, struct err *err)
{
    struct bundle b = {0};
    json_error_t why;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    int rc;

    if (root == NULL)
        return err_set(
            err, EINVAL, BUNDLE_RESULT ":%d: %s", why.line, why.text);
    rc = parse_members(root, &b, err);
    json_decref(root);
    if (rc < 0) {
        bundle_fini(&b);
        return rc;
    }
    *ret_bundle = b;
    return 0;
}

/* ---- reading ------------------------------------------------------------- */

static int read_parts(int dir_fd, struct bundle *b, struct err *err)
{
    for (size_t i = 0; i < BUNDLE_PARTS; i++) {
        struct bundle_text *part = &b->parts[i];
        uint8_t *data;
        int rc = dirfile_read(
            dir_fd, parts[i].name, parts[i].max, &data, &part->size, err);

        /* Only the input is always there. */
        if (rc == -ENOENT && i != BUNDLE_INPUT)
            continue;
        if (rc < 0)
            return rc;
        part->text = realloc(data, part->size + 1);
        if (part->text == NULL) {
            free(data);
            return err_sys(err, ENOMEM, "%s", parts[i].name);
        }
        part->text[part->size] = '\0';
    }
    return 0;
}

int bundle_read(const char *path, struct bundle *ret_bundle, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct bundle b = {0};
    uint8_t *text;
    size_t size;
    int rc;

    if (dir_fd < 0)
        return err_sys(err, errno, "%s", path);
    rc =
        dirfile_read(dir_fd, BUNDLE_RESULT, BUNDLE_TEXT_MAX, &text, &size, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", path);
    rc = bundle_parse_result((const char *)text, size, &b, err);
    free(text);
    if (rc == 0)
        rc = read_parts(dir_fd, &b, err);
    if (rc < 0) {
        bundle_fini(&b);
        return err_wrap(err, rc, "%s", path);
    }
    *ret_bundle = b;
    return 0;
}

int bundle_read_input(
    const char *path, struct bundle_text *ret_input, struct err *err)
{
    struct bundle bundle;
    struct stat st;
    uint8_t *bytes;
    int rc;

    if (stat(path, &st) < 0)
        return err_sys(err, errno, "%s", path);
    if (!S_ISDIR(st.st_mode)) {
        rc =
            fd_read_file(path, BUNDLE_INPUT_MAX, &bytes, &ret_input->size, err);
        if (rc == 0)
            ret_input->text = (char *)bytes;
        return rc;
    }
    rc = bundle_read(path, &bundle, err);
    if (rc < 0)
        return rc;
    *ret_input = bundle.parts[BUNDLE_INPUT];
    bundle.parts[BUNDLE_INPUT] = (struct bundle_text){0};
    bundle_fini(&bundle);
    return 0;
}

/* ---- writing ------------------------------------------------------------- */

static int write_file(int dir_fd, const char *name, const void *data,
    size_t size, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd =
        openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int rc = fd < 0 ? -errno : fd_write_full(fd, data, size);

    return rc < 0 ? err_sys(err, rc, "%s", name) : 0;
}

static int write_files(int dir_fd, const struct bundle *b, struct err *err)
{
    json_t *root = result_to_json(b);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    int rc = text == NULL
                 ? err_sys(err, ENOMEM, BUNDLE_RESULT)
                 : write_file(dir_fd, BUNDLE_RESULT, text, strlen(text), err);

    json_decref(root);
    free(text);
    for (size_t i = 0; rc == 0 && i < BUNDLE_PARTS; i++) {
        const struct bundle_text *part = &b->parts[i];

        if (part->text != NULL || i == BUNDLE_INPUT)
            rc = write_file(dir_fd, parts[i].name,
                part->text != NULL ? part->text : "", part->size, err);
    }
    return rc;
}

/* Takes back what was made so far. */
static void remove_files(int parent_fd, int dir_fd, const char *name)
{
    (void)unlinkat(dir_fd, BUNDLE_RESULT, 0);
    for (size_t i = 0; i < BUNDLE_PARTS; i++)
        (void)unlinkat(dir_fd, parts[i].name, 0);
    (void)unlinkat(parent_fd, name, AT_REMOVEDIR);
}

static int write_directory(int parent_fd, const char *temporary,
    const char *name, const struct bundle *bundle, struct err *err)
{
    CC_CLEANUP(fd_closep) int dir_fd = -1;
    int rc;

    if (mkdirat(parent_fd, temporary, 0777) < 0)
        return err_sys(err, errno, "%s", temporary);
    dir_fd = openat(
        parent_fd, temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir_fd < 0)
        return err_sys(err, errno, "%s", temporary);
    rc = write_files(dir_fd, bundle, err);
    if (rc == 0 &&
        renameat2(parent_fd, temporary, parent_fd, name, RENAME_NOREPLACE) < 0)
        rc = err_sys(err, errno, "%s", name);
    if (rc < 0)
        remove_files(parent_fd, dir_fd, temporary);
    return rc;
}

int bundle_write(const char *parent, const char *name,
    const struct bundle *bundle, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *temporary = NULL;
    int rc;

    if (parent_fd < 0)
        return err_sys(err, errno, "%s", parent);
    if (asprintf(&temporary, ".%s.%d", name, getpid()) < 0)
        return err_sys(err, ENOMEM, "%s", name);
    rc = write_directory(parent_fd, temporary, name, bundle, err);
    free(temporary);
    return rc < 0 ? err_wrap(err, rc, "%s", parent) : 0;
}
