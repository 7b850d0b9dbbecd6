/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What GDB has to be told to see an amd64 program (GDB manual, appendix
 * G.5.16): registers in the order of fuzz/gdbstub.h, the x87's among them since
 * the feature must have them. Thread rule: none.
 */
#ifndef FUZZ_GDBSTUB_TARGET_H
#define FUZZ_GDBSTUB_TARGET_H

/* Its bytes need no escapes in a packet. */
extern const char gdbstub_target_xml[];

#endif
