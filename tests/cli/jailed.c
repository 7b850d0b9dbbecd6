/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a jailed program finds, for jailer.bats: one line each. Linked
 * statically, since there is nothing to load it from. Arguments: "report=FILE"
 * writes to a file, "wait" stays until it is killed, "status=N" is returned.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

extern char **environ;

static void try_open(FILE *out, const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);

    (void)fprintf(
        out, "open %s %s\n", path, fd >= 0 ? "yes" : strerrorname_np(errno));
    if (fd >= 0)
        (void)close(fd);
}

static void list_root(FILE *out)
{
    DIR *dir = opendir("/");
    const struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.')
            (void)fprintf(out, "entry %s\n", entry->d_name);
    }
    if (dir != NULL)
        (void)closedir(dir);
}

static void list_interfaces(FILE *out)
{
    struct if_nameindex *all = if_nameindex();

    for (size_t i = 0; all != NULL && all[i].if_index != 0; i++)
        (void)fprintf(out, "interface %s\n", all[i].if_name);
    if_freenameindex(all);
}

static void report(FILE *out, int argc, char **argv)
{
    struct rlimit files = {0};
    size_t variables = 0;

    for (int fd = 3; fd < 256; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 && fd != fileno(out))
            (void)fprintf(out, "descriptor %d\n", fd);
    }
    for (int i = 0; i < argc; i++)
        (void)fprintf(out, "arg %s\n", argv[i]);
    while (environ[variables] != NULL)
        variables++;
    (void)getrlimit(RLIMIT_NOFILE, &files);
    (void)fprintf(out,
        "ids %u %u %u %u\ngroups %d\nvariables %zu\npid %d\nnofile %llu %llu\n"
        "privileges %s\nsession %s\n",
        getuid(), geteuid(), getgid(), getegid(), getgroups(0, NULL), variables,
        (int)getpid(), (unsigned long long)files.rlim_cur,
        (unsigned long long)files.rlim_max,
        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? "none" : "some",
        open("/dev/tty", O_RDWR | O_CLOEXEC) < 0 ? "without" : "with");
    list_root(out);
    list_interfaces(out);
    try_open(out, "/dev/kvm", O_RDWR);
    try_open(out, "/dev/net/tun", O_RDWR);
    try_open(out, "/dev/urandom", O_RDONLY);
    try_open(out, "/dev/userfaultfd", O_RDWR);
    try_open(out, "/etc/passwd", O_RDONLY);
    try_open(out, "../../../../etc/passwd", O_RDONLY);
    try_open(out, "/run/made", O_RDWR | O_CREAT);
}

int main(int argc, char **argv)
{
    FILE *out = stdout;
    int status = 0;
    int waits = 0;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "report=", 7) == 0)
            out = fopen(argv[i] + 7, "we");
        else if (strncmp(argv[i], "status=", 7) == 0)
            status = atoi(argv[i] + 7);
        else if (strcmp(argv[i], "wait") == 0)
            waits = 1;
    }
    if (out == NULL)
        return 99;
    report(out, argc, argv);
    (void)fprintf(out, "done\n");
    (void)fflush(out);
    while (waits)
        (void)pause();
    return status;
}
