/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends of a run that are no crash: the executor puts everything back, so none
 * of these comes back in a run. Outside one they do what libc does.
 */
#ifndef GUEST_FUZZ_PRELOAD_ENDS_H
#define GUEST_FUZZ_PRELOAD_ENDS_H

_Noreturn void ends_exit(int status);

/* The run is over, with this status; returns outside a run. */
void ends_run(int status);

#endif
