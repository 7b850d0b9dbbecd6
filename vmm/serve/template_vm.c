/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/template_vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "snapshot/dirfile.h"
#include "vmm/base/fd.h"
#include "vmm/child.h"
#include "vmm/guest_copy.h"
#include "vmm/guest_exec.h"
#include "vmm/guest_stream.h"
#include "vmm/save_client.h"
#include "vmm/serve/listeners.h"
#include "vmm/vm_client.h"
#include "vmm/words.h"

/* A machine that was told to end does in a few milliseconds. */
#define END_MS 10000

/* For operations of the agent that are done at once, or never. */
#define AGENT_S 60

#define CONNECT_MS 10000u

/* ---- its process --------------------------------------------------------- */

static int start(struct template_vm *vm, char *const *options, struct err *err)
{
    CC_CLEANUP(fd_closep) int write_fd = -1;
    struct words argv = {0};
    struct child_options child = {.in_fd = -1, .err_fd = STDERR_FILENO};
    int fds[2];
    int rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    vm->out_fd = fds[0];
    write_fd = fds[1];
    words_add(&argv, "/proc/self/exe");
    words_add(&argv, "run");
    words_add(&argv, "--stay");
    words_addf(&argv, "--id=%s", vm->id);
    for (size_t i = 0; options[i] != NULL; i++)
        words_add(&argv, options[i]);
    child.argv = argv.list;
    child.out_fd = write_fd;
    rc = argv.failed ? err_sys(err, ENOMEM, "spore run")
                     : child_start(&child, &vm->pid, err);
    words_fini(&argv);
    if (rc < 0)
        return rc;
    vm->pid_fd = pidfd_open(vm->pid, 0);
    return vm->pid_fd < 0 ? err_sys(err, errno, "spore run") : 0;
}

int template_vm_start(struct template_vm *vm, const struct interrupt *interrupt,
    char *const *options, struct err *err)
{
    char id[RUNDIR_ID_SIZE];
    char line[RUNDIR_ID_SIZE + 1];
    int rc = rundir_make_id(id, err);

    if (rc < 0)
        return rc;
    vm->interrupt = interrupt;
    (void)snprintf(vm->id, sizeof(vm->id), "template-%.32s", id);
    rc = start(vm, options, err);
    if (rc == 0)
        rc = interrupt_wait(interrupt, vm->out_fd, -1, err);
    if (rc < 0)
        return rc;
    /* The line is written at once, or there is none as the process has ended.
     */
    if (read(vm->out_fd, line, sizeof(line)) <= 0)
        return err_set(err, ECHILD, "the machine did not start: see above");
    return 0;
}

void template_vm_end(struct template_vm *vm)
{
    int status;

    if (vm->pid > 0) {
        struct pollfd p = {.fd = vm->pid_fd, .events = POLLIN};

        (void)kill(vm->pid, SIGTERM);
        /* The keeper's death is the monitor's. */
        if (vm->pid_fd < 0 || poll(&p, 1, END_MS) <= 0)
            (void)kill(vm->pid, SIGKILL);
        if (child_wait(vm->pid, &status) < 0)
            status = 0;
    }
    fd_closep(&vm->pid_fd);
    fd_closep(&vm->out_fd);
    vm->pid = 0;
}

/* ---- commands ------------------------------------------------------------ */

struct running {
    struct loop loop;
    struct guest_exec exec;
    struct guest_exec_result result;
    bool is_done;
};

static void on_done(void *opaque, const struct guest_exec_result *result)
{
    struct running *r = opaque;

    r->result = *result;
    r->is_done = true;
    loop_stop(&r->loop);
}

static void on_signal(void *opaque, uint32_t events)
{
    struct running *r = opaque;

    (void)events;
    loop_stop(&r->loop);
}

static int run(const struct template_vm *vm, struct running *r, int agent_fd,
    const struct template_vm_command *command, struct err *err)
{
    CC_CLEANUP(fd_closep) int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int out = command->is_quiet ? null_fd : STDERR_FILENO;
    const struct guest_exec_config config = {.argv = command->argv,
        .env = command->env,
        .cwd = command->cwd,
        .user = command->user,
        .detach = command->detach,
        .stdin_fd = -1,
        .stdout_fd = out,
        .stderr_fd = out,
        .on_done = on_done,
        .opaque = r};
    struct loop_source signals = {
        .fd = vm->interrupt->fd, .handle = on_signal, .opaque = r};
    int rc;

    if (null_fd < 0) {
        (void)close(agent_fd);
        return err_sys(err, errno, "/dev/null");
    }
    rc = guest_exec_start(&r->exec, &r->loop, agent_fd, &config, err);
    if (rc < 0)
        return rc;
    rc = loop_add(&r->loop, &signals, EPOLLIN);
    if (rc == 0)
        rc = loop_run(&r->loop);
    if (rc < 0)
        rc = err_sys(err, rc, "the event loop failed");
    loop_remove(&r->loop, &signals);
    guest_exec_fini(&r->exec);
    return rc;
}

static int take_result(
    const struct running *r, int *ret_status, struct err *err)
{
    if (!r->is_done)
        return err_set(err, ECANCELED, "interrupted");
    if (r->result.is_error)
        return err_set(
            err, r->result.status == 127 ? ENOENT : EIO, "%s", r->result.text);
    *ret_status = r->result.status;
    return 0;
}

int template_vm_exec(struct template_vm *vm,
    const struct template_vm_command *command, int *ret_status, struct err *err)
{
    struct running *r = calloc(1, sizeof(*r));
    int fd;
    int rc;

    if (r == NULL)
        return err_sys(err, ENOMEM, "command");
    rc = loop_init(&r->loop, err);
    if (rc < 0) {
        free(r);
        return rc;
    }
    rc = vm_client_connect_agent(vm->id, &fd, err);
    if (rc == 0)
        rc = run(vm, r, fd, command, err);
    if (rc == 0)
        rc = take_result(r, ret_status, err);
    loop_fini(&r->loop);
    free(r);
    return rc;
}

/* ---- the agent's other operations ---------------------------------------- */

/* Blocking, and not for ever. */
static int connect_agent(
    const struct template_vm *vm, int *ret_fd, struct err *err)
{
    const struct timeval timeout = {.tv_sec = AGENT_S};
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc = interrupt_check(vm->interrupt, err);

    if (rc == 0)
        rc = vm_client_connect_agent(vm->id, &fd, err);
    if (rc < 0)
        return rc;
    rc = fd_set_nonblocking(fd, false);
    if (rc < 0)
        return err_sys(err, rc, "connection to the agent");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    *ret_fd = fd_steal(&fd);
    return 0;
}

int template_vm_copy(struct template_vm *vm, const char *path, const char *dir,
    const char *name, struct err *err)
{
    const struct guest_copy_options options = {0};
    CC_CLEANUP(fd_closep) int fd = -1;
    struct guest_copy_result result;
    int rc = connect_agent(vm, &fd, err);

    return rc < 0 ? rc
                  : guest_copy_in(
                        fd, AT_FDCWD, path, dir, name, &options, &result, err);
}

int template_vm_listens(struct template_vm *vm, uint32_t port, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char path[64];
    int rc = vm_client_connect(vm->id, CONNECT_MS, &fd, err);

    (void)snprintf(path, sizeof(path), "/spore/vsock/%u", port);
    if (rc == 0)
        rc = http_client_upgrade(fd, path, "vsock", err);
    if (rc == -ECONNREFUSED)
        return 0;
    return rc < 0 ? rc : 1;
}

/* What the guest has at `path`; nothing if there is no such file. */
static int read_listeners(struct template_vm *vm, const char *path,
    int scratch_fd, uint16_t port, struct err *err)
{
    static const char name[] = ".listeners";
    const struct guest_copy_options options = {.max_bytes = LISTENERS_TEXT_MAX};
    CC_CLEANUP(fd_closep) int fd = -1;
    struct guest_copy_result result;
    uint8_t *text = NULL;
    size_t size = 0;
    int rc = connect_agent(vm, &fd, err);

    if (rc < 0)
        return rc;
    rc = guest_copy_out(fd, path, scratch_fd, name, &options, &result, err);
    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        rc = dirfile_read(
            scratch_fd, name, LISTENERS_TEXT_MAX, &text, &size, err);
    (void)unlinkat(scratch_fd, name, 0);
    if (rc < 0)
        return rc;
    rc = listeners_have((const char *)text, size, port) ? 1 : 0;
    free(text);
    return rc;
}

int template_vm_listens_tcp(
    struct template_vm *vm, uint16_t port, int scratch_fd, struct err *err)
{
    int rc = read_listeners(vm, "/proc/net/tcp", scratch_fd, port, err);

    return rc != 0
               ? rc
               : read_listeners(vm, "/proc/net/tcp6", scratch_fd, port, err);
}

int template_vm_sync(struct template_vm *vm, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct guest_frame frame;
    struct guest_stream *stream;
    int rc = connect_agent(vm, &fd, err);

    if (rc < 0)
        return rc;
    stream = guest_stream_new(fd, err);
    if (stream == NULL)
        return -ENOMEM;
    rc = guest_stream_send(stream, AGENT_SYNC, NULL, 0, NULL, 0, err);
    if (rc == 0)
        rc = guest_stream_recv(stream, &frame, err);
    if (rc == 0 && frame.type != AGENT_OK)
        rc = err_set(err, EPROTO, "the agent sent an unexpected frame");
    free(stream);
    return rc;
}

int template_vm_save(struct template_vm *vm, const char *store,
    const char *name, struct err *err)
{
    const struct save_client_request request = {
        .id = vm->id, .store = store, .name = name, .sync = true};
    struct save_client_result result;

    return save_client_run(&request, &result, err);
}
