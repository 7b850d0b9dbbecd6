/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int negative(int code)
{
    assert(code != 0);
    return code > 0 ? -code : code;
}

/* glibc has no words for the codes that only kernels use among themselves. */
static void append_code(struct err *err, int code)
{
    size_t len = strlen(err->text);
    const char *words = strerrordesc_np(code);

    if (words != NULL)
        (void)snprintf(err->text + len, sizeof(err->text) - len, ": %s", words);
    else
        (void)snprintf(
            err->text + len, sizeof(err->text) - len, ": error %d", code);
}

/* A record is one line whatever a file name or a guest string has in it. */
static void flatten(struct err *err)
{
    for (char *p = err->text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        flatten(err);
    }
    return negative(code);
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        append_code(err, -negative(code));
        flatten(err);
    }
    return negative(code);
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        struct err inner = *err;
        va_list ap;
        size_t len;

        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        len = strlen(err->text);
        (void)snprintf(
            err->text + len, sizeof(err->text) - len, ": %s", inner.text);
        flatten(err);
    }
    return code;
}
