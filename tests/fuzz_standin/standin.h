/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An executor without a guest, for tests of what is around executors: the
 * "guest" is a function. What it does with which input:
 *
 *     FUZZ      crashes (signal 11), found byte by byte
 *     HANG      runs until its time is up, found byte by byte
 *     asanasan  a sanitizer's report of STANDIN_REPORT bytes
 *     abortion  the agent gives up      writtent  writes to its input
 *     jailfree  asks the kernel for a socket
 *     dyingnow  the executor fails      killdead  its process ends
 *     nonsense  a result that there is none of
 *     L:        has an edge for each line
 *
 * In a target's directory `map-size` holds the size of its map, 1000 bytes
 * without; `snapshots/root` is there once it was saved; a file `cmp` gives it
 * AFL++ 4.04c's CmpLog map.
 */
#ifndef TESTS_FUZZ_STANDIN_STANDIN_H
#define TESTS_FUZZ_STANDIN_STANDIN_H

#define STANDIN_REPORT  100000u
#define STANDIN_VERDICT 7 /* beyond the last */

#endif
