/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_exec_request.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "guest/agent/proto.h"
#include "vmm/base/bytes.h"

static uint16_t count_strings(const char *const *strings)
{
    uint16_t n = 0;

    while (strings != NULL && strings[n] != NULL && n < UINT16_MAX)
        n++;
    return n;
}

static void put_string(struct bytes_writer *w, const char *text)
{
    if (text == NULL)
        bytes_put_zero(w, 1);
    else
        bytes_put(w, text, strlen(text) + 1);
}

static void put_strings(struct bytes_writer *w, const char *const *strings)
{
    for (size_t i = 0; strings != NULL && strings[i] != NULL; i++)
        put_string(w, strings[i]);
}

/* A number up to `end`; the highest one means "none" to system calls. */
static bool parse_id(
    const char *text, char end, uint32_t *ret_id, const char **ret_rest)
{
    unsigned long id;
    char *rest;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    id = strtoul(text, &rest, 10);
    if (errno != 0 || id >= UINT32_MAX || (*rest != '\0' && *rest != end))
        return false;
    *ret_id = (uint32_t)id;
    *ret_rest = rest;
    return true;
}

/* "UID" and "UID:GID" are numbers, all else is a name. */
static int put_user(struct agent_exec *request, const char *user,
    const char **ret_name, struct err *err)
{
    uint32_t flags = agent_le32_get(request->flags);
    const char *rest;
    uint32_t uid;
    uint32_t gid;

    *ret_name = NULL;
    if (user == NULL)
        return 0;
    if (user[0] < '0' || user[0] > '9') {
        if (user[0] == '\0' || strchr(user, ':') != NULL)
            return err_set(err, EINVAL,
                "user '%s': it must be a name, UID or UID:GID", user);
        request->flags = agent_le32_put(flags | AGENT_EXEC_USER_NAME);
        *ret_name = user;
        return 0;
    }
    if (!parse_id(user, ':', &uid, &rest))
        return err_set(
            err, EINVAL, "user '%s': it must be a name, UID or UID:GID", user);
    gid = uid;
    if (*rest == ':' && !parse_id(rest + 1, '\0', &gid, &rest))
        return err_set(
            err, EINVAL, "user '%s': it must be a name, UID or UID:GID", user);
    request->uid = agent_le32_put(uid);
    request->gid = agent_le32_put(gid);
    return 0;
}

int guest_exec_request_build(const struct guest_exec_config *config,
    uint8_t *payload, size_t *ret_len, struct err *err)
{
    uint16_t argc = count_strings(config->argv);
    uint16_t envc = count_strings(config->env);
    struct agent_exec request = {
        .flags = agent_le32_put((config->tty ? AGENT_EXEC_TTY : 0) |
                                (config->detach ? AGENT_EXEC_DETACH : 0) |
                                (config->stdin_fd >= 0 ? AGENT_EXEC_STDIN : 0)),
        .rows = agent_le16_put(config->rows),
        .cols = agent_le16_put(config->cols),
        .argc = agent_le16_put(argc),
        .envc = agent_le16_put(envc),
    };
    struct bytes_writer w;
    const char *name;
    int rc = put_user(&request, config->user, &name, err);

    if (rc < 0)
        return rc;
    bytes_writer_init(&w, payload, AGENT_PAYLOAD_MAX);
    bytes_put(&w, &request, sizeof(request));
    put_string(&w, name);
    put_string(&w, config->cwd);
    put_strings(&w, config->argv);
    put_strings(&w, config->env);
    if (w.failed || (uint32_t)argc + envc > AGENT_EXEC_STRINGS_MAX)
        return err_set(err, E2BIG,
            "command line and environment exceed %u bytes or %u words",
            AGENT_PAYLOAD_MAX, AGENT_EXEC_STRINGS_MAX);
    *ret_len = w.pos;
    return 0;
}
