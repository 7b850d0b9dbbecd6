/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/policy.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "vmm/base/cc.h"

#define M (1u << JAIL_ROLE_MAIN)
#define V (1u << JAIL_ROLE_VCPU)
#define W (1u << JAIL_ROLE_WORKER)
#define P (1u << JAIL_ROLE_PAGE_SERVER)
#define F (1u << JAIL_ROLE_FUZZ)

/* Arguments are compared as the kernel takes them: most are 32 bits wide. */
#define WORD UINT64_C(0xffffffff)
#define WIDE UINT64_MAX

#define CALL(call, who, why)                                                   \
    {                                                                          \
        .nr = SYS_##call, .name = #call, .roles = (who), .reason = (why)       \
    }
#define CALL_IF(call, who, text, at, bits, is, why)                            \
    {                                                                          \
        .nr = SYS_##call, .name = #call, .roles = (who), .reason = (why),      \
        .with = (text), .arg_count = 1, .args = {                              \
            {(at), (bits), (is)}                                               \
        }                                                                      \
    }
#define CALL_IF2(call, who, text, at, bits, is, at2, bits2, is2, why)          \
    {                                                                          \
        .nr = SYS_##call, .name = #call, .roles = (who), .reason = (why),      \
        .with = (text), .arg_count = 2, .args = {                              \
            {(at), (bits), (is)},                                              \
            {(at2), (bits2), (is2)}                                            \
        }                                                                      \
    }
#define CALL_REFUSED(call, who, error, why)                                    \
    {                                                                          \
        .nr = SYS_##call, .name = #call, .roles = (who), .reason = (why),      \
        .refusal = (error)                                                     \
    }
#define IOCTL(request, who, why)                                               \
    CALL_IF(ioctl, who, #request, 1, WORD, (request), why)
#define ADVICE(advice, who, why)                                               \
    CALL_IF(madvise, who, #advice, 2, WORD, (advice), why)
#define FCNTL(command, who, why)                                               \
    CALL_IF(fcntl, who, #command, 1, WORD, (command), why)

/* What pthread_create asks clone for, and nothing else. */
#define THREAD_FLAGS                                                           \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |        \
        CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |                   \
        CLONE_CHILD_CLEARTID)

/* The first that glibc leaves to programs; it kicks vCPU threads. */
#define SIGNAL_KICK 34

/* Newer than the headers of the oldest host that spore is built on. */
#define TTY_GET_SIZE  0x5413 /* TIOCGWINSZ */
#define TTY_GET       0x5401 /* TCGETS */
#define TTY_SET       0x5402 /* TCSETS */
#define TTY_SET_WAIT  0x5403 /* TCSETSW */
#define TTY_SET_FLUSH 0x5404 /* TCSETSF */

#define BLOCK_SIZE_64  UINT64_C(0x80081272) /* BLKGETSIZE64 */
#define BLOCK_LOGICAL  0x1268               /* BLKSSZGET */
#define BLOCK_PHYSICAL 0x127b               /* BLKPBSZGET */

const struct policy_rule policy_rules[] = {
    /* Time, memory, threads: what any C program needs to go on. */
    CALL(futex, M | V | W | P | F, "locks and condition variables"),
    CALL(clock_gettime, M | V | W | P | F, "where the vDSO cannot tell"),
    CALL(gettimeofday, M | W | P, "where the vDSO cannot tell"),
    CALL(exit, M | V | W | P, "the end of a thread"),
    CALL(exit_group, M | V | W | P | F, "the end of the process"),
    CALL(rt_sigreturn, M | V | W | P | F, "the end of a signal handler"),
    CALL(rt_sigprocmask, M | V | W | P | F, "at the start and end of threads"),
    CALL(rt_sigaction, M | V | W | P | F, "abort(3)"),
    CALL(restart_syscall, M | V | W | P, "a wait that was stopped"),
    CALL(sched_yield, M | V | W | P, "spinning locks of the C library"),
    CALL(getpid, M | V | W | P | F, "pthread_kill(3)"),
    CALL(gettid, M | V | W | P | F, "pthread_kill(3)"),
    CALL_IF(tgkill, M | V, "SIGRTMIN", 2, WORD, SIGNAL_KICK,
        "kicks a vCPU out of the guest"),
    /* A page server sees other processes: its abort(3) ends by SIGSYS. */
    CALL_IF(tgkill, M | V | W | F, "SIGABRT", 2, WORD, SIGABRT, "abort(3)"),
    CALL(brk, M | V | W | P | F, "malloc(3)"),
    CALL_IF2(mmap, M | V | W | P | F, "not PROT_EXEC, not MAP_HUGETLB", 2,
        PROT_EXEC, 0, 3, MAP_HUGETLB, 0, "malloc(3), stacks, files"),
    CALL_IF(mprotect, M | V | W | P | F, "not PROT_EXEC", 2, PROT_EXEC, 0,
        "malloc(3), stacks"),
    CALL(munmap, M | V | W | P | F, "malloc(3), stacks, files"),
    CALL_IF(mremap, M | V | W | P | F, "not MREMAP_FIXED", 3, MREMAP_FIXED, 0,
        "realloc(3)"),
    CALL(mincore, M | W, "huge pages that a save can pass over"),
    ADVICE(MADV_DONTNEED, M | V | W | P | F,
        "lists of dirty pages, stacks of ended threads, malloc(3)"),
    ADVICE(MADV_WILLNEED, M | V | W | P, "pages brought in ahead"),
    ADVICE(MADV_POPULATE_READ, M | V | W | P, "pages brought in ahead"),
    ADVICE(MADV_POPULATE_WRITE, M | V | W | P, "pages brought in ahead"),
    ADVICE(MADV_HUGEPAGE, M | V | W | P, "copies of memory for a save"),
    ADVICE(MADV_DONTDUMP, M | V | W | P | F,
        "no core dump holds a tenant's memory"),
    CALL_IF(clone, M | P, "the flags of pthread_create(3)", 0, WIDE,
        THREAD_FLAGS, "saves, prefetching, sessions of the page server"),
    CALL_REFUSED(clone3, M | P, ENOSYS,
        "its flags cannot be looked at: the C library takes clone then"),
    CALL(set_robust_list, M | P, "the start of a thread"),
    CALL(rseq, M | P, "the start of a thread"),
    CALL_IF(prctl, M | V | W | P, "PR_SET_NAME", 0, WORD, PR_SET_NAME,
        "names of threads"),
    CALL_IF2(seccomp, M, "SECCOMP_SET_MODE_FILTER, no flags", 0, WORD,
        SECCOMP_SET_MODE_FILTER, 1, WORD, 0, "a worker holds itself to less"),
    CALL(getrandom, M | V | W | P, "the entropy device, ids"),

    /* Events. */
    CALL(epoll_wait, M | P, "the loop"),
    CALL(epoll_ctl, M | V, "devices that are watched or not"),
    CALL(poll, M | V | W | P, "whether a console takes more, a peer is there"),
    CALL(timerfd_settime, M | V, "timers of the loop"),
    CALL(eventfd2, M | V | P, "doorbells of devices, the end of sessions"),

    /* Descriptors that are there, and those that clients pass. */
    CALL(read, M | V | W | P, "events, files, sockets, consoles"),
    CALL(write, M | V | W | P | F, "events, files, sockets, consoles"),
    CALL(readv, M | V, "network devices"),
    CALL(writev, M | V, "network devices"),
    CALL(pread64, M | V | W | P, "drives, snapshots, statistics of KVM"),
    CALL(pwrite64, M | V | W, "drives, snapshots"),
    CALL(preadv, M | V, "drives without io_uring"),
    CALL(pwritev, M | V, "drives without io_uring"),
    CALL(preadv2, M | V | P, "drives without io_uring; what is cached"),
    CALL(pwritev2, M | V, "drives without io_uring"),
    CALL(fdatasync, M | V | W, "flushes of drives"),
    CALL(fsync, M | W, "snapshots"),
    CALL(msync, M | V, "flushes of persistent memory"),
    CALL(fallocate, M | V | W, "the balloon, discards, holes of images"),
    CALL(ftruncate, M | V | W, "overlays of drives"),
    CALL(lseek, M | V | W | P, "holes of files"),
    CALL_IF(newfstatat, M | V | W | P, "AT_EMPTY_PATH", 3, AT_EMPTY_PATH,
        AT_EMPTY_PATH, "fstat(3)"),
    CALL(fstat, M | V | W | P, "sizes of files"),
    CALL_IF(utimensat, M, "no path", 1, WIDE, 0,
        "a time by which writes after a save show"),
    CALL(close, M | V | W | P, "connections, files"),
    FCNTL(F_GETFL, M | V | W | P, "before F_SETFL"),
    CALL_IF2(fcntl, M | V | W | P, "F_SETFL, not O_ASYNC", 1, WORD, F_SETFL, 2,
        O_ASYNC, 0, "non-blocking descriptors"),
    FCNTL(F_GETFD, M, "whether a descriptor is there"),
    FCNTL(F_DUPFD_CLOEXEC, M | W, "a second one of a client's file"),
    FCNTL(F_OFD_SETLK, M, "the lock of a drive's new file"),
    CALL_IF(dup2, M, "to standard error", 1, WORD, 2,
        "the log, when a machine is up"),

    /* Sockets that exist; none is made but in pairs. */
    CALL(accept4, M | V | P, "control socket, vsock, page server"),
    CALL(recvfrom, M | V | P, "vsock, control socket"),
    CALL_IF(
        sendto, M | V | P, "no address", 4, WIDE, 0, "vsock, control socket"),
    CALL(recvmsg, M | V | P, "vsock, descriptors that clients pass"),
    CALL_IF(sendmsg, M | V | P, "not MSG_FASTOPEN", 2, MSG_FASTOPEN, 0,
        "vsock, network, the keeper"),
    CALL(shutdown, M | V | P, "vsock, control socket"),
    CALL_IF(getsockopt, M | V | P, "SOL_SOCKET", 1, WORD, SOL_SOCKET,
        "errors and kinds of sockets, who the peer is"),
    CALL_IF2(setsockopt, M, "SOL_SOCKET, SO_SNDBUF", 1, WORD, SOL_SOCKET, 2,
        WORD, SO_SNDBUF, "bounds what is kept for a vsock connection"),
    CALL_IF(socketpair, M | V, "AF_UNIX", 0, WORD, AF_UNIX,
        "connections to the agent"),

    /* File I/O of devices: a ring that was restricted before (uring.h). */
    CALL(io_uring_enter, M | V, "file I/O of drives"),
    CALL_IF(io_uring_register, M | V, "IORING_REGISTER_FILES_UPDATE", 1, WORD,
        IORING_REGISTER_FILES_UPDATE, "a drive's file is exchanged"),

    /* Processes that were started before: passt, the page server. */
    CALL(wait4, M, "the end of passt"),
    CALL_IF(pidfd_send_signal, M, "SIGKILL", 1, WORD, SIGKILL,
        "the end of passt: only of whom a descriptor is held"),

    /* KVM. */
    IOCTL(KVM_RUN, V | F, "runs the guest"),
    IOCTL(KVM_SET_GSI_ROUTING, M | V | F, "the guest programs its I/O APIC"),
    IOCTL(KVM_IRQFD, M | V, "interrupts of devices"),
    IOCTL(KVM_IOEVENTFD, M | V, "doorbells of devices"),
    IOCTL(KVM_GET_REGS, M | V | F, "saves, messages about the guest"),
    IOCTL(KVM_GET_SREGS, M | V | F, "saves, messages about the guest"),
    IOCTL(KVM_GET_SREGS2, M | F, "saves"),
    IOCTL(KVM_GET_MSRS, M | F, "saves"),
    IOCTL(KVM_GET_XSAVE, M | F, "saves"),
    IOCTL(KVM_GET_XSAVE2, M | F, "saves"),
    IOCTL(KVM_GET_XCRS, M | F, "saves"),
    IOCTL(KVM_GET_DEBUGREGS, M | F, "saves"),
    IOCTL(KVM_GET_VCPU_EVENTS, M | F, "saves"),
    IOCTL(KVM_GET_MP_STATE, M | F, "saves"),
    IOCTL(KVM_GET_LAPIC, M | F, "saves"),
    IOCTL(KVM_GET_TSC_KHZ, M | F, "saves"),
    IOCTL(KVM_GET_CLOCK, M | F, "saves"),
    IOCTL(KVM_GET_NESTED_STATE, M | F, "saves"),
    IOCTL(KVM_GET_DEVICE_ATTR, M | F, "saves: the offset of the TSC"),
    IOCTL(KVM_HAS_DEVICE_ATTR, M | F, "whether there is such an offset"),
    IOCTL(KVM_SET_REGS, M | F, "resets"),
    IOCTL(KVM_SET_SREGS, M | F, "resets"),
    IOCTL(KVM_SET_SREGS2, M | F, "resets"),
    IOCTL(KVM_SET_MSRS, M | F, "resets"),
    IOCTL(KVM_SET_XSAVE, M | F, "resets"),
    IOCTL(KVM_SET_XCRS, M | F, "resets"),
    IOCTL(KVM_SET_DEBUGREGS, M | F, "resets"),
    IOCTL(KVM_SET_VCPU_EVENTS, M | F, "resets"),
    IOCTL(KVM_SET_MP_STATE, M | F, "resets"),
    IOCTL(KVM_SET_LAPIC, M | F, "resets"),
    IOCTL(KVM_SET_TSC_KHZ, M | F, "resets"),
    IOCTL(KVM_SET_CLOCK, M | F, "resets, the clock after a pause"),
    IOCTL(KVM_SET_NESTED_STATE, M | F, "resets"),
    IOCTL(KVM_SET_DEVICE_ATTR, M | F, "resets: the offset of the TSC"),
    IOCTL(KVM_KVMCLOCK_CTRL, M, "the guest's watchdog after a pause"),
    IOCTL(KVM_GET_DIRTY_LOG, M | W | F, "which pages were written"),
    IOCTL(KVM_CLEAR_DIRTY_LOG, M | W | F, "which pages were written"),
    IOCTL(KVM_RESET_DIRTY_RINGS, M | V | W | F, "which pages were written"),
    IOCTL(KVM_SET_USER_MEMORY_REGION, M | W | F,
        "whether writes are followed; maps this process's memory only"),
    IOCTL(KVM_CHECK_EXTENSION, M | W | F, "what this KVM can do"),
    IOCTL(KVM_GET_MSR_INDEX_LIST, M, "which MSRs a save takes"),

    /* Other devices. */
    IOCTL(TUNSETOFFLOAD, M | V, "offloads that the guest's driver chose"),
    IOCTL(TUNSETVNETHDRSZ, M | V, "offloads that the guest's driver chose"),
    IOCTL(TTY_GET_SIZE, M, "the terminal's size"),
    IOCTL(TTY_GET, M, "the terminal's mode"),
    IOCTL(TTY_SET, M, "the terminal's mode"),
    IOCTL(TTY_SET_WAIT, M, "the terminal's mode"),
    IOCTL(TTY_SET_FLUSH, M, "the terminal's mode"),
    IOCTL(BLOCK_SIZE_64, M, "a drive's new file"),
    IOCTL(BLOCK_LOGICAL, M, "a drive's new file"),
    IOCTL(BLOCK_PHYSICAL, M, "a drive's new file"),
    IOCTL(UFFDIO_COPY, P, "gives a page"),
    IOCTL(UFFDIO_ZEROPAGE, P, "gives a page of zeroes"),
    IOCTL(UFFDIO_WAKE, P, "lets who waits go on"),
};

const size_t policy_rule_count = ARRAY_SIZE(policy_rules);

const char *policy_role_name(enum jail_role role)
{
    static const char *const names[] = {
        [JAIL_ROLE_MAIN] = "main",
        [JAIL_ROLE_VCPU] = "vcpu",
        [JAIL_ROLE_WORKER] = "worker",
        [JAIL_ROLE_PAGE_SERVER] = "page-server",
        [JAIL_ROLE_FUZZ] = "fuzz",
    };

    assert(role < JAIL_ROLES);
    return names[role];
}
