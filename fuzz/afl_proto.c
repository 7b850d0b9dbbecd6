/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/afl_proto.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "vmm/base/fd.h"

#define IN_FD 198

/* The old hello: bits 1 to 23 are the map's size less one. */
#define OLD_ENABLED   0x80000001u
#define OLD_MAP_SIZE  0x40000000u
#define OLD_DICT      0x10000000u
#define OLD_SHM_INPUT 0x01000000u
#define OLD_CMP       0x02000000u

/* The new one: it is answered with all its bits turned over. */
#define NEW_HELLO     0x41464c01u
#define NEW_MAP_SIZE  0x00000001u
#define NEW_SHM_INPUT 0x00000002u
#define NEW_DICT      0x00000800u

bool afl_proto_is_there(void)
{
    return fcntl(IN_FD, F_GETFD) >= 0 && fcntl(IN_FD + 1, F_GETFD) >= 0;
}

struct afl_proto afl_proto_std(bool is_new)
{
    return (struct afl_proto){
        .in_fd = IN_FD, .out_fd = IN_FD + 1, .is_new = is_new};
}

static int put(
    const struct afl_proto *p, const void *bytes, size_t size, struct err *err)
{
    int rc = fd_write_full(p->out_fd, bytes, size);

    return rc < 0 ? err_sys(err, rc, "AFL++") : 0;
}

static int put_word(const struct afl_proto *p, uint32_t word, struct err *err)
{
    return put(p, &word, sizeof(word), err);
}

/* 1, or 0 at the end. */
static int take_word(
    const struct afl_proto *p, uint32_t *ret_word, struct err *err)
{
    uint32_t word;
    ssize_t n = fd_read_full(p->in_fd, &word, sizeof(word));

    if (n < 0)
        return err_sys(err, (int)n, "AFL++");
    if (n == 0)
        return 0;
    if (n != (ssize_t)sizeof(word))
        return err_set(err, EPROTO, "AFL++ ended in the middle of a word");
    *ret_word = word;
    return 1;
}

static int put_dict(
    const struct afl_proto *p, const struct afl_offer *offer, struct err *err)
{
    int rc = put_word(p, (uint32_t)offer->dict_size, err);

    return rc < 0 ? rc : put(p, offer->dict, offer->dict_size, err);
}

static int hello_old(
    const struct afl_proto *p, const struct afl_offer *offer, struct err *err)
{
    uint32_t word = OLD_ENABLED | OLD_MAP_SIZE | (offer->map_size - 1) << 1;
    uint32_t answer;
    int rc;

    if (offer->wants_shm_input)
        word |= OLD_SHM_INPUT;
    if (offer->has_cmp)
        word |= OLD_CMP;
    if (offer->dict_size > 0)
        word |= OLD_DICT;
    rc = put_word(p, word, err);
    /* It answers only those who want something. */
    if (rc < 0 || (word & (OLD_SHM_INPUT | OLD_DICT)) == 0)
        return rc;
    rc = take_word(p, &answer, err);
    if (rc < 0)
        return rc;
    if (rc == 0 || (answer & OLD_ENABLED) != OLD_ENABLED ||
        (offer->wants_shm_input && (answer & OLD_SHM_INPUT) == 0))
        return err_set(err, EPROTO,
            "AFL++ does not answer the fork server's hello (old protocol)");
    return (answer & OLD_DICT) != 0 && offer->dict_size > 0
               ? put_dict(p, offer, err)
               : 0;
}

static int hello_new(
    const struct afl_proto *p, const struct afl_offer *offer, struct err *err)
{
    uint32_t options = NEW_MAP_SIZE;
    uint32_t answer = 0;
    int rc = put_word(p, NEW_HELLO, err);

    if (rc == 0)
        rc = take_word(p, &answer, err);
    if (rc < 0)
        return rc;
    if (answer != ~NEW_HELLO)
        return err_set(err, EPROTO,
            "AFL++ does not speak the new protocol: leave out "
            "--afl-proto=new");
    if (offer->wants_shm_input)
        options |= NEW_SHM_INPUT;
    if (offer->dict_size > 0)
        options |= NEW_DICT;
    rc = put_word(p, options, err);
    if (rc == 0)
        rc = put_word(p, offer->map_size, err);
    if (rc == 0 && offer->dict_size > 0)
        rc = put_dict(p, offer, err);
    return rc < 0 ? rc : put_word(p, NEW_HELLO, err);
}

int afl_proto_hello(const struct afl_proto *proto,
    const struct afl_offer *offer, struct err *err)
{
    assert(offer->map_size > 1 && offer->map_size <= AFL_PROTO_MAP_MAX);
    assert(offer->dict_size <= AFL_PROTO_DICT_MAX);
    return proto->is_new ? hello_new(proto, offer, err)
                         : hello_old(proto, offer, err);
}

int afl_proto_next(
    const struct afl_proto *proto, bool *ret_was_killed, struct err *err)
{
    uint32_t word;
    int rc = take_word(proto, &word, err);

    if (rc == 1)
        *ret_was_killed = word != 0;
    return rc;
}

int afl_proto_begin(const struct afl_proto *proto, int32_t pid, struct err *err)
{
    return put_word(proto, (uint32_t)pid, err);
}

int afl_proto_end(
    const struct afl_proto *proto, int32_t status, struct err *err)
{
    return put_word(proto, (uint32_t)status, err);
}
