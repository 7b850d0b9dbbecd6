/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tty.h"

#include <errno.h>
#include <sys/ioctl.h>

int tty_raw(struct tty *tty, int fd, struct err *err)
{
    struct termios raw;

    *tty = (struct tty){.fd = -1};
    if (tcgetattr(fd, &tty->saved) < 0)
        return err_sys(err, errno, "cannot read the terminal's settings");
    raw = tty->saved;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
        return err_sys(err, errno, "cannot set the terminal to raw mode");
    tty->fd = fd;
    return 0;
}

void tty_restore(struct tty *tty)
{
    if (tty->fd >= 0)
        (void)tcsetattr(tty->fd, TCSADRAIN, &tty->saved);
    tty->fd = -1;
}

bool tty_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols)
{
    struct winsize size;

    if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_row == 0)
        return false;
    *ret_rows = size.ws_row;
    *ret_cols = size.ws_col;
    return true;
}
