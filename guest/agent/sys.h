/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of the kernel's interface the agent needs and libc headers may lack:
 * musl ships no <linux/...>, and the agent must build with one command on a
 * machine without kernel headers for musl. Numbers are x86-64's.
 */
#ifndef GUEST_AGENT_SYS_H
#define GUEST_AGENT_SYS_H

#include <assert.h>
#include <stdint.h>

#define SYS_AF_VSOCK 40
#define SYS_CID_ANY  UINT32_MAX

/* struct sockaddr_vm of linux/vm_sockets.h */
struct sys_sockaddr_vm {
    uint16_t family;
    uint16_t reserved;
    uint32_t port;
    uint32_t cid;
    uint8_t flags;
    uint8_t zero[3];
};

static_assert(sizeof(struct sys_sockaddr_vm) == 16, "sockaddr_vm");

#define SYS_AF_NETLINK             16
#define SYS_NETLINK_KOBJECT_UEVENT 15

/* struct sockaddr_nl of linux/netlink.h */
struct sys_sockaddr_nl {
    uint16_t family;
    uint16_t pad;
    uint32_t pid;
    uint32_t groups;
};

static_assert(sizeof(struct sys_sockaddr_nl) == 12, "sockaddr_nl");

#define SYS_NR_FINIT_MODULE 313L
#define SYS_NR_CLOSE_RANGE  436L
#define SYS_NR_OPENAT2      437L

#define SYS_CLOSE_RANGE_CLOEXEC 4u

/* struct open_how of linux/openat2.h */
struct sys_open_how {
    uint64_t flags;
    uint64_t mode;
    uint64_t resolve;
};

static_assert(sizeof(struct sys_open_how) == 24, "open_how");

#define SYS_RESOLVE_NO_MAGICLINKS 0x02u
#define SYS_RESOLVE_NO_SYMLINKS   0x04u
#define SYS_RESOLVE_BENEATH       0x08u

/* Requests of ioctl; int, as musl's prototype has it. */
#define SYS_FIFREEZE      ((int)0xc0045877u)
#define SYS_FITHAW        ((int)0xc0045878u)
#define SYS_RNDADDENTROPY 0x40085203
#define SYS_RNDRESEEDCRNG 0x5207
#define SYS_TIOCSPTLCK    0x40045431
#define SYS_TIOCGPTPEER   0x5441

/* f_type of statfs */
#define SYS_TMPFS_MAGIC 0x01021994u
#define SYS_RAMFS_MAGIC 0x858458f6u

/*
 * glibc's ioctl takes an unsigned long, musl's an int: the conversion that
 * each of them wants.
 */
#ifdef __GLIBC__
#define SYS_IOCTL(request) ((unsigned long)(unsigned int)(request))
#else
#define SYS_IOCTL(request) (request)
#endif

/* linux_dirent64 is a header of this size, then the name and a NUL. */
struct sys_dirent {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[5]; /* really longer: the struct only fixes the offsets */
};

#define SYS_DIRENT_NAME 19

#endif
