/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine and the server of its memory say to each other over a Unix
 * stream socket. The first message is Firecracker's, so that either side may
 * be somebody else's program:
 *
 *     machine  [{"base_host_virt_addr": N, "size": N, "offset": N,
 *                "page_size": 4096, "page_size_kib": 4096}, ...]
 *              and, as SCM_RIGHTS, the userfaultfd; nothing afterwards
 *     server   nothing; ours sends one line if it can serve no longer, and
 *              the end of the connection is the end of the service
 *
 * (page_size_kib is in bytes, as Firecracker has it.) Thread rule: no state.
 * Each side takes what the other sends as hostile.
 */
#ifndef SNAPSHOT_PAGER_WIRE_H
#define SNAPSHOT_PAGER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define PAGER_REGIONS_MAX 16u
#define PAGER_HELLO_MAX   8192u /* bytes of the message */
#define PAGER_REASON_SIZE 256u

struct pager_region {
    uint64_t address; /* of the first byte, in the machine's process */
    uint64_t size;    /* bytes, whole pages, not 0 */
    uint64_t offset;  /* of the first byte in the memory of the snapshot */
};

struct pager_hello {
    struct pager_region regions[PAGER_REGIONS_MAX];
    uint32_t count;
};

/* The message; the caller frees *ret_text. 0 or -ENOMEM. */
CC_MUST_CHECK int pager_hello_encode(
    const struct pager_hello *hello, char **ret_text, struct err *err);

/*
 * Whole pages of 4096 bytes, regions that do not overlap at either end and lie
 * in a memory of `ram_bytes`: 0. -EAGAIN: it is not all there yet; -EBADMSG,
 * -ENOTSUP (other page sizes) with a text.
 */
CC_MUST_CHECK int pager_hello_decode(const char *text, size_t size,
    uint64_t ram_bytes, struct pager_hello *ret_hello, struct err *err);

CC_MUST_CHECK int pager_hello_send(
    int socket_fd, const struct pager_hello *hello, int uffd, struct err *err);

/*
 * Waits for the message until `deadline_ns` on clock_now_ns(). -ETIMEDOUT;
 * -ECANCELED if `stop_fd` (-1: none) becomes readable; -EBADMSG. In any case
 * *ret_uffd is the caller's: the userfaultfd that came, or -1.
 */
CC_MUST_CHECK int pager_hello_receive(int socket_fd, int stop_fd,
    uint64_t ram_bytes, uint64_t deadline_ns, struct pager_hello *ret_hello,
    int *ret_uffd, struct err *err);

/* Tells the machine why it is served no longer: a line, as far as it fits. */
void pager_reason_send(int socket_fd, const char *text);

/*
 * What was received as one line for people: up to the first line feed, with
 * what cannot be printed replaced. False if there is nothing in it.
 */
CC_MUST_CHECK bool pager_reason_decode(
    const void *data, size_t size, char ret_text[PAGER_REASON_SIZE]);

#endif
