/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/text.h"

#include <errno.h>
#include <string.h>

void text_init(struct text *t, char *buf, size_t size)
{
    t->buf = buf;
    t->size = size;
    t->len = 0;
    buf[0] = '\0';
}

void text_str(struct text *t, const char *s)
{
    size_t n = strlen(s);
    size_t room = t->size - 1 - t->len;

    if (n > room)
        n = room;
    memcpy(t->buf + t->len, s, n);
    t->len += n;
    t->buf[t->len] = '\0';
}

void text_num(struct text *t, uint64_t value)
{
    char digits[21];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + (int)(value % 10));
        value /= 10;
    } while (value != 0);
    text_str(t, digits + at);
}

/* strerror's table would be a tenth of the agent: only what is common here. */
static const char *errno_name(int error)
{
    switch (error) {
    case EPERM:
        return "not permitted";
    case ENOENT:
        return "no such file or directory";
    case EIO:
        return "input/output error";
    case ENXIO:
        return "no such device or address";
    case ENOEXEC:
        return "not an executable format";
    case ENOMEM:
        return "out of memory";
    case EACCES:
        return "permission denied";
    case EBUSY:
        return "busy";
    case EEXIST:
        return "exists already";
    case EXDEV:
        return "leads out of the tree";
    case ENODEV:
        return "no such device";
    case ENOTDIR:
        return "not a directory";
    case EISDIR:
        return "is a directory";
    case EINVAL:
        return "invalid argument";
    case EMFILE:
        return "too many open files";
    case ENOSPC:
        return "no space left";
    case EROFS:
        return "read-only file system";
    case ELOOP:
        return "symbolic link in the way";
    case ENOSYS:
        return "the kernel does not support it";
    case EOPNOTSUPP:
        return "not supported";
    case EAGAIN:
        return "resource limit reached";
    default:
        return NULL;
    }
}

void text_errno(struct text *t, int error)
{
    const char *name = errno_name(error);

    text_str(t, ": ");
    if (name != NULL) {
        text_str(t, name);
    } else {
        text_str(t, "errno ");
        text_num(t, (uint64_t)(error > 0 ? error : -error));
    }
}

bool text_copy(char *dst, size_t size, const char *src)
{
    size_t n = strlen(src) + 1;

    if (n > size)
        return false;
    memcpy(dst, src, n);
    return true;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 16;
}

bool text_to_num(const char *s, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    int base = 10;

    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
        base = 16;
        s += 2;
    }
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        int digit = digit_value(*s);

        if (digit >= base ||
            __builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value) ||
            value > max)
            return false;
    }
    *ret_value = value;
    return true;
}
