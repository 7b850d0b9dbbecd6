/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore-firecracker, also installed as firecracker.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/firecracker.h"

/* As in main.c: no file of ours becomes a standard descriptor. */
static int fill_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int status;

    if (fill_standard_fds() < 0)
        return 1;
    /* Who started us may have ignored the ends of children: ours are told. */
    (void)signal(SIGCHLD, SIG_DFL);
    status = firecracker_main(argc, argv);
    return fflush(stdout) == 0 || status != 0 ? status : 1;
}
