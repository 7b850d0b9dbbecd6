/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/debug_file.h"
#include "fuzz/executor.h"
#include "fuzz/files.h"
#include "fuzz/fuzz_say.h"
#include "fuzz/root_image.h"
#include "guest/fuzz/names.h"
#include "guest/fuzz_image.h"
#include "snapshot/dirfile.h"
#include "vmm/base/fd.h"
#include "vmm/progress.h"

#define LIBRARIES "LD_LIBRARY_PATH"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "nobody:x:65534:65534:nobody:/:/bin/false\n";
static const char group[] = "root:x:0:\nnogroup:x:65534:\n";
static const char hosts[] = "127.0.0.1 localhost spore\n::1 localhost\n";

/* Folders that programs and init expect; most are mount points. */
static const char *const folders[] = {"/dev", "/proc", "/sys", "/tmp", "/run",
    "/root", "/bin", "/usr/bin", "/var/tmp"};

/* Where the guest mounts something, or has files of its own. */
static const char *const hidden[] = {
    "/dev/", "/proc/", "/run/", "/spore/", "/sys/", "/tmp/", "/var/tmp/", NULL};

struct packer {
    const struct pack *pack;
    const char *dir;
    void (*warn)(const char *text);
    struct pack_result *result;
    struct closure closure;
    struct fuzz_target target;
    struct words argv;
    struct words env;
    struct root_image image;
    struct err *err;
};

static size_t preload_size(void)
{
    return (size_t)(fuzz_image_preload_end - fuzz_image_preload);
}

static int no_memory(struct packer *p)
{
    return err_sys(p->err, ENOMEM, "%s", p->pack->program);
}

/* ---- what the program is ------------------------------------------------- */

static const char *given_library_path(const struct packer *p)
{
    for (size_t i = 0; i < p->pack->env.count; i++) {
        if (strncmp(p->pack->env.list[i], LIBRARIES "=",
                strlen(LIBRARIES "=")) == 0)
            return p->pack->env.list[i] + strlen(LIBRARIES "=");
    }
    return NULL;
}

static int find_files(struct packer *p)
{
    struct closure_options options = {.library_path = given_library_path(p),
        .preload = fuzz_image_preload,
        .preload_size = preload_size(),
        .hidden = hidden};
    int rc = closure_find(p->pack->program, &options, &p->closure, p->err);
    struct elf_traits *t = &p->result->traits;

    if (rc < 0)
        return rc;
    *t = p->closure.files[0].traits;
    /* An instrumented library brings the runtime, or leaves it to the program;
     * a shared sanitizer is a library of its own. */
    for (size_t i = 1; i < p->closure.count; i++) {
        const struct elf_traits *more = &p->closure.files[i].traits;

        t->has_asan |= more->has_asan;
        t->has_afl |= more->has_afl;
        t->has_persistent |= more->has_persistent;
        t->has_deferred |= more->has_deferred;
    }
    p->result->file_count = p->closure.count;
    p->result->is_static = p->closure.is_static;
    return 0;
}

/* With --input, or by the arguments and what was built in. */
static int choose_input(struct packer *p)
{
    const struct elf_traits *t = &p->result->traits;
    char *const no_args[] = {NULL, NULL};
    char *const *argv = p->argv.list != NULL ? p->argv.list : no_args;

    if (p->pack->has_input)
        p->target.input = p->pack->input;
    else if (fuzz_target_has_file(argv))
        p->target.input = FUZZ_TARGET_FILE;
    else if (!p->closure.is_static &&
             (t->has_persistent || t->has_driver || t->has_harness))
        p->target.input = FUZZ_TARGET_MEMORY;
    else
        p->target.input = FUZZ_TARGET_STDIN;
    p->result->input = p->target.input;
    if (p->closure.is_static && (p->target.input == FUZZ_TARGET_MEMORY ||
                                    p->target.input == FUZZ_TARGET_SOCKET))
        return err_set(p->err, EINVAL,
            "--input %s: a static program takes stdin or file only: link it "
            "without -static",
            fuzz_target_input_name(p->target.input));
    if (p->target.input == FUZZ_TARGET_MEMORY && !t->has_afl && !t->has_harness)
        return err_set(p->err, EINVAL,
            "--input memory: the program does not have AFL++'s shared test "
            "cases: build it with afl-clang-fast, or use stdin or file");
    if (p->target.input == FUZZ_TARGET_SOCKET && p->pack->conf.port == 0)
        return err_set(p->err, EINVAL,
            "--input socket: give the port that the program listens on by "
            "--port");
    if (p->target.input != FUZZ_TARGET_SOCKET &&
        (p->pack->conf.frames || p->pack->conf.levels))
        return err_set(p->err, EINVAL,
            "--%s is for --input socket, and this is %s",
            p->pack->conf.levels ? "levels" : "frames",
            fuzz_target_input_name(p->target.input));
    return 0;
}

/* The preload library is for glibc. */
static int check_libc(struct packer *p)
{
    const char *interp = p->closure.files[0].needs.interp;

    if (interp == NULL || strstr(interp, "/ld-musl") == NULL)
        return 0;
    return err_set(p->err, ENOTSUP,
        "%s: linked against musl: link it against glibc, or with -static, "
        "which is slower",
        p->closure.files[0].path);
}

static void warn_of_traits(struct packer *p)
{
    const struct elf_traits *t = &p->result->traits;

    if (p->pack->is_device)
        return;
    if (p->closure.is_static)
        p->warn("the program is static, so that each run has to start it: "
                "link it without -static for runs that are many times faster");
    if (!t->has_afl)
        p->warn("the program has no coverage map, so that afl-fuzz is blind: "
                "build it with afl-clang-fast (CC=afl-clang-fast)");
    if (t->has_libfuzzer && !t->has_driver)
        p->warn("the program has libFuzzer's own driver: build it with "
                "afl-clang-fast -fsanitize=fuzzer to have AFL++'s");
    if (t->has_tsan)
        p->warn("ThreadSanitizer needs threads that run, and a guest here has "
                "one CPU: build without -fsanitize=thread");
    if (t->has_msan && t->has_asan)
        p->warn("both AddressSanitizer and MemorySanitizer are there: they "
                "exclude each other");
}

/* ---- target.json --------------------------------------------------------- */

/* What was given, and folders that only a cache would lead to. */
static void make_env(struct packer *p)
{
    struct words dirs = {0};
    const char *given = given_library_path(p);

    for (size_t i = 0; i < p->closure.count; i++) {
        const char *search = p->closure.files[i].search;

        if (search != NULL && !words_has(&dirs, search))
            words_add(&dirs, search);
    }
    for (size_t i = 0; i < p->pack->env.count; i++) {
        if (dirs.count == 0 ||
            p->pack->env.list[i] + strlen(LIBRARIES "=") != given)
            words_add(&p->env, p->pack->env.list[i]);
    }
    if (dirs.count > 0) {
        struct words joined = {0};

        words_add(&joined, given == NULL ? "" : given);
        for (size_t i = 0; i < dirs.count && !joined.failed; i++)
            words_addf(&joined, "%s%s%s", joined.list[i],
                joined.list[i][0] == '\0' ? "" : ":", dirs.list[i]);
        if (joined.failed)
            p->env.failed = true;
        else
            words_addf(&p->env, LIBRARIES "=%s", joined.list[joined.count - 1]);
        words_fini(&joined);
    }
    p->env.failed = p->env.failed || dirs.failed;
    words_fini(&dirs);
}

static int describe(struct packer *p)
{
    struct fuzz_target *t = &p->target;
    int rc;

    words_add(&p->argv,
        p->pack->is_device ? p->pack->program : p->closure.files[0].guest);
    for (size_t i = 0; p->pack->args[i] != NULL; i++)
        words_add(&p->argv, p->pack->args[i]);
    make_env(p);
    rc = p->pack->is_device ? 0 : choose_input(p);
    if (rc < 0)
        return rc;
    t->argv = words_steal(&p->argv);
    t->env = words_steal(&p->env);
    t->dir = strdup(p->dir);
    t->boot_args = strdup(p->pack->boot_args == NULL ? "" : p->pack->boot_args);
    if (t->argv == NULL || t->env == NULL || t->dir == NULL ||
        t->boot_args == NULL)
        return no_memory(p);
    if (p->pack->kernel != NULL) {
        t->kernel = realpath(p->pack->kernel, NULL);
        if (t->kernel == NULL)
            return err_sys(p->err, errno, "--kernel: %s", p->pack->kernel);
    }
    t->mem_bytes = p->pack->mem_bytes;
    t->boot_timeout_ms = p->pack->boot_timeout_ms;
    t->asan = p->result->traits.has_asan;
    t->levels = p->pack->conf.levels;
    return fuzz_target_check(t, p->err);
}

/* ---- root.img ------------------------------------------------------------ */

/* Of two for one path the first one stays. */
static int settle(int rc)
{
    return rc == -EEXIST ? 0 : rc;
}

/* Files that the user names come first, so that they can replace ours. */
static int add_given_files(struct packer *p)
{
    for (size_t i = 0; i < p->pack->files.count; i++) {
        const char *both = p->pack->files.list[i];
        const char *colon = strrchr(both, ':');
        char *host;
        int rc;

        if (colon == NULL || colon == both)
            return err_set(
                p->err, EINVAL, "--file %s: must be like HOST:GUEST", both);
        host = strndup(both, (size_t)(colon - both));
        if (host == NULL)
            return no_memory(p);
        for (size_t n = strlen(host); n > 1 && host[n - 1] == '/'; n--)
            host[n - 1] = '\0';
        rc = root_image_add_tree(&p->image, host, colon + 1, p->err);
        free(host);
        if (rc < 0)
            return err_wrap(p->err, rc, "--file");
    }
    return 0;
}

static int add_conf(struct packer *p)
{
    char *data;
    size_t size;
    int rc = pack_encode_conf(
        &p->target, &p->pack->conf, p->pack->is_device, &data, &size, p->err);

    if (rc < 0)
        return rc;
    rc = root_image_add_bytes(
        &p->image, data, size, FUZZ_NAMES_CONF, false, p->err);
    free(data);
    if (rc == -EEXIST)
        return err_set(
            p->err, EEXIST, "--file: " FUZZ_NAMES_CONF " is spore's own");
    return rc;
}

static int add_own_files(struct packer *p)
{
    int rc = add_conf(p);

    if (rc == 0)
        rc = root_image_add_bytes(&p->image, fuzz_image_preload, preload_size(),
            FUZZ_NAMES_PRELOAD, true, p->err);
    if (rc == 0)
        rc = settle(root_image_add_bytes(&p->image, passwd, sizeof(passwd) - 1,
            "/etc/passwd", false, p->err));
    if (rc == 0)
        rc = settle(root_image_add_bytes(
            &p->image, group, sizeof(group) - 1, "/etc/group", false, p->err));
    if (rc == 0)
        rc = settle(root_image_add_bytes(
            &p->image, hosts, sizeof(hosts) - 1, "/etc/hosts", false, p->err));
    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(folders); i++)
        rc = settle(root_image_add_dir(&p->image, folders[i], p->err));
    return rc;
}

static int make_image(struct packer *p)
{
    char *path;
    int rc = add_given_files(p);

    for (size_t i = 0; rc == 0 && i < p->closure.count; i++)
        rc = settle(root_image_add_file(&p->image, p->closure.files[i].path,
            p->closure.files[i].guest, p->err));
    if (rc == 0)
        rc = add_own_files(p);
    if (rc == 0 && p->pack->conf.cwd != NULL)
        rc = settle(root_image_add_dir(&p->image, p->pack->conf.cwd, p->err));
    if (rc < 0)
        return rc;
    if (asprintf(&path, "%s/" FUZZ_TARGET_IMAGE, p->dir) < 0)
        return no_memory(p);
    rc = root_image_write(&p->image, path, p->dir, p->err);
    free(path);
    return rc;
}

/* ---- files.json ---------------------------------------------------------- */

/* Fills the entry; strings are the caller's to free. */
static int note_file(const struct closure_file *from, struct files_entry *entry)
{
    struct debug_file *file;

    entry->guest = strdup(from->guest);
    entry->host = strdup(from->path);
    if (entry->guest == NULL || entry->host == NULL)
        return -ENOMEM;
    if (debug_file_open(from->path, NULL, &file, NULL) < 0)
        return 0;
    if (debug_file_build_id(file)[0] != '\0')
        entry->build_id = strdup(debug_file_build_id(file));
    debug_file_free(file);
    return 0;
}

/* Where what is in the guest came from, for whoever looks at a crash. */
static int note_files(struct packer *p)
{
    CC_CLEANUP(fd_closep) int dir_fd = -1;
    struct files files = {0};
    char *text = NULL;
    int rc = 0;

    files.entries = calloc(p->closure.count + 1, sizeof(*files.entries));
    if (files.entries == NULL)
        return no_memory(p);
    for (size_t i = 0; rc == 0 && i < p->closure.count; i++)
        rc = note_file(&p->closure.files[i], &files.entries[files.count++]);
    if (rc == 0)
        text = files_to_json(&files);
    files_fini(&files);
    if (text == NULL)
        return no_memory(p);
    dir_fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = dir_fd < 0
             ? err_sys(p->err, errno, "%s", p->dir)
             : dirfile_replace(dir_fd, FILES_NAME, text, strlen(text), p->err);
    free(text);
    return rc;
}

/* ---- the root ------------------------------------------------------------ */

static int boot(struct packer *p)
{
    struct executor_options options = {
        .print_fd = p->pack->is_verbose ? STDERR_FILENO : -1,
        .seeds = p->pack->seeds.list,
        .seed_count = p->pack->seeds.count,
    };
    struct progress *progress =
        progress_start("spore: fuzz pack: booting the target to its root");
    struct executor *ex = NULL;
    int rc = executor_boot(&p->target, &options, &ex, p->err);

    progress_end(progress);
    if (rc < 0)
        return rc;
    p->result->map_size = executor_map_size(ex);
    progress = progress_start("spore: fuzz pack: saving the root");
    rc = executor_save(ex, p->err);
    progress_end(progress);
    executor_free(ex);
    return rc;
}

static int check_device(struct packer *p)
{
    if (strncmp(p->pack->program, "/dev/", 5) != 0)
        return err_set(p->err, EINVAL,
            "--kernel-device %s: must be a device in the guest, /dev/...",
            p->pack->program);
    if (p->pack->kernel == NULL)
        return err_set(p->err, EINVAL,
            "--kernel-device: give a kernel with CONFIG_KCOV by --kernel, "
            "such as guest/kernel/build_kcov.sh makes");
    return 0;
}

static int make(struct packer *p)
{
    struct progress *progress;
    int rc = p->pack->is_device ? check_device(p) : find_files(p);

    if (rc == 0 && !p->pack->is_device)
        rc = check_libc(p);
    if (rc == 0)
        rc = describe(p);
    if (rc < 0)
        return rc;
    progress = progress_start("spore: fuzz pack: making the image");
    rc = make_image(p);
    if (rc == 0)
        rc = note_files(p);
    progress_end(progress);
    if (rc == 0)
        rc = fuzz_target_write(&p->target, p->err);
    if (rc < 0)
        return rc;
    warn_of_traits(p);
    return p->pack->no_boot ? 0 : boot(p);
}

int pack_make(const struct pack *pack, const char *dir,
    void (*warn)(const char *text), struct pack_result *ret_result,
    struct err *err)
{
    struct pack_result result = {0};
    struct packer p = {
        .pack = pack, .dir = dir, .warn = warn, .result = &result, .err = err};
    int rc = make(&p);

    closure_fini(&p.closure);
    words_fini(&p.argv);
    words_fini(&p.env);
    root_image_fini(&p.image);
    fuzz_target_fini(&p.target);
    if (rc == 0)
        *ret_result = result;
    return rc;
}
