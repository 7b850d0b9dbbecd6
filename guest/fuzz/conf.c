/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/conf.h"

#include <errno.h>
#include <string.h>

#include "guest/agent/text.h"
#include "guest/fuzz/abi.h"

static const char *const input_names[] = {
    [CONF_STDIN] = "stdin",
    [CONF_FILE] = "file",
    [CONF_MEMORY] = "memory",
    [CONF_SOCKET] = "socket",
};

#define INPUT_COUNT (sizeof(input_names) / sizeof(input_names[0]))

static int take_arg(struct conf *c, char *value)
{
    if (c->arg_count == CONF_ARGS_MAX)
        return -E2BIG;
    if (c->arg_count == 0 && value[0] != '/')
        return -EINVAL;
    c->args[c->arg_count++] = value;
    return 0;
}

static int take_env(struct conf *c, char *value)
{
    if (c->env_count == CONF_ENV_MAX)
        return -E2BIG;
    if (value[0] == '=' || strchr(value, '=') == NULL)
        return -EINVAL;
    c->env[c->env_count++] = value;
    return 0;
}

static int take_input(struct conf *c, char *value)
{
    for (size_t i = 0; i < INPUT_COUNT; i++) {
        if (strcmp(value, input_names[i]) == 0) {
            c->input = (enum conf_input)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int take_cwd(struct conf *c, char *value)
{
    if (value[0] != '/')
        return -EINVAL;
    c->cwd = value;
    return 0;
}

static int take_device(struct conf *c, char *value)
{
    if (strncmp(value, "/dev/", 5) != 0)
        return -EINVAL;
    c->device = value;
    return 0;
}

static int take_flag(const char *value, bool *ret_flag)
{
    if ((value[0] != '0' && value[0] != '1') || value[1] != '\0')
        return -EINVAL;
    *ret_flag = value[0] == '1';
    return 0;
}

static int take_asan(struct conf *c, char *value)
{
    return take_flag(value, &c->asan);
}

static int take_frames(struct conf *c, char *value)
{
    return take_flag(value, &c->frames);
}

static int take_levels(struct conf *c, char *value)
{
    return take_flag(value, &c->levels);
}

static int take_clock(struct conf *c, char *value)
{
    if (strcmp(value, "real") != 0 && strcmp(value, "held") != 0)
        return -EINVAL;
    c->real_clock = value[0] == 'r';
    return 0;
}

static int take_port(struct conf *c, char *value)
{
    uint64_t number;

    if (!text_to_num(value, UINT16_MAX, &number) || number == 0)
        return -EINVAL;
    c->port = (uint16_t)number;
    return 0;
}

static int take_seed(struct conf *c, char *value)
{
    return text_to_num(value, UINT64_MAX, &c->seed) ? 0 : -EINVAL;
}

static int take_map(struct conf *c, char *value)
{
    uint64_t number;

    if (!text_to_num(value, FUZZ_ABI_MAP_MAX, &number))
        return -EINVAL;
    c->map_size = (uint32_t)number;
    return 0;
}

static int take_cmplog(struct conf *c, char *value)
{
    uint64_t number;

    if (!text_to_num(value, CONF_CMPLOG_MAX, &number))
        return -EINVAL;
    c->cmplog_size = number == 1 ? CONF_CMPLOG_BYTES : (uint32_t)number;
    return 0;
}

struct key {
    const char *name; /* with its "=" */
    int (*take)(struct conf *c, char *value);
};

static const struct key keys[] = {
    {"arg=", take_arg},
    {"env=", take_env},
    {"input=", take_input},
    {"cwd=", take_cwd},
    {"device=", take_device},
    {"asan=", take_asan},
    {"port=", take_port},
    {"frames=", take_frames},
    {"levels=", take_levels},
    {"clock=", take_clock},
    {"seed=", take_seed},
    {"map=", take_map},
    {"cmplog=", take_cmplog},
};

static int take_record(struct conf *c, char *record)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        size_t n = strlen(keys[i].name);

        if (strncmp(record, keys[i].name, n) == 0)
            return keys[i].take(c, record + n);
    }
    return -EINVAL;
}

int conf_parse(struct conf *c, char *bytes, size_t size, const char **ret_wrong)
{
    memset(c, 0, sizeof(*c));
    c->cwd = "/tmp";
    if (size == 0 || size > CONF_FILE_MAX || bytes[size - 1] != '\0') {
        *ret_wrong = "(its end)";
        return -EINVAL;
    }
    for (size_t at = 0; at < size; at += strlen(bytes + at) + 1) {
        int error = take_record(c, bytes + at);

        if (error != 0) {
            *ret_wrong = bytes + at;
            return error;
        }
    }
    if (c->device != NULL)
        return 0;
    if (c->arg_count == 0) {
        *ret_wrong = "(no arg)";
        return -EINVAL;
    }
    if (c->input == CONF_SOCKET && c->port == 0) {
        *ret_wrong = "(no port)";
        return -EINVAL;
    }
    return 0;
}

const char *conf_input_name(enum conf_input input)
{
    return input_names[input];
}
