/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/pager_wire.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/core/uffd.h"

#define FDS_MAX 4u /* taken from a message; more are a cut message */

/* ---- the message ---- */

static json_t *region_to_json(const struct pager_region *r)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "base_host_virt_addr",
        (json_int_t)r->address, "size", (json_int_t)r->size, "offset",
        (json_int_t)r->offset, "page_size", (json_int_t)NUM_PAGE_SIZE,
        "page_size_kib", (json_int_t)NUM_PAGE_SIZE);
}

int pager_hello_encode(
    const struct pager_hello *hello, char **ret_text, struct err *err)
{
    json_t *root = json_array();
    char *text = NULL;

    assert(hello->count <= PAGER_REGIONS_MAX);
    for (uint32_t i = 0; root != NULL && i < hello->count; i++) {
        if (json_array_append_new(root, region_to_json(&hello->regions[i])) <
            0) {
            json_decref(root);
            root = NULL;
        }
    }
    if (root != NULL)
        text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (text == NULL)
        return err_sys(err, ENOMEM, "message to the page server");
    *ret_text = text;
    return 0;
}

static int bad_region(struct err *err, size_t i, const char *what)
{
    return err_set(
        err, EBADMSG, "the machine's message: region %zu: %s", i, what);
}

/* False for what is not there or no number of at least 0. */
static bool get_number(const json_t *json, const char *key, uint64_t *ret_value)
{
    const json_t *value = json_object_get(json, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret_value = (uint64_t)json_integer_value(value);
    return true;
}

static int decode_region(const json_t *json, size_t i, uint64_t ram_bytes,
    struct pager_region *ret_region, struct err *err)
{
    struct pager_region r;
    uint64_t page_size;
    uint64_t end;

    if (!get_number(json, "base_host_virt_addr", &r.address) ||
        !get_number(json, "size", &r.size) ||
        !get_number(json, "offset", &r.offset))
        return bad_region(err, i, "address, size or offset is missing");
    if (!get_number(json, "page_size", &page_size) &&
        !get_number(json, "page_size_kib", &page_size))
        return bad_region(err, i, "its page size is missing");
    if (page_size != NUM_PAGE_SIZE)
        return err_set(err, ENOTSUP,
            "the machine's message: region %zu: pages of %llu bytes; only "
            "those of 4096 can be served",
            i, (unsigned long long)page_size);
    if (r.size == 0 || (r.address | r.size | r.offset) % NUM_PAGE_SIZE != 0)
        return bad_region(err, i, "not whole pages");
    if (!num_add(r.address, r.size, &end))
        return bad_region(err, i, "it ends behind the end of all addresses");
    if (!num_range_within(r.offset, r.size, ram_bytes))
        return bad_region(err, i, "it is not within the snapshot's memory");
    *ret_region = r;
    return 0;
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

static int check_apart(const struct pager_hello *hello, struct err *err)
{
    for (uint32_t i = 0; i < hello->count; i++) {
        const struct pager_region *a = &hello->regions[i];

        for (uint32_t k = 0; k < i; k++) {
            const struct pager_region *b = &hello->regions[k];

            if (overlap(a->address, a->size, b->address, b->size) ||
                overlap(a->offset, a->size, b->offset, b->size))
                return bad_region(err, i, "it overlaps another");
        }
    }
    return 0;
}

static int decode(const json_t *root, uint64_t ram_bytes,
    struct pager_hello *hello, struct err *err)
{
    size_t count = json_array_size(root);

    if (!json_is_array(root) || count == 0 || count > PAGER_REGIONS_MAX)
        return err_set(err, EBADMSG,
            "the machine's message: not a list of 1 to %u regions",
            PAGER_REGIONS_MAX);
    for (size_t i = 0; i < count; i++) {
        int rc = decode_region(
            json_array_get(root, i), i, ram_bytes, &hello->regions[i], err);

        if (rc < 0)
            return rc;
    }
    hello->count = (uint32_t)count;
    return check_apart(hello, err);
}

int pager_hello_decode(const char *text, size_t size, uint64_t ram_bytes,
    struct pager_hello *ret_hello, struct err *err)
{
    struct pager_hello hello = {0};
    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    int rc;

    if (root == NULL &&
        json_error_code(&error) == json_error_premature_end_of_input)
        return err_set(err, EAGAIN, "the machine's message: cut short");
    if (root == NULL)
        return err_set(err, EBADMSG,
            "the machine's message is no JSON from byte %d on", error.position);
    rc = decode(root, ram_bytes, &hello, err);
    json_decref(root);
    if (rc == 0)
        *ret_hello = hello;
    return rc;
}

/* ---- sending it ---- */

int pager_hello_send(
    int socket_fd, const struct pager_hello *hello, int uffd, struct err *err)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov;
    struct msghdr msg = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    char *text;
    ssize_t n;
    int rc = pager_hello_encode(hello, &text, err);

    if (rc < 0)
        return rc;
    iov = (struct iovec){.iov_base = text, .iov_len = strlen(text)};
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &uffd, sizeof(uffd));
    do {
        n = sendmsg(socket_fd, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        rc = err_sys(err, errno, "page server");
    else if ((size_t)n != iov.iov_len)
        rc = err_set(err, EPIPE, "page server: it took half of a message");
    free(text);
    return rc;
}

/* ---- receiving it ---- */

/* Takes every descriptor out of the message: the first one to *fd, if free. */
static void take_fds(struct msghdr *msg, int *fd, uint32_t *ret_count)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL;
         c = CMSG_NXTHDR(msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int one;

            memcpy(&one, CMSG_DATA(c) + i * sizeof(one), sizeof(one));
            (*ret_count)++;
            if (*fd < 0)
                *fd = one;
            else
                (void)close(one);
        }
    }
}

/* 0, or -errno. */
static int wait_for(int socket_fd, int stop_fd, uint64_t deadline_ns)
{
    struct pollfd fds[] = {
        {.fd = socket_fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};

    for (;;) {
        uint64_t now = clock_now_ns();
        int n;

        if (now >= deadline_ns)
            return -ETIMEDOUT;
        n = poll(fds, 2,
            (int)num_min(num_div_up(deadline_ns - now, CLOCK_NS_PER_MS),
                60 * UINT64_C(1000)));
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[1].revents != 0)
            return -ECANCELED;
        if (n > 0)
            return 0;
    }
}

struct incoming {
    char text[PAGER_HELLO_MAX];
    size_t size;
    int fd;
    uint32_t fd_count;
};

/* One recvmsg: 0, or -errno with a text. */
static int receive_more(int socket_fd, struct incoming *in, struct err *err)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = in->text + in->size,
        .iov_len = sizeof(in->text) - in->size};
    struct msghdr msg = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(socket_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n < 0)
        return err_sys(err, errno, "the machine's message");
    take_fds(&msg, &in->fd, &in->fd_count);
    if (n == 0)
        return err_set(err, EBADMSG, "the machine hung up without a message");
    if ((msg.msg_flags & MSG_CTRUNC) != 0 || in->fd_count > 1)
        return err_set(
            err, EBADMSG, "the machine's message has more than one descriptor");
    in->size += (size_t)n;
    return 0;
}

static int receive(int socket_fd, int stop_fd, uint64_t ram_bytes,
    uint64_t deadline_ns, struct incoming *in, struct pager_hello *ret_hello,
    struct err *err)
{
    for (;;) {
        int rc = wait_for(socket_fd, stop_fd, deadline_ns);

        if (rc < 0)
            return err_sys(err, rc, "the machine's message");
        rc = receive_more(socket_fd, in, err);
        if (rc < 0)
            return rc;
        rc = pager_hello_decode(in->text, in->size, ram_bytes, ret_hello, err);
        if (rc == 0)
            return 0;
        if (rc != -EAGAIN)
            return rc;
        if (in->size == sizeof(in->text))
            return err_set(err, EBADMSG,
                "the machine's message has more than %u bytes",
                PAGER_HELLO_MAX);
    }
}

int pager_hello_receive(int socket_fd, int stop_fd, uint64_t ram_bytes,
    uint64_t deadline_ns, struct pager_hello *ret_hello, int *ret_uffd,
    struct err *err)
{
    struct incoming *in = malloc(sizeof(*in));
    int rc;

    *ret_uffd = -1;
    if (in == NULL)
        return err_sys(err, ENOMEM, "the machine's message");
    in->size = 0;
    in->fd = -1;
    in->fd_count = 0;
    rc =
        receive(socket_fd, stop_fd, ram_bytes, deadline_ns, in, ret_hello, err);
    if (in->fd >= 0 && !uffd_is_one(in->fd))
        fd_closep(&in->fd);
    *ret_uffd = fd_steal(&in->fd);
    if (rc == 0 && *ret_uffd < 0)
        rc = err_set(err, EBADMSG, "the machine's message has no userfaultfd");
    free(in);
    return rc;
}

/* ---- the last word ---- */

void pager_reason_send(int socket_fd, const char *text)
{
    struct iovec line[] = {
        {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)},
        {.iov_base = (char[]){"\n"}, .iov_len = 1}};
    struct msghdr msg = {.msg_iov = line, .msg_iovlen = 2};

    (void)sendmsg(socket_fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool pager_reason_decode(
    const void *data, size_t size, char ret_text[PAGER_REASON_SIZE])
{
    const unsigned char *bytes = data;
    size_t len = 0;

    while (len < size && len + 1 < PAGER_REASON_SIZE && bytes[len] != '\n') {
        bool fits = bytes[len] >= 0x20 && bytes[len] < 0x7f;

        ret_text[len] = fits ? (char)bytes[len] : '?';
        len++;
    }
    ret_text[len] = '\0';
    return len > 0;
}
