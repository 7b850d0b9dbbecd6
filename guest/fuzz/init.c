/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process 1 of a guest that fuzzes: makes the file systems, reads fuzz.conf
 * and starts the program with the preload library in it. The library calls
 * ROOT at the place it finds best; if the program ends before that, it is
 * started again with the root as early as can be, and if that does not help
 * either, the executor is told why. After the root init has one thing to do:
 * tell the status of a program that ended in a way of its own.
 *
 * In the guest of a share directory of Nyx it is Nyx's loader (share.h), and
 * under the names of Nyx's tools each of them (tools.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/mount.h"
#include "guest/agent/options.h"
#include "guest/agent/report.h"
#include "guest/agent/text.h"
#include "guest/fuzz/alone.h"
#include "guest/fuzz/call.h"
#include "guest/fuzz/conf.h"
#include "guest/fuzz/environ.h"
#include "guest/fuzz/kernel.h"
#include "guest/fuzz/names.h"
#include "guest/fuzz/program.h"
#include "guest/fuzz/share.h"
#include "guest/fuzz/tools.h"

#define CMDLINE_MAX 4096u
#define TEXT_MAX    4096u /* what USER_ABORT can carry */
#define NO_PORT     "the kernel gives no access to ports (ioperm)"
#define TAIL_MAX    2048u /* of the program's output in it */

struct init {
    struct options options;
    struct conf conf;
    struct environ_list environ;
    struct program program;
    bool has_port;
    char cmdline[CMDLINE_MAX];
    char file[CONF_FILE_MAX + 1];
    char args[32768]; /* those with @@ replaced */
    size_t args_used;
    char text[TEXT_MAX];
};

_Noreturn static void give_up(struct init *in)
{
    report_line(in->text);
    if (in->has_port)
        (void)call_at(FUZZ_ABI_USER_ABORT, in->text);
    for (;;)
        pause();
}

_Noreturn static void die(struct init *in, const char *what, int error)
{
    struct text t;

    text_init(&t, in->text, sizeof(in->text));
    text_str(&t, what);
    if (error != 0)
        text_errno(&t, -error);
    give_up(in);
}

static ssize_t read_file(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t have = 0;
    ssize_t n;

    if (fd < 0)
        return -errno;
    do {
        n = read(fd, buf + have, size - have);
        if (n > 0)
            have += (size_t)n;
    } while (n > 0 && have < size);
    close(fd);
    return n < 0 ? -EIO : (ssize_t)have;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)!write(fd, text, strlen(text));
    close(fd);
}

static void read_cmdline(struct init *in)
{
    ssize_t n = read_file("/proc/cmdline", in->cmdline, CMDLINE_MAX - 1);

    if (n <= 0)
        return;
    in->cmdline[n] = '\0';
    if (in->cmdline[n - 1] == '\n')
        in->cmdline[n - 1] = '\0';
    options_take_line(&in->options, in->cmdline);
}

static void mount_all(struct init *in)
{
    struct options *o = &in->options;
    const char *step;
    int error = mount_proc();

    if (error != 0)
        die(in, "cannot mount /proc", error);
    read_cmdline(in);
    if (o->root == NULL) {
        o->root = "/dev/pmem0";
        o->fstype = "ext4";
        o->rootflags = "dax";
    }
    o->writable = false;
    error = mount_switch_root(o, &step);
    if (error != 0)
        die(in, step, error);
    mount_rest(false);
    (void)mount(
        "tmpfs", "/var/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
}

static void read_conf(struct init *in)
{
    const char *wrong = "";
    struct text t;
    ssize_t n;
    int error;

    n = read_file(FUZZ_NAMES_CONF, in->file, CONF_FILE_MAX);
    if (n < 0)
        die(in, "cannot read " FUZZ_NAMES_CONF, (int)n);
    in->file[n] = '\0';
    error = conf_parse(&in->conf, in->file, (size_t)n, &wrong);
    if (error == 0)
        return;
    text_init(&t, in->text, sizeof(in->text));
    text_str(&t, FUZZ_NAMES_CONF " is not understood: ");
    text_str(&t, wrong);
    give_up(in);
}

/* Every @@ becomes the input's path. */
static void name_input(struct init *in)
{
    for (size_t i = 1; i < in->conf.arg_count; i++) {
        char *from = in->conf.args[i];
        char *at = strstr(from, "@@");
        struct text t;

        if (at == NULL)
            continue;
        text_init(
            &t, in->args + in->args_used, sizeof(in->args) - in->args_used);
        for (; at != NULL; from = at + 2, at = strstr(from, "@@")) {
            *at = '\0';
            text_str(&t, from);
            text_str(&t, FUZZ_NAMES_INPUT);
        }
        text_str(&t, from);
        if (t.len + 1 == t.size)
            die(in, "the arguments are too long", 0);
        in->args_used += t.len + 1;
        in->conf.args[i] = t.buf;
    }
}

static void put_status(struct text *t, int status)
{
    if (WIFSIGNALED(status)) {
        text_str(t, "by signal ");
        text_num(t, (uint64_t)WTERMSIG(status));
    } else {
        text_str(t, "with status ");
        text_num(t, (uint64_t)WEXITSTATUS(status));
    }
}

static void put_tail(struct text *t, int fd)
{
    static char tail[TAIL_MAX + 1];
    off_t end = lseek(fd, 0, SEEK_END);
    off_t start = end > (off_t)TAIL_MAX ? end - (off_t)TAIL_MAX : 0;
    ssize_t n = pread(fd, tail, TAIL_MAX, start);

    if (n <= 0) {
        text_str(t, " and without a word");
        return;
    }
    tail[n] = '\0';
    text_str(t, "; its output ends with:\n");
    text_str(t, tail);
}

_Noreturn static void tell_no_root(struct init *in, int status)
{
    struct text t;

    text_init(&t, in->text, sizeof(in->text));
    text_str(&t, in->conf.args[0]);
    text_str(&t, " ended before its first run, ");
    put_status(&t, status);
    put_tail(&t, in->program.output_fd);
    give_up(in);
}

/* Does not come back if the program gets to its root. */
static int run_once(struct init *in, bool early)
{
    int status;
    pid_t pid;
    int error =
        environ_make(&in->environ, &in->conf, early, in->options.softkvm);

    if (error == 0)
        error = program_start(&in->program, &pid);
    if (error != 0)
        die(in, "cannot start the program", error);
    if (!program_wait_rooted(&in->program, pid, &status))
        return status;
    (void)call(FUZZ_ABI_DONE, (uint64_t)(uint32_t)status);
    die(in, "the run was not ended", 0);
}

/* A target of Nyx: all there is in the guest is the initrd. */
_Noreturn static void run_share(struct init *in)
{
    int error = mount_proc();

    if (error != 0)
        die(in, "cannot mount /proc", error);
    read_cmdline(in);
    if (!in->has_port)
        die(in, "the kernel gives no access to ports (ioperm)", 0);
    share_run(in->options.softkvm, in->text, sizeof(in->text));
    give_up(in);
}

int main(int argc, char **argv)
{
    static struct init in;
    const char *step;
    int status;
    int error;

    if (argc > 0 && tools_is_name(argv[0]))
        return tools_run(argc, argv);
    in.has_port = ioperm(FUZZ_ABI_PORT, 4, 1) == 0;
    if (share_is_here())
        run_share(&in);
    mount_all(&in);
    read_conf(&in);
    if (in.conf.device != NULL) {
        if (!in.has_port)
            die(&in, NO_PORT, 0);
        error = kernel_run(&in.conf, &step);
        die(&in, step, error);
    }
    name_input(&in);
    write_file("/proc/sys/kernel/randomize_va_space", "0");
    error = program_init(&in.program, &in.conf, &in.environ);
    if (error != 0)
        die(&in, "no files in memory", error);
    if (!in.has_port)
        die(&in, NO_PORT, 0);
    if (program_is_static(in.conf.args[0])) {
        error = environ_make(&in.environ, &in.conf, false, in.options.softkvm);
        if (error == 0)
            error = alone_run(&in.program, &step);
        die(&in, step, error);
    }
    (void)run_once(&in, false);
    status = run_once(&in, true);
    tell_no_root(&in, status);
}
