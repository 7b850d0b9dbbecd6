/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/fd.h"

#define TUN_PATH "/dev/net/tun"

/* A frame at the usual MTU, with a VLAN tag. */
#define FRAME_MAX_PLAIN 1518u
#define FRAME_OVERHEAD  18u

/* What virtio has for each offload of the kernel: to the guest, and from it. */
static const struct {
    unsigned int tun;
    uint64_t guest;
    uint64_t host;
} offloads[] = {
    {TUN_F_CSUM, NET_F_GUEST_CSUM, NET_F_CSUM},
    {TUN_F_TSO4, NET_F_GUEST_TSO4, NET_F_HOST_TSO4},
    {TUN_F_TSO6, NET_F_GUEST_TSO6, NET_F_HOST_TSO6},
    {TUN_F_TSO_ECN, NET_F_GUEST_ECN, NET_F_HOST_ECN},
    {TUN_F_UFO, NET_F_GUEST_UFO, NET_F_HOST_UFO},
};

static int error_of(int code)
{
    /* The interface was removed, or the descriptor taken from it. */
    return code == EBADFD || code == EBADF || code == ENODEV ? -ENOTCONN
                                                             : -code;
}

static int send_frame(
    struct net_backend *b, struct iovec *iov, unsigned int count, size_t len)
{
    ssize_t n = writev(b->fd, iov, (int)count);

    if (n < 0)
        return errno == EINTR ? -EAGAIN : error_of(errno);
    /* A tap takes frames whole. */
    return (size_t)n == len ? 0 : -EIO;
}

static ssize_t receive_frame(
    struct net_backend *b, struct iovec *iov, unsigned int count)
{
    /* Not the same to the kernel: readv copies and checks the iovecs. */
    ssize_t n = count == 1 ? read(b->fd, iov->iov_base, iov->iov_len)
                           : readv(b->fd, iov, (int)count);

    /* What it says of a frame for which there is too little room. */
    if (n < 0 && errno == EFAULT)
        return -EMSGSIZE;
    if (n < 0)
        return errno == EINTR ? -EAGAIN : error_of(errno);
    return n > 0 ? n : -EIO;
}

/*
 * The longest frame that is no GSO one, from the MTU; as long as any if that
 * cannot be had, as for an interface in another network namespace.
 */
static uint32_t find_plain_frame_max(const struct net_tap *tap)
{
    struct ifreq ifr = {0};
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(ifr.ifr_name, tap->name, sizeof(ifr.ifr_name));
    if (fd < 0 || ioctl(fd, SIOCGIFMTU, &ifr) < 0 ||
        ifr.ifr_mtu > (int)(NET_FRAME_MAX - FRAME_OVERHEAD))
        return NET_FRAME_MAX;
    if (ifr.ifr_mtu <= (int)(FRAME_MAX_PLAIN - FRAME_OVERHEAD))
        return FRAME_MAX_PLAIN;
    return (uint32_t)ifr.ifr_mtu + FRAME_OVERHEAD;
}

static int set_offloads(struct net_backend *b, uint64_t features)
{
    struct net_tap *tap = container_of(b, struct net_tap, backend);
    unsigned int tun = 0;

    for (size_t i = 0; i < ARRAY_SIZE(offloads); i++) {
        if ((features & offloads[i].guest) != 0)
            tun |= offloads[i].tun;
    }
    b->frame_max =
        (features & NET_GUEST_GSO) != 0 ? NET_FRAME_MAX : tap->plain_frame_max;
    if (!b->has_header)
        return 0;
    return ioctl(b->fd, TUNSETOFFLOAD, (unsigned long)tun) < 0 ? -errno : 0;
}

static const struct net_backend_ops tap_ops = {
    .send = send_frame,
    .receive = receive_frame,
    .set_offloads = set_offloads,
};

/*
 * What the kernel can do, found out by asking for it; older ones lack UFO. Off
 * again before a frame could make use of it.
 */
static uint64_t probe_offloads(struct net_backend *b)
{
    uint64_t found = 0;
    unsigned int all = 0;

    for (size_t i = 0; i < ARRAY_SIZE(offloads); i++) {
        unsigned int with = all | offloads[i].tun;

        if (ioctl(b->fd, TUNSETOFFLOAD, (unsigned long)with) < 0)
            continue;
        all = with;
        found |= offloads[i].guest | offloads[i].host;
    }
    return found;
}

int net_tap_init(struct net_tap *tap, int fd, struct err *err)
{
    struct ifreq ifr = {0};
    int header_size = sizeof(struct net_header);
    unsigned int flags;
    int rc;

    *tap = (struct net_tap){.backend.fd = -1};
    if (ioctl(fd, TUNGETIFF, &ifr) < 0)
        return err_set(err, errno,
            "network: descriptor %d is not attached to a tap interface", fd);
    flags = (unsigned short)ifr.ifr_flags;
    ifr.ifr_name[IFNAMSIZ - 1] = '\0';
    if ((flags & IFF_TAP) == 0)
        return err_set(err, EINVAL,
            "network: interface %s is no tap interface; attach with IFF_TAP",
            ifr.ifr_name);
    rc = fd_set_nonblocking(fd, true);
    if (rc < 0)
        return err_sys(err, rc, "network: interface %s", ifr.ifr_name);
    tap->backend = (struct net_backend){
        .ops = &tap_ops, .fd = fd, .has_header = (flags & IFF_VNET_HDR) != 0};
    memcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
    tap->plain_frame_max = find_plain_frame_max(tap);
    if (tap->backend.has_header) {
        if (ioctl(fd, TUNSETVNETHDRSZ, &header_size) < 0) {
            rc = -errno;
            tap->backend = (struct net_backend){.fd = -1};
            return err_sys(
                err, rc, "network: header size of interface %s", ifr.ifr_name);
        }
        tap->backend.offloads = probe_offloads(&tap->backend);
    }
    rc = set_offloads(&tap->backend, 0);
    if (rc < 0) {
        tap->backend = (struct net_backend){.fd = -1};
        return err_sys(err, rc, "network: offloads of interface %s", tap->name);
    }
    return 0;
}

static int open_tun(struct err *err)
{
    int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ENODEV)
        return err_sys(err, errno,
            "network: cannot open " TUN_PATH "; load the module with "
            "`modprobe tun`");
    return err_sys(err, errno,
        "network: cannot open " TUN_PATH "; it must be readable and writable "
        "for this user");
}

static int attach_failed(const char *name, int code, struct err *err)
{
    if (code == EPERM || code == EACCES)
        return err_sys(err, code,
            "network: cannot use interface %s; make it yours with `ip tuntap "
            "add %s mode tap user $USER`, or run with CAP_NET_ADMIN",
            name, name);
    if (code == EBUSY)
        return err_sys(err, code,
            "network: interface %s is in use by another process", name);
    if (code == EINVAL)
        return err_sys(err, code,
            "network: interface %s is no tap interface of one queue; make "
            "one with `ip tuntap add NAME mode tap`",
            name);
    return err_sys(err, code, "network: cannot attach to interface %s", name);
}

int net_tap_open(struct net_tap *tap, const char *name, struct err *err)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc;

    *tap = (struct net_tap){.backend.fd = -1};
    if (name[0] == '\0' || strlen(name) >= sizeof(ifr.ifr_name))
        return err_set(err, EINVAL,
            "network: \"%s\" is no interface name: 1 to %u bytes", name,
            IFNAMSIZ - 1u);
    /* TUNSETIFF would make it: gone again with us, and with no address. */
    if (if_nametoindex(name) == 0)
        return err_set(err, ENODEV,
            "network: there is no interface %s; make it with `ip tuntap add "
            "%s mode tap`",
            name, name);
    fd = open_tun(err);
    if (fd < 0)
        return fd;
    memcpy(ifr.ifr_name, name, strlen(name));
    if (ioctl(fd, TUNSETIFF, &ifr) < 0)
        return attach_failed(name, errno, err);
    rc = net_tap_init(tap, fd, err);
    if (rc == 0)
        (void)fd_steal(&fd);
    return rc;
}

void net_tap_fini(struct net_tap *tap)
{
    if (tap->backend.ops != NULL)
        fd_closep(&tap->backend.fd);
    tap->backend.ops = NULL;
}
