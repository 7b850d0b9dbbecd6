/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_memory -m GUEST_MIB -- COMMAND...
 *
 * Starts COMMAND, waits for the first byte on its standard output, and says
 * what memory the process has to itself then (proc(5), smaps): in all, and
 * without the guest's RAM, which is any mapping of at least GUEST_MIB. Clean
 * pages of the program's file count as its own only while it runs alone.
 * Ends COMMAND and prints JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct memory {
    unsigned long private_kib; /* all mappings */
    unsigned long dirty_kib;   /* of these: written, without the guest's RAM */
    unsigned long guest_kib;   /* of these: the guest's RAM */
    unsigned long pss_kib;
};

static void add_field(struct memory *m, const char *line, bool is_guest_ram)
{
    unsigned long kib;

    if (sscanf(line, "Private_Clean: %lu kB", &kib) == 1 ||
        sscanf(line, "Private_Dirty: %lu kB", &kib) == 1) {
        m->private_kib += kib;
        if (is_guest_ram)
            m->guest_kib += kib;
        else if (line[8] == 'D')
            m->dirty_kib += kib;
    } else if (sscanf(line, "Pss: %lu kB", &kib) == 1 && !is_guest_ram) {
        m->pss_kib += kib;
    }
}

static int read_smaps(pid_t pid, unsigned long guest_mib, struct memory *m)
{
    char path[64];
    char line[512];
    bool is_guest_ram = false;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    while (fgets(line, sizeof(line), f) != NULL) {
        unsigned long start;
        unsigned long end;

        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            is_guest_ram = (end - start) >> 20 >= guest_mib;
        else
            add_field(m, line, is_guest_ram);
    }
    (void)fclose(f);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long guest_mib = 128;
    struct memory m = {0};
    char byte;
    int fds[2];
    pid_t pid;
    int rc;

    if (argc < 2 || getopt(argc, argv, "+m:") != 'm' || optind >= argc) {
        (void)fputs("usage: bench_memory -m GUEST_MIB -- COMMAND...\n", stderr);
        return 2;
    }
    guest_mib = strtoul(optarg, NULL, 10);
    if (strcmp(argv[optind], "--") == 0)
        optind++;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return 1;
    pid = fork();
    if (pid == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)execvp(argv[optind], argv + optind);
        _exit(127);
    }
    (void)close(fds[1]);
    if (pid < 0 || read(fds[0], &byte, 1) != 1) {
        (void)fprintf(stderr, "%s: no output\n", argv[optind]);
        return 1;
    }
    rc = read_smaps(pid, guest_mib, &m);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    if (rc < 0) {
        (void)fprintf(stderr, "smaps: %s\n", strerrordesc_np(-rc));
        return 1;
    }
    (void)printf("{\"bench\": \"memory\", \"command\": \"%s\", "
                 "\"private_kib\": %lu, \"guest_ram_kib\": %lu, "
                 "\"monitor_private_kib\": %lu, "
                 "\"monitor_private_dirty_kib\": %lu, "
                 "\"monitor_pss_kib\": %lu}\n",
        argv[optind], m.private_kib, m.guest_kib, m.private_kib - m.guest_kib,
        m.dirty_kib, m.pss_kib);
    return 0;
}
