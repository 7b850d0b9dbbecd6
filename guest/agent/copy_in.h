/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COPY_IN: makes a tree from a stream of entries. Owns the descriptors of the
 * destination and of the file being written. One thread. Names, sizes and
 * order are the host's word: request.c has checked each frame by itself, this
 * module checks the order, and openat2 keeps every name below the
 * destination, whatever other processes do to the tree meanwhile.
 */
#ifndef GUEST_AGENT_COPY_IN_H
#define GUEST_AGENT_COPY_IN_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/agent/request.h"

struct copy_in {
    uint32_t flags;
    int base_fd;       /* the destination, O_PATH; -1: none */
    int parent_fd;     /* the directory of the last entry; -1: base_fd */
    int file_fd;       /* between ENTRY of a file and FILE_END; else -1 */
    uint64_t file_end; /* of its DATA so far */
    uint64_t entries;
    uint64_t bytes;
    struct request_entry meta;     /* of that file; its strings are not kept */
    size_t parent_len;             /* of the part of name that parent_fd is */
    char name[AGENT_PATH_MAX + 1]; /* of the last entry */
};

/* No descriptors. */
void copy_in_init(struct copy_in *c);

/* Opens the destination, making it with MKDIR. 0 or -errno. */
int copy_in_start(struct copy_in *c, const struct request_copy *request);

/*
 * The next frame of the stream. 0 or -errno; -EPROTO for an order that the
 * protocol does not have. After an error only copy_in_fini.
 */
int copy_in_entry(struct copy_in *c, const struct request_entry *entry);
int copy_in_data(struct copy_in *c, const struct request_data *data);
int copy_in_file_end(struct copy_in *c, const struct request_file_end *end);

/* -EPROTO inside a file. */
int copy_in_end(const struct copy_in *c);

/* Closes everything. */
void copy_in_fini(struct copy_in *c);

#endif
