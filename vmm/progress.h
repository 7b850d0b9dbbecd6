/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tells people that something takes its time: on standard error, from the
 * third second on; on a terminal in a line that is removed, elsewhere once.
 *
 * Thread rule: one thread, but that a progress owns one of its own.
 */
#ifndef VMM_PROGRESS_H
#define VMM_PROGRESS_H

struct progress;

/*
 * `text` is borrowed until the end. NULL if there is no thread to be had,
 * which is as good.
 */
struct progress *progress_start(const char *text);
void progress_end(struct progress *progress); /* NULL is fine */

#endif
