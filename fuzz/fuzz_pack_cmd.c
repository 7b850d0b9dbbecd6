/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/fuzz_pack_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/fuzz_say.h"
#include "fuzz/pack.h"
#include "vmm/config_text.h"
#include "vmm/folder.h"

#define VERB "pack"

static const char usage[] =
    "usage: spore fuzz pack PROGRAM [-o DIR] [options] [-- ARGUMENT...]\n"
    "\n"
    "Makes a target out of a program: an image with it and all that it needs,\n"
    "and a snapshot of a guest in which it is about to read its input.\n"
    "\n"
    "  -o, --output DIR    the target, which is not there yet; else\n"
    "                      PROGRAM.fuzz in this folder\n"
    "  --input WAY         how the program gets its input: stdin, file (its\n"
    "                      name is the argument @@), memory (AFL++'s shared\n"
    "                      test cases), socket; else found out\n"
    "  --port N            that it listens on, for --input socket\n"
    "  --frames            inputs are packets, each behind its length of 16 "
    "bits\n"
    "  --levels            and what they begin with in common is run once: a\n"
    "                      snapshot behind it is what they begin at\n"
    "  --env NAME=VALUE    more of its environment\n"
    "  --file HOST:GUEST   a file or folder more in the image\n"
    "  --cwd DIR           folder that the program starts in (/tmp)\n"
    "  --seed FILE|DIR     inputs that show which memory runs need\n"
    "  --memory SIZE       of the guest, as 256M (256M)\n"
    "  --kernel FILE       the guest's kernel; else spore's\n"
    "  --kernel-device DEV what is fuzzed is that kernel, which has to have\n"
    "                      CONFIG_KCOV: inputs are written to DEV, and there "
    "is\n"
    "                      no PROGRAM\n"
    "  --boot-args WORDS   more of its command line\n"
    "  --boot-timeout S    seconds until the root is reached (120)\n"
    "  --conf KEY=VALUE    for the agent: clock, cmplog, map, seed\n"
    "                      (spore-fuzz(1))\n"
    "  --no-boot           no snapshot: whoever runs it first makes that\n"
    "  --verbose           what the guest prints, on standard error\n"
    "  --help              print this text\n"
    "\n"
    "Exit status: 0; 2 for a bad command line; 125 for other failures, after\n"
    "which there is no DIR.\n";

enum {
    OPT_INPUT = 256,
    OPT_PORT,
    OPT_FRAMES,
    OPT_LEVELS,
    OPT_ENV,
    OPT_FILE,
    OPT_CWD,
    OPT_SEED,
    OPT_MEMORY,
    OPT_KERNEL,
    OPT_KERNEL_DEVICE,
    OPT_BOOT_ARGS,
    OPT_BOOT_TIMEOUT,
    OPT_CONF,
    OPT_NO_BOOT,
    OPT_VERBOSE
};

static const struct option rows[] = {
    {"output", required_argument, NULL, 'o'},
    {"input", required_argument, NULL, OPT_INPUT},
    {"port", required_argument, NULL, OPT_PORT},
    {"frames", no_argument, NULL, OPT_FRAMES},
    {"levels", no_argument, NULL, OPT_LEVELS},
    {"env", required_argument, NULL, OPT_ENV},
    {"file", required_argument, NULL, OPT_FILE},
    {"cwd", required_argument, NULL, OPT_CWD},
    {"seed", required_argument, NULL, OPT_SEED},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"kernel-device", required_argument, NULL, OPT_KERNEL_DEVICE},
    {"boot-args", required_argument, NULL, OPT_BOOT_ARGS},
    {"boot-timeout", required_argument, NULL, OPT_BOOT_TIMEOUT},
    {"conf", required_argument, NULL, OPT_CONF},
    {"no-boot", no_argument, NULL, OPT_NO_BOOT},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void warn(const char *text)
{
    fuzz_say_warning(VERB, "%s", text);
}

/* ---- options ------------------------------------------------------------- */

static int set_input(struct pack *pack, const char *value, struct err *err)
{
    if (fuzz_target_input_parse(value, &pack->input) < 0)
        return err_set(err, EINVAL,
            "'%.64s' is none of stdin, file, memory and socket", value);
    pack->has_input = true;
    return 0;
}

static int set_port(struct pack *pack, const char *value, struct err *err)
{
    uint64_t port = 0;
    int rc = config_parse_number(value, 1, UINT16_MAX, &port, err);

    if (rc == 0)
        pack->conf.port = (uint16_t)port;
    return rc;
}

static int set_boot_timeout(
    struct pack *pack, const char *value, struct err *err)
{
    uint64_t seconds = 0;
    int rc = config_parse_number(
        value, 1, FUZZ_TARGET_BOOT_MS_MAX / 1000, &seconds, err);

    if (rc == 0)
        pack->boot_timeout_ms = seconds * 1000;
    return rc;
}

static int set_env(struct pack *pack, const char *value, struct err *err)
{
    if (value[0] == '=' || strchr(value, '=') == NULL)
        return err_set(err, EINVAL, "'%.64s' must be like NAME=VALUE", value);
    words_add(&pack->env, value);
    return pack->env.failed ? err_sys(err, ENOMEM, "'%.64s'", value) : 0;
}

static int set_conf(struct pack *pack, const char *value, struct err *err)
{
    static const char *const keys[] = {"clock=", "cmplog=", "map=", "seed="};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strncmp(value, keys[i], strlen(keys[i])) == 0) {
            words_add(&pack->conf.more, value);
            return 0;
        }
    }
    return err_set(err, EINVAL,
        "'%.64s' must be like KEY=VALUE with clock, cmplog, map or "
        "seed as key",
        value);
}

static int set_cwd(struct pack *pack, const char *value, struct err *err)
{
    if (value[0] != '/')
        return err_set(err, EINVAL,
            "'%.64s' must be an absolute path in the guest", value);
    pack->conf.cwd = value;
    return 0;
}

static int set_option(
    struct pack *pack, int opt, const char *value, struct err *err)
{
    switch (opt) {
    case 'o':
        pack->out = value;
        return 0;
    case OPT_INPUT:
        return set_input(pack, value, err);
    case OPT_PORT:
        return set_port(pack, value, err);
    case OPT_FRAMES:
        pack->conf.frames = true;
        return 0;
    case OPT_LEVELS:
        pack->conf.frames = true;
        pack->conf.levels = true;
        return 0;
    case OPT_ENV:
        return set_env(pack, value, err);
    case OPT_FILE:
        words_add(&pack->files, value);
        return 0;
    case OPT_CWD:
        return set_cwd(pack, value, err);
    case OPT_SEED:
        return inputs_add(&pack->seeds, value, err);
    case OPT_MEMORY:
        return config_parse_size(value, &pack->mem_bytes, err);
    case OPT_KERNEL:
        pack->kernel = value;
        return 0;
    case OPT_KERNEL_DEVICE:
        pack->program = value;
        pack->is_device = true;
        return 0;
    case OPT_BOOT_ARGS:
        pack->boot_args = value;
        return 0;
    case OPT_BOOT_TIMEOUT:
        return set_boot_timeout(pack, value, err);
    case OPT_CONF:
        return set_conf(pack, value, err);
    case OPT_NO_BOOT:
        pack->no_boot = true;
        return 0;
    default:
        pack->is_verbose = true;
        return 0;
    }
}

static const char *option_name(int opt)
{
    for (const struct option *row = rows; row->name != NULL; row++) {
        if (row->val == opt)
            return row->name;
    }
    return "";
}

/* Options may be on both sides of the program, and end at --. */
static int read_options(int argc, char **argv, struct pack *pack)
{
    const char *program = NULL;
    struct err err;
    int end = argc;
    int opt;

    for (int i = 1; i < end; i++) {
        if (strcmp(argv[i], "--") == 0)
            end = i;
    }
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(end, argv, "-:ho:", rows, NULL)) != -1) {
        if (opt == 1 && program == NULL) {
            program = optarg;
        } else if (opt == 1) {
            return fuzz_say_usage(
                VERB, "the program's arguments go behind --: ", optarg);
        } else if (opt == 'h') {
            (void)fputs(usage, stdout);
            return -1;
        } else if (opt == ':') {
            return fuzz_say_usage(
                VERB, "a value is missing behind ", argv[optind - 1]);
        } else if (opt == '?') {
            return fuzz_say_usage(VERB, "unknown option ", argv[optind - 1]);
        } else if (set_option(pack, opt, optarg, &err) < 0) {
            (void)fprintf(stderr, "spore: fuzz " VERB ": --%s: %s\n",
                option_name(opt), err.text);
            return FUZZ_STATUS_USAGE;
        }
    }
    if (program != NULL && pack->is_device)
        return fuzz_say_usage(
            VERB, "there is no program with --kernel-device: ", program);
    if (program == NULL && !pack->is_device)
        return fuzz_say_usage(VERB, "the program is missing", "");
    if (!pack->is_device)
        pack->program = program;
    pack->args = argv + (end < argc ? end + 1 : argc);
    if (pack->is_device && pack->args[0] != NULL)
        return fuzz_say_usage(VERB,
            "there are no arguments with --kernel-device: ", pack->args[0]);
    if (pack->files.failed || pack->conf.more.failed)
        return fuzz_say_usage(VERB, "there is no memory for the options", "");
    return 0;
}

/* ---- in a process of its own, so that nothing half made stays ------------ */

static void print_result(const struct pack *pack, const struct pack_result *r)
{
    char map[64] = "";

    if (r->map_size > 0)
        (void)snprintf(map, sizeof(map), ", map of %zu bytes", r->map_size);
    if (pack->is_device)
        (void)printf("%s: input to %s, coverage by KCOV%s%s\n", pack->out,
            pack->program, map, pack->no_boot ? ", no snapshot yet" : "");
    else
        (void)printf("%s: input by %s, %zu files%s%s%s\n", pack->out,
            fuzz_target_input_name(r->input), r->file_count,
            r->traits.has_asan ? ", AddressSanitizer" : "", map,
            pack->no_boot ? ", no snapshot yet" : "");
}

static int pack_into(const struct pack *pack, const char *dir)
{
    struct pack_result result;
    struct err err;

    if (pack_make(pack, dir, warn, &result, &err) < 0)
        return fuzz_say_failed(VERB, &err);
    if (renameat2(AT_FDCWD, dir, AT_FDCWD, pack->out, RENAME_NOREPLACE) < 0) {
        (void)err_sys(&err, errno, "%s", pack->out);
        return fuzz_say_failed(VERB, &err);
    }
    print_result(pack, &result);
    return 0;
}

/* Status of the child, whose end nothing can take from us but our own. */
static int watch(pid_t pid, const sigset_t *signals)
{
    int status;

    for (;;) {
        int sig = sigwaitinfo(signals, NULL);

        if (sig == SIGCHLD && waitpid(pid, &status, WNOHANG) == pid)
            break;
        if (sig > 0 && sig != SIGCHLD) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return 128 + sig;
        }
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    (void)fprintf(
        stderr, "spore: fuzz " VERB ": ended by signal %d\n", WTERMSIG(status));
    return FUZZ_STATUS_FAILED;
}

static int run_in_child(const struct pack *pack, const char *dir)
{
    pid_t parent = getpid();
    sigset_t signals;
    sigset_t before;
    pid_t pid;
    int status;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &signals, &before);
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
            _exit(FUZZ_STATUS_FAILED);
        status = pack_into(pack, dir);
        (void)fflush(NULL);
        _exit(status);
    }
    if (pid < 0) {
        (void)fprintf(stderr, "spore: fuzz " VERB ": no process: %s\n",
            strerrordesc_np(errno));
        status = FUZZ_STATUS_FAILED;
    } else {
        status = watch(pid, &signals);
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}

static int pack_all(const struct pack *pack)
{
    struct stat st;
    struct err err;
    char *dir;
    int status;

    if (lstat(pack->out, &st) == 0) {
        (void)err_set(&err, EEXIST,
            "%s: is there already: remove it, or give another name by -o",
            pack->out);
        return fuzz_say_failed(VERB, &err);
    }
    if (folder_make_beside(pack->out, &dir, &err) < 0)
        return fuzz_say_failed(VERB, &err);
    status = run_in_child(pack, dir);
    /* Gone by that name if all went well. */
    folder_remove(dir);
    free(dir);
    return status;
}

/* PROGRAM.fuzz, here. */
static char *default_out(const char *program)
{
    const char *slash = strrchr(program, '/');
    char *out;

    return asprintf(&out, "%s.fuzz", slash == NULL ? program : slash + 1) < 0
               ? NULL
               : out;
}

int fuzz_pack_cmd(int argc, char **argv)
{
    struct pack pack = {.mem_bytes = FUZZ_TARGET_MEM_DEFAULT,
        .boot_timeout_ms = FUZZ_TARGET_BOOT_MS_DEFAULT};
    char *own_out = NULL;
    int status = read_options(argc, argv, &pack);

    if (status == 0 && pack.out == NULL) {
        own_out = default_out(pack.program);
        pack.out = own_out;
    }
    if (status == 0 && pack.out != NULL)
        status = pack_all(&pack);
    free(own_out);
    words_fini(&pack.env);
    words_fini(&pack.files);
    words_fini(&pack.conf.more);
    inputs_fini(&pack.seeds);
    return status < 0 ? 0 : status;
}
