/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/request.h"

#include <errno.h>
#include <string.h>

#define NSEC_MAX 999999999u

/*
 * The next string of a payload: from *at to its NUL, which must lie before
 * end. NULL if it does not.
 */
static const char *next_string(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *start = *at;
    size_t left = (size_t)(end - start);
    const uint8_t *nul = left == 0 ? NULL : memchr(start, '\0', left);

    if (nul == NULL)
        return NULL;
    *at = nul + 1;
    return (const char *)start;
}

/* The fixed part of a payload, copied; false if the payload is shorter. */
static bool take_head(const struct frame_view *frame, void *head, size_t size,
    const uint8_t **ret_rest)
{
    if (frame->length < size)
        return false;
    memcpy(head, frame->payload, size);
    *ret_rest = frame->payload + size;
    return true;
}

/* A payload that is a fixed part and nothing else. */
static bool take_all(const struct frame_view *frame, void *head, size_t size)
{
    const uint8_t *rest;

    return frame->length == size && take_head(frame, head, size, &rest);
}

static bool exec_flags_are_valid(uint32_t flags)
{
    const uint32_t streams =
        AGENT_EXEC_TTY | AGENT_EXEC_STDIN | AGENT_EXEC_WAIT_EOF;

    if ((flags & ~AGENT_EXEC_FLAGS) != 0)
        return false;
    return (flags & AGENT_EXEC_DETACH) == 0 || (flags & streams) == 0;
}

int request_exec(const struct frame_view *frame, struct request_exec *ret)
{
    const uint8_t *end = frame->payload + frame->length;
    struct request_exec r;
    struct agent_exec head;
    const uint8_t *at;

    if (!take_head(frame, &head, sizeof(head), &at))
        return -EPROTO;
    r.flags = agent_le32_get(head.flags);
    r.uid = agent_le32_get(head.uid);
    r.gid = agent_le32_get(head.gid);
    r.rows = agent_le16_get(head.rows);
    r.cols = agent_le16_get(head.cols);
    r.argc = agent_le16_get(head.argc);
    r.envc = agent_le16_get(head.envc);
    if (!exec_flags_are_valid(r.flags) || agent_le32_get(head.reserved) != 0 ||
        r.argc == 0 || r.argc + r.envc > AGENT_EXEC_STRINGS_MAX)
        return -EPROTO;
    /* (uid_t)-1 means "no change" to the kernel: never an identity. */
    if (r.uid == UINT32_MAX || r.gid == UINT32_MAX)
        return -EPROTO;

    r.user = next_string(&at, end);
    r.cwd = r.user == NULL ? NULL : next_string(&at, end);
    if (r.cwd == NULL)
        return -EPROTO;
    if ((r.user[0] != '\0') != ((r.flags & AGENT_EXEC_USER_NAME) != 0) ||
        (r.cwd[0] != '\0' && r.cwd[0] != '/'))
        return -EPROTO;
    r.strings = (const char *)at;
    for (size_t i = 0; i < r.argc + r.envc; i++) {
        const char *s = next_string(&at, end);

        if (s == NULL || (i == 0 && s[0] == '\0'))
            return -EPROTO;
    }
    if (at != end)
        return -EPROTO;
    *ret = r;
    return 0;
}

int request_copy(const struct frame_view *frame, struct request_copy *ret)
{
    const uint8_t *end = frame->payload + frame->length;
    struct request_copy r;
    struct agent_copy head;
    const uint8_t *at;

    if (!take_head(frame, &head, sizeof(head), &at))
        return -EPROTO;
    r.flags = agent_le32_get(head.flags);
    r.path = next_string(&at, end);
    if (r.path == NULL || at != end || r.path[0] != '/' ||
        strlen(r.path) > AGENT_PATH_MAX || (r.flags & ~AGENT_COPY_FLAGS) != 0 ||
        agent_le32_get(head.reserved) != 0)
        return -EPROTO;
    *ret = r;
    return 0;
}

bool request_name_is_valid(const char *name)
{
    if (strlen(name) > AGENT_PATH_MAX)
        return false;
    if (strcmp(name, ".") == 0)
        return true;
    for (const char *part = name;;) {
        size_t n = strcspn(part, "/");

        if (n == 0 || n > AGENT_NAME_MAX || (n == 1 && part[0] == '.') ||
            (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (part[n] == '\0')
            return true;
        part += n + 1;
    }
}

static bool entry_head_is_valid(const struct agent_entry *head)
{
    if (head->type < AGENT_ENTRY_FILE || head->type > AGENT_ENTRY_SYMLINK ||
        head->closing > 1 || head->reserved[0] != 0 || head->reserved[1] != 0)
        return false;
    if (head->closing != 0 && head->type != AGENT_ENTRY_DIR)
        return false;
    return agent_le32_get(head->mode) <= 07777 &&
           agent_le32_get(head->uid) != UINT32_MAX &&
           agent_le32_get(head->gid) != UINT32_MAX &&
           agent_le32_get(head->mtime_ns) <= NSEC_MAX &&
           agent_le32_get(head->reserved1) == 0;
}

int request_entry(const struct frame_view *frame, struct request_entry *ret)
{
    const uint8_t *end = frame->payload + frame->length;
    struct request_entry r;
    struct agent_entry head;
    const uint8_t *at;

    if (!take_head(frame, &head, sizeof(head), &at) ||
        !entry_head_is_valid(&head))
        return -EPROTO;
    r.type = (enum agent_entry_type)head.type;
    r.closing = head.closing != 0;
    r.mode = agent_le32_get(head.mode);
    r.uid = agent_le32_get(head.uid);
    r.gid = agent_le32_get(head.gid);
    r.mtime_s = (int64_t)agent_le64_get(head.mtime_s);
    r.mtime_ns = agent_le32_get(head.mtime_ns);
    r.target = NULL;
    r.name = next_string(&at, end);
    if (r.name == NULL || !request_name_is_valid(r.name))
        return -EPROTO;
    if (r.type == AGENT_ENTRY_SYMLINK) {
        r.target = next_string(&at, end);
        if (r.target == NULL || r.target[0] == '\0' ||
            strlen(r.target) > AGENT_PATH_MAX)
            return -EPROTO;
    }
    if (at != end)
        return -EPROTO;
    *ret = r;
    return 0;
}

int request_data(const struct frame_view *frame, struct request_data *ret)
{
    struct request_data r;
    struct agent_data head;
    uint64_t data_end;

    if (!take_head(frame, &head, sizeof(head), &r.bytes))
        return -EPROTO;
    r.offset = agent_le64_get(head.offset);
    r.length = frame->length - sizeof(head);
    if (r.length == 0 ||
        __builtin_add_overflow(r.offset, (uint64_t)r.length, &data_end) ||
        data_end > INT64_MAX)
        return -EPROTO;
    *ret = r;
    return 0;
}

int request_file_end(
    const struct frame_view *frame, struct request_file_end *ret)
{
    struct agent_file_end head;
    uint32_t error;
    uint64_t size;

    if (!take_all(frame, &head, sizeof(head)))
        return -EPROTO;
    size = agent_le64_get(head.size);
    error = agent_le32_get(head.error);
    if (size > INT64_MAX || error > 4095 || agent_le32_get(head.reserved) != 0)
        return -EPROTO;
    ret->size = size;
    ret->error = (int)error;
    return 0;
}

int request_copy_end(const struct frame_view *frame)
{
    return frame->length == sizeof(struct agent_copy_end) ? 0 : -EPROTO;
}

static int take_time(const struct agent_time *head, struct request_time *ret)
{
    if (agent_le64_get(head->sec) > INT64_MAX ||
        agent_le32_get(head->nsec) > NSEC_MAX ||
        agent_le32_get(head->reserved) != 0)
        return -EPROTO;
    ret->sec = (int64_t)agent_le64_get(head->sec);
    ret->nsec = agent_le32_get(head->nsec);
    return 0;
}

int request_time(const struct frame_view *frame, struct request_time *ret)
{
    struct agent_time head;

    return take_all(frame, &head, sizeof(head)) ? take_time(&head, ret)
                                                : -EPROTO;
}

int request_generation(
    const struct frame_view *frame, struct request_generation *ret)
{
    static const uint8_t none[AGENT_GENERATION_ID];
    struct request_time time;
    struct agent_generation head;
    uint32_t flags;

    if (!take_all(frame, &head, sizeof(head)) ||
        take_time(&head.time, &time) != 0)
        return -EPROTO;
    flags = agent_le32_get(head.flags);
    if ((flags & ~AGENT_GENERATION_FLAGS) != 0 ||
        agent_le32_get(head.reserved) != 0 ||
        memcmp(head.id, none, sizeof(none)) == 0)
        return -EPROTO;
    memcpy(ret->id, head.id, sizeof(ret->id));
    memcpy(ret->seed, head.seed, sizeof(ret->seed));
    ret->has_time = (flags & AGENT_GENERATION_TIME) != 0;
    ret->time = time;
    return 0;
}

int request_power(const struct frame_view *frame, struct request_power *ret)
{
    struct agent_power head;

    if (!take_all(frame, &head, sizeof(head)))
        return -EPROTO;
    if ((agent_le32_get(head.flags) & ~AGENT_POWER_FLAGS) != 0 ||
        agent_le32_get(head.grace_ms) > AGENT_POWER_GRACE_MAX_MS)
        return -EPROTO;
    ret->flags = agent_le32_get(head.flags);
    ret->grace_ms = agent_le32_get(head.grace_ms);
    return 0;
}

int request_forward(const struct frame_view *frame, struct request_forward *ret)
{
    struct agent_forward head;

    if (!take_all(frame, &head, sizeof(head)) ||
        agent_le16_get(head.port) == 0 || agent_le16_get(head.reserved) != 0 ||
        agent_le32_get(head.flags) != 0)
        return -EPROTO;
    ret->port = agent_le16_get(head.port);
    return 0;
}

int request_signal(const struct frame_view *frame, struct request_signal *ret)
{
    struct agent_signal head;
    uint32_t number;

    if (!take_all(frame, &head, sizeof(head)))
        return -EPROTO;
    number = agent_le32_get(head.signal);
    if (number == 0 || number > 64 ||
        (agent_le32_get(head.flags) & ~AGENT_SIGNAL_PROCESS) != 0)
        return -EPROTO;
    ret->signal = (int)number;
    ret->flags = agent_le32_get(head.flags);
    return 0;
}

int request_winsize(const struct frame_view *frame, struct request_winsize *ret)
{
    struct agent_winsize head;

    if (!take_all(frame, &head, sizeof(head)))
        return -EPROTO;
    ret->rows = agent_le16_get(head.rows);
    ret->cols = agent_le16_get(head.cols);
    return 0;
}

int request_path(const struct frame_view *frame, char *dst)
{
    if (frame->length > AGENT_PATH_MAX ||
        (frame->length > 0 && frame->payload[0] != '/') ||
        (frame->length > 0 &&
            memchr(frame->payload, '\0', frame->length) != NULL))
        return -EPROTO;
    if (frame->length > 0)
        memcpy(dst, frame->payload, frame->length);
    dst[frame->length] = '\0';
    return 0;
}
