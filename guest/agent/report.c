/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/io.h>
#include <unistd.h>

#include "guest/agent/text.h"

static bool write_to(const char *path, const struct text *t)
{
    int fd =
        openat(AT_FDCWD, path, O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n;

    if (fd < 0)
        return false;
    n = write(fd, t->buf, t->len);
    close(fd);
    return n == (ssize_t)t->len;
}

void report_line(const char *text)
{
    char buf[512];
    struct text t;
    bool told;

    text_init(&t, buf, sizeof(buf) - 1);
    text_str(&t, "spore-agent: ");
    text_str(&t, text);
    buf[t.len++] = '\n';
    buf[t.len] = '\0';
    told = write_to("/dev/kmsg", &t);
    told |= write_to("/dev/console", &t);
    if (!told && write(STDERR_FILENO, t.buf, t.len) < 0)
        return;
}

void report_error(const char *text, int error)
{
    char buf[512];
    struct text t;

    text_init(&t, buf, sizeof(buf));
    text_str(&t, text);
    text_errno(&t, -error);
    report_line(buf);
}

int report_open_port(uint16_t port)
{
    return ioperm(port, 1, 1) != 0 ? -errno : 0;
}

void report_phase(uint16_t port, enum report_phase phase)
{
    if (port != 0)
        outb((unsigned char)phase, port);
}
