/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of fuzz.conf, and the environment that is made of it: whatever
 * the file holds, what was taken is whole and within its limits.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guest/fuzz/conf.h"
#include "guest/fuzz/environ.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check(const struct conf *c)
{
    require(c->arg_count <= CONF_ARGS_MAX);
    require(c->env_count <= CONF_ENV_MAX);
    require(c->args[c->arg_count] == NULL && c->env[c->env_count] == NULL);
    require(c->cwd[0] == '/');
    if (c->device != NULL)
        require(strncmp(c->device, "/dev/", 5) == 0);
    else
        require(c->arg_count >= 1 && c->args[0][0] == '/');
    for (size_t i = 0; i < c->env_count; i++)
        require(strchr(c->env[i], '=') > c->env[i]);
    require(c->input <= CONF_SOCKET && conf_input_name(c->input) != NULL);
    require(c->input != CONF_SOCKET || c->port != 0 || c->device != NULL);
    require(c->cmplog_size <= CONF_CMPLOG_MAX);
}

static void check_environ(const struct environ_list *e)
{
    require(e->count > 0 && e->list[e->count] == NULL);
    require(e->used <= sizeof(e->text));
    for (size_t i = 0; i < e->count; i++)
        require(strchr(e->list[i], '=') != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct conf conf;
    static struct environ_list list;
    char *bytes = malloc(size > 0 ? size : 1);
    const char *wrong = NULL;

    if (bytes == NULL)
        return 0;
    memcpy(bytes, data, size);
    if (conf_parse(&conf, bytes, size, &wrong) != 0) {
        require(wrong != NULL && strlen(wrong) <= size + 16);
    } else {
        check(&conf);
        if (environ_make(&list, &conf, (size & 1) != 0, (size & 2) != 0) == 0)
            check_environ(&list);
    }
    free(bytes);
    return 0;
}
