/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets: new ones, those that are open, and descriptors through them. */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

#define SOCKET(name, family, type, protocol)                                   \
    static int try_socket_##name(struct escape *e)                             \
    {                                                                          \
        return ESCAPE_CALL(                                                    \
            e, SYS_socket, (family), (type) | SOCK_CLOEXEC, (protocol));       \
    }

SOCKET(inet, AF_INET, SOCK_STREAM, 0)
SOCKET(inet6, AF_INET6, SOCK_STREAM, 0)
SOCKET(dgram, AF_INET, SOCK_DGRAM, 0)
SOCKET(raw, AF_INET, SOCK_RAW, IPPROTO_ICMP)
SOCKET(netlink, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
SOCKET(packet, AF_PACKET, SOCK_RAW, 0)
SOCKET(alg, AF_ALG, SOCK_SEQPACKET, 0)
SOCKET(vsock, AF_VSOCK, SOCK_STREAM, 0)
SOCKET(unix, AF_UNIX, SOCK_STREAM, 0)

static int prepare_socket(struct escape *e, int family, int type)
{
    e->fds[0] = socket(family, type | SOCK_CLOEXEC, 0);
    return e->fds[0] < 0 ? -errno : 0;
}

static int prepare_unix(struct escape *e)
{
    return prepare_socket(e, AF_UNIX, SOCK_STREAM);
}

static int prepare_unix_dgram(struct escape *e)
{
    return prepare_socket(e, AF_UNIX, SOCK_DGRAM);
}

static int prepare_inet(struct escape *e)
{
    return prepare_socket(e, AF_INET, SOCK_STREAM);
}

/* The host's; its length is returned. */
static socklen_t abstract_address(
    const struct escape *e, struct sockaddr_un *ret_addr)
{
    size_t len = strlen(e->abstract);

    *ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_addr->sun_path + 1, e->abstract, len);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

static int try_connect_abstract(struct escape *e)
{
    struct sockaddr_un addr;
    socklen_t len = abstract_address(e, &addr);

    return ESCAPE_CALL(e, SYS_connect, e->fds[0], &addr, len);
}

static struct sockaddr_in host_address(const struct escape *e)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
        .sin_port = htons(e->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int try_connect_inet(struct escape *e)
{
    struct sockaddr_in addr = host_address(e);

    return ESCAPE_CALL(e, SYS_connect, e->fds[0], &addr, sizeof(addr));
}

/* Fills in the host's socket of datagrams; the length of its address. */
static socklen_t dgram_address(
    const struct escape *e, bool is_abstract, struct sockaddr_un *ret_addr)
{
    const char *name = is_abstract ? e->abstract_dgram : e->path_dgram;
    size_t len = strlen(name);
    size_t at = is_abstract ? 1 : 0;

    *ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_addr->sun_path + at, name, len);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + at + len);
}

/* Sending to an address takes no connect. */
static int sendto_host(struct escape *e, int fd, bool is_abstract)
{
    struct sockaddr_un addr;
    socklen_t len = dgram_address(e, is_abstract, &addr);

    return ESCAPE_CALL(e, SYS_sendto, fd, "x", 1L, MSG_DONTWAIT, &addr, len);
}

/* No filter sees this address. */
static int sendmsg_host(struct escape *e, int fd, bool is_abstract)
{
    struct sockaddr_un addr;
    struct iovec iov = {.iov_base = e->page, .iov_len = 1};
    struct msghdr message = {.msg_name = &addr,
        .msg_namelen = dgram_address(e, is_abstract, &addr),
        .msg_iov = &iov,
        .msg_iovlen = 1};

    return ESCAPE_CALL(e, SYS_sendmsg, fd, &message, MSG_DONTWAIT);
}

static int try_sendto_abstract(struct escape *e)
{
    return sendto_host(e, e->fds[0], true);
}

static int try_sendto_path(struct escape *e)
{
    return sendto_host(e, e->fds[0], false);
}

static int try_sendmsg_abstract(struct escape *e)
{
    return sendmsg_host(e, e->fds[0], true);
}

static int try_sendmsg_path(struct escape *e)
{
    return sendmsg_host(e, e->fds[0], false);
}

/* A socket of its own: one of a pair is allowed to some. */
static int make_dgrams(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, e->fds);
}

static int try_pair_abstract(struct escape *e)
{
    int rc = make_dgrams(e);

    return rc < 0 ? rc : sendmsg_host(e, e->fds[0], true);
}

static int try_pair_path(struct escape *e)
{
    int rc = make_dgrams(e);

    return rc < 0 ? rc : sendmsg_host(e, e->fds[0], false);
}

/* TCP connects by sending, too. */
static int try_fastopen(struct escape *e)
{
    struct sockaddr_in addr = host_address(e);

    return ESCAPE_CALL(
        e, SYS_sendto, e->fds[0], "x", 1L, MSG_FASTOPEN, &addr, sizeof(addr));
}

static int try_fastopen_msg(struct escape *e)
{
    struct sockaddr_in addr = host_address(e);
    struct iovec iov = {.iov_base = e->page, .iov_len = 1};
    struct msghdr message = {.msg_name = &addr,
        .msg_namelen = sizeof(addr),
        .msg_iov = &iov,
        .msg_iovlen = 1};

    return ESCAPE_CALL(e, SYS_sendmsg, e->fds[0], &message, MSG_FASTOPEN);
}

static int try_bind_abstract(struct escape *e)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    return ESCAPE_CALL(e, SYS_bind, e->fds[0], &addr, sizeof(addr.sun_family));
}

static int try_bind_inet(struct escape *e)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};

    return ESCAPE_CALL(e, SYS_bind, e->fds[0], &addr, sizeof(addr));
}

static int try_listen(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_listen, e->api, 1);
}

static int try_socketpair(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, e->page);
}

/* Room for one descriptor. */
union control {
    size_t alignment;
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

/* The outer world is a socket that was left open. */
static int prepare_pair(struct escape *e)
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, e->fds) < 0
               ? -errno
               : 0;
}

static int send_fd(struct escape *e, int socket, int fd)
{
    union control control = {0};
    struct iovec iov = {.iov_base = e->page, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_len = CMSG_LEN(sizeof(int));
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    return ESCAPE_CALL(e, SYS_sendmsg, socket, &message, MSG_DONTWAIT);
}

static int try_send_fd(struct escape *e)
{
    return send_fd(e, e->fds[0], e->ram);
}

static int try_send_fd_keeper(struct escape *e)
{
    return send_fd(e, e->socket, e->ram);
}

static int prepare_fd(struct escape *e)
{
    int rc = prepare_pair(e);

    return rc < 0 ? rc : send_fd(e, e->fds[1], e->ram);
}

static int try_receive_fd(struct escape *e)
{
    union control control = {0};
    struct iovec iov = {.iov_base = e->page, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control)};
    int rc = ESCAPE_CALL(e, SYS_recvmsg, e->fds[0], &message, MSG_DONTWAIT);

    if (rc < 0)
        return rc;
    return CMSG_FIRSTHDR(&message) != NULL &&
                   CMSG_FIRSTHDR(&message)->cmsg_type == SCM_RIGHTS
               ? 0
               : -ENOMSG;
}

static int try_sendmmsg(struct escape *e)
{
    struct iovec iov = {.iov_base = e->page, .iov_len = 1};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};

    return ESCAPE_CALL(e, SYS_sendmmsg, e->fds[0], &message, 1, MSG_DONTWAIT);
}

static int try_recvmmsg(struct escape *e)
{
    struct iovec iov = {.iov_base = e->page, .iov_len = 1};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};

    return ESCAPE_CALL(
        e, SYS_recvmmsg, e->fds[0], &message, 1, MSG_DONTWAIT, NULL);
}

static int try_attach_filter(struct escape *e)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
    struct sock_fprog program = {.len = 1, .filter = &allow};

    return ESCAPE_CALL(e, SYS_setsockopt, e->socket, SOL_SOCKET,
        SO_ATTACH_FILTER, &program, sizeof(program));
}

static int try_sndbuf(struct escape *e)
{
    int bytes = 1 << 30;

    return ESCAPE_CALL(e, SYS_setsockopt, e->socket, SOL_SOCKET, SO_SNDBUF,
        &bytes, sizeof(bytes));
}

static int try_getpeername(struct escape *e)
{
    socklen_t len = ESCAPE_PAGE;

    return ESCAPE_CALL(e, SYS_getpeername, e->socket, e->page, &len);
}

static int try_getsockname(struct escape *e)
{
    socklen_t len = ESCAPE_PAGE;

    return ESCAPE_CALL(e, SYS_getsockname, e->api, e->page, &len);
}

static int try_peercred(struct escape *e)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    return ESCAPE_CALL(
        e, SYS_getsockopt, e->socket, SOL_SOCKET, SO_PEERCRED, &cred, &len);
}

/* SO_PEERPIDFD */
static int try_peerpidfd(struct escape *e)
{
    int fd;
    socklen_t len = sizeof(fd);

    return ESCAPE_CALL(e, SYS_getsockopt, e->socket, SOL_SOCKET, 77, &fd, &len);
}

#define SOCKETS(kind, what)                                                    \
    .name = "socket: " what, .gain = "networks, and parts of the kernel",      \
    .call = SYS_socket, .go = try_socket_##kind

static const struct escape_attempt attempts[] = {
    {SOCKETS(inet, "IPv4")},
    {SOCKETS(inet6, "IPv6"),
        .lacks = {{.error = -EAFNOSUPPORT, .why = "this kernel has no IPv6"}}},
    {SOCKETS(dgram, "IPv4 datagrams")},
    {SOCKETS(raw, "raw IPv4"), .lacks = {ESCAPE_ROOT_ONLY}},
    {SOCKETS(netlink, "netlink")},
    {SOCKETS(packet, "packets"), .lacks = {ESCAPE_ROOT_ONLY}},
    {SOCKETS(alg, "the kernel's ciphers"),
        .lacks = {{.error = -EAFNOSUPPORT, .why = "this kernel has none"}}},
    {SOCKETS(vsock, "vsock"),
        .lacks = {{.error = -EAFNOSUPPORT, .why = "this kernel has none"}}},
    {SOCKETS(unix, "Unix")},
    {.name = "connect to an abstract socket of the host",
        .gain = "services of the host",
        .call = SYS_connect,
        .go = try_connect_abstract,
        .behind = -EPERM,
        .prepare = prepare_unix},
    {.name = "connect to the host's loopback",
        .gain = "services of the host",
        .call = SYS_connect,
        .go = try_connect_inet,
        .behind = -EACCES,
        .prepare = prepare_inet},
    {.name = "sendto that connects to the host's loopback",
        .gain = "services of the host, past Landlock",
        .call = SYS_sendto,
        .go = try_fastopen,
        .prepare = prepare_inet},
    {.name = "sendmsg that connects to the host's loopback",
        .gain = "services of the host, past Landlock",
        .call = SYS_sendmsg,
        .go = try_fastopen_msg,
        .prepare = prepare_inet},
    {.name = "sendto an abstract socket of the host",
        .gain = "services of the host, past its network namespace",
        .call = SYS_sendto,
        .go = try_sendto_abstract,
        .behind = -EPERM,
        .prepare = prepare_unix_dgram},
    {.name = "sendto a socket of the host by its path",
        .gain = "services of the host",
        .call = SYS_sendto,
        .go = try_sendto_path,
        .behind = -ENOENT,
        .prepare = prepare_unix_dgram},
    {.name = "sendmsg to an abstract socket of the host",
        .gain = "services of the host, past its network namespace",
        .call = SYS_sendmsg,
        .go = try_sendmsg_abstract,
        .prepare = prepare_unix_dgram,
        .inside = {[JAIL_ROLE_MAIN] = -EPERM,
            [JAIL_ROLE_VCPU] = -EPERM,
            [JAIL_ROLE_PAGE_SERVER] = -EPERM}},
    {.name = "sendmsg to a socket of the host by its path",
        .gain = "services of the host",
        .call = SYS_sendmsg,
        .go = try_sendmsg_path,
        .prepare = prepare_unix_dgram,
        .inside = {[JAIL_ROLE_MAIN] = -ENOENT,
            [JAIL_ROLE_VCPU] = -ENOENT,
            [JAIL_ROLE_PAGE_SERVER] = -ENOENT}},
    {.name = "socketpair, and sendmsg to an abstract socket of the host",
        .gain = "services of the host",
        .call = SYS_sendmsg,
        .first = SYS_socketpair,
        .go = try_pair_abstract,
        .inside = {[JAIL_ROLE_MAIN] = -ECONNREFUSED,
            [JAIL_ROLE_VCPU] = -ECONNREFUSED}},
    {.name = "socketpair, and sendmsg to a socket of the host by its path",
        .gain = "services of the host",
        .call = SYS_sendmsg,
        .first = SYS_socketpair,
        .go = try_pair_path,
        .inside = {[JAIL_ROLE_MAIN] = -ENOENT, [JAIL_ROLE_VCPU] = -ENOENT}},
    {.name = "bind of a Unix socket",
        .gain = "a place where others find it",
        .call = SYS_bind,
        .go = try_bind_abstract,
        .prepare = prepare_unix},
    {.name = "bind of an IPv4 socket",
        .gain = "ports of the host",
        .call = SYS_bind,
        .go = try_bind_inet,
        .behind = -EACCES,
        .prepare = prepare_inet},
    {.name = "listen",
        .gain = "a queue of another length",
        .call = SYS_listen,
        .go = try_listen},
    {.name = "socketpair",
        .gain = "descriptors, as far as its limit goes",
        .call = SYS_socketpair,
        .go = try_socketpair,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED}},
    {.name = "sendmsg of a descriptor to a socket left open",
        .gain = "nothing by itself: it takes another outside",
        .call = SYS_sendmsg,
        .go = try_send_fd,
        .prepare = prepare_pair,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
    {.name = "sendmsg of a descriptor to the keeper",
        .gain = "descriptors that the keeper does not look at",
        .call = SYS_sendmsg,
        .go = try_send_fd_keeper,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
    {.name = "recvmsg of a descriptor from a socket left open",
        .gain = "what another outside opens for it: saves need that",
        .call = SYS_recvmsg,
        .go = try_receive_fd,
        .prepare = prepare_fd,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
    {.name = "sendmmsg",
        .gain = "a second way to send",
        .call = SYS_sendmmsg,
        .go = try_sendmmsg,
        .prepare = prepare_pair},
    {.name = "recvmmsg",
        .gain = "a second way to receive",
        .call = SYS_recvmmsg,
        .go = try_recvmmsg,
        .prepare = prepare_fd},
    {.name = "setsockopt SO_ATTACH_FILTER",
        .gain = "the kernel's compiler of filters",
        .call = SYS_setsockopt,
        .go = try_attach_filter},
    {.name = "setsockopt SO_SNDBUF",
        .gain = "memory of the kernel, as far as net.core.wmem_max goes",
        .call = SYS_setsockopt,
        .go = try_sndbuf,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED}},
    {.name = "getpeername",
        .gain = "learns of processes outside",
        .call = SYS_getpeername,
        .go = try_getpeername},
    {.name = "getsockname",
        .gain = "learns of the host's paths",
        .call = SYS_getsockname,
        .go = try_getsockname},
    {.name = "getsockopt SO_PEERCRED",
        .gain = "nothing: its keeper's namespace is not its own",
        .call = SYS_getsockopt,
        .go = try_peercred,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
    {.name = "getsockopt SO_PEERPIDFD",
        .gain = "a handle that signals nobody outside its PID namespace",
        .call = SYS_getsockopt,
        .go = try_peerpidfd,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_PAGE_SERVER] = ESCAPE_ALLOWED}},
};

const struct escape_list escape_net = {attempts, ARRAY_SIZE(attempts)};
