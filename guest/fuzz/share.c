/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/share.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/exec.h"
#include "guest/agent/mount.h"
#include "guest/agent/text.h"
#include "guest/fuzz/call.h"
#include "guest/fuzz/tools.h"

#define BUSYBOX "/bin/busybox"
#define SCRIPT  "fuzz_no_pt.sh"

bool share_is_here(void)
{
    return access(BUSYBOX, X_OK) == 0;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)!write(fd, text, strlen(text));
    (void)close(fd);
}

static int run(char *const *argv, char *const *env, int *ret_status)
{
    pid_t pid = vfork();
    pid_t ended;

    if (pid == 0) {
        (void)execve(argv[0], argv, env);
        _exit(127);
    }
    if (pid < 0)
        return -errno;
    do {
        ended = waitpid(-1, ret_status, 0);
    } while (ended != pid && (ended >= 0 || errno == EINTR));
    return ended < 0 ? -errno : 0;
}

/* How far it is, for whoever waits: seconds where kernels are interpreted. */
static void say(const char *what)
{
    static char line[64];

    (void)strncpy(line, what, sizeof(line) - 1);
    (void)call_at(FUZZ_ABI_PRINTF, line);
}

static void prepare(void)
{
    (void)mount_dev();
    (void)mkdir("/sys", 0755);
    (void)mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV, NULL);
    (void)mkdir("/tmp", 01777);
    (void)mount("tmpfs", "/tmp", "tmpfs", MS_NODEV, "mode=1777,size=90%");
    (void)mkdir("/dev/shm", 01777);
    write_file("/proc/sys/kernel/panic_on_oops", "1");
    write_file("/proc/sys/kernel/randomize_va_space", "0");
}

void share_run(bool no_avx, char *text, size_t size)
{
    static char *const install[] = {
        (char *)BUSYBOX, (char *)"--install", (char *)"-s", NULL};
    static char *const script[] = {
        (char *)"/bin/sh", (char *)"-c", (char *)"./fuzz.sh", NULL};
    char *env[] = {(char *)"PATH=/bin:/sbin:/usr/bin:/usr/sbin",
        (char *)"HOME=/root", (char *)"TERM=linux",
        no_avx ? (char *)EXEC_NO_AVX_NAME "=" EXEC_NO_AVX_VALUE : NULL, NULL};
    struct text t;
    int status = 0;
    int rc;

    text_init(&t, text, size);
    prepare();
    say("spore: the guest is up\n");
    (void)call(FUZZ_ABI_LOCK, 0);
    (void)mkdir("/sbin", 0755);
    (void)mkdir("/usr", 0755);
    (void)mkdir("/usr/bin", 0755);
    (void)mkdir("/usr/sbin", 0755);
    rc = run(install, env, &status);
    say("spore: its shell is there\n");
    if (rc == 0)
        rc = tools_get("hget", "hget");
    if (rc == 0)
        rc = tools_get(SCRIPT, "fuzz.sh");
    if (rc == -ENOENT) {
        text_str(&t, "the share directory has no " SCRIPT);
        return;
    }
    if (rc == 0 && chmod("fuzz.sh", 0755) < 0)
        rc = -errno;
    say("spore: " SCRIPT " begins\n");
    if (rc == 0)
        rc = run(script, env, &status);
    text_str(&t, SCRIPT " ended without a root");
    if (rc < 0) {
        text_errno(&t, -rc);
    } else {
        text_str(&t, ", its status ");
        text_num(&t, (uint64_t)(uint32_t)status);
    }
}
