/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/fuzz/names.h"

static int file_in_memory(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int program_init(
    struct program *p, const struct conf *conf, struct environ_list *environ)
{
    p->conf = conf;
    p->environ = environ;
    p->output_fd = file_in_memory("output");
    p->input_fd = file_in_memory("input");
    p->rooted_fd = file_in_memory("rooted");
    if (p->output_fd < 0)
        return p->output_fd;
    if (p->input_fd < 0)
        return p->input_fd;
    if (p->rooted_fd < 0)
        return p->rooted_fd;
    /* It is written from several descriptors. */
    return fcntl(p->output_fd, F_SETFL, O_APPEND) != 0 ? -errno : 0;
}

/* Runs in the child. */
_Noreturn static void become(const struct program *p)
{
    const struct rlimit no_core = {0};
    static const char failed[] = "cannot execute the program\n";

    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)personality(ADDR_NO_RANDOMIZE);
    if (dup2(p->input_fd, STDIN_FILENO) < 0 ||
        dup2(p->output_fd, STDOUT_FILENO) < 0 ||
        dup2(p->output_fd, STDERR_FILENO) < 0 ||
        dup2(p->rooted_fd, FUZZ_NAMES_ROOTED_FD) < 0)
        _exit(127);
    if (chdir(p->conf->cwd) == 0)
        execve(p->conf->args[0], p->conf->args, p->environ->list);
    (void)!write(STDERR_FILENO, failed, sizeof(failed) - 1);
    _exit(127);
}

int program_start(const struct program *p, pid_t *ret_pid)
{
    pid_t pid = fork();

    if (pid < 0)
        return -errno;
    if (pid == 0)
        become(p);
    *ret_pid = pid;
    return 0;
}

int program_wait(pid_t pid)
{
    pid_t ended;
    int status = 0;

    do {
        ended = waitpid(-1, &status, 0);
    } while (ended != pid && (ended > 0 || errno == EINTR));
    return status;
}

/* 0: none. */
static pid_t rooted_pid(const struct program *p)
{
    pid_t pid;

    return pread(p->rooted_fd, &pid, sizeof(pid), 0) == sizeof(pid) ? pid : 0;
}

bool program_wait_rooted(const struct program *p, pid_t pid, int *ret_status)
{
    int first = 0;

    for (;;) {
        int status = 0;
        pid_t ended = waitpid(-1, &status, 0);

        if (ended < 0 && errno != EINTR)
            break;
        if (ended > 0 && ended == rooted_pid(p)) {
            *ret_status = status;
            return true;
        }
        if (ended == pid)
            first = status;
    }
    *ret_status = first;
    return false;
}

bool program_is_static(const char *path)
{
    Elf64_Phdr phdrs[64];
    Elf64_Ehdr header;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_static;

    if (fd < 0)
        return false;
    is_static = pread(fd, &header, sizeof(header), 0) == sizeof(header) &&
                memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
                header.e_ident[EI_CLASS] == ELFCLASS64 &&
                header.e_phentsize == sizeof(phdrs[0]) && header.e_phnum > 0 &&
                header.e_phnum <= sizeof(phdrs) / sizeof(phdrs[0]) &&
                pread(fd, phdrs, header.e_phnum * sizeof(phdrs[0]),
                    (off_t)header.e_phoff) ==
                    (ssize_t)(header.e_phnum * sizeof(phdrs[0]));
    for (size_t i = 0; is_static && i < header.e_phnum; i++)
        is_static = phdrs[i].p_type != PT_INTERP;
    close(fd);
    return is_static;
}
