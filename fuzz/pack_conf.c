/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's init is told of its program.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz/pack.h"

static void put(FILE *out, const char *key, const char *value)
{
    (void)fprintf(out, "%s=%s", key, value);
    (void)fputc('\0', out);
}

int pack_encode_conf(const struct fuzz_target *target,
    const struct pack_conf *conf, bool is_device, char **ret_data,
    size_t *ret_size, struct err *err)
{
    char *data = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&data, &size);
    bool failed;

    if (out == NULL)
        return err_sys(err, ENOMEM, "fuzz.conf");
    for (size_t i = 0; target->argv[i] != NULL; i++)
        put(out, is_device ? "device" : "arg", target->argv[i]);
    for (size_t i = 0; target->env != NULL && target->env[i] != NULL; i++)
        put(out, "env", target->env[i]);
    put(out, "input", fuzz_target_input_name(target->input));
    put(out, "cwd", conf->cwd == NULL ? "/tmp" : conf->cwd);
    put(out, "asan", target->asan ? "1" : "0");
    if (target->input == FUZZ_TARGET_SOCKET) {
        (void)fprintf(out, "port=%u", conf->port);
        (void)fputc('\0', out);
        put(out, "frames", conf->frames ? "1" : "0");
        put(out, "levels", conf->levels ? "1" : "0");
    }
    for (size_t i = 0; i < conf->more.count; i++) {
        (void)fputs(conf->more.list[i], out);
        (void)fputc('\0', out);
    }
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(data);
        return err_sys(err, ENOMEM, "fuzz.conf");
    }
    *ret_data = data;
    *ret_size = size;
    return 0;
}
