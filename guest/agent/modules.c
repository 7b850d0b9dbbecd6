/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/lines.h"
#include "guest/agent/report.h"
#include "guest/agent/sys.h"
#include "guest/agent/text.h"

static int load_one(const char *path)
{
    int fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    int r;

    if (fd < 0)
        return -errno;
    r = syscall(SYS_NR_FINIT_MODULE, fd, "", 0) != 0 ? -errno : 0;
    close(fd);
    return r == -EEXIST ? 0 : r;
}

void modules_load(void)
{
    struct lines l;
    char *line;

    (void)lines_init(&l, "/modules/order");
    while ((line = lines_next(&l)) != NULL) {
        char path[256];
        struct text t;
        int r;

        if (line[0] == '\0')
            continue;
        text_init(&t, path, sizeof(path));
        text_str(&t, "/modules/");
        text_str(&t, line);
        r = load_one(path);
        if (r != 0) {
            char what[320];

            text_init(&t, what, sizeof(what));
            text_str(&t, "cannot load module ");
            text_str(&t, path);
            report_error(what, r);
        }
    }
    lines_fini(&l);
}
