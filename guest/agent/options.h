/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of the kernel's command line that mean something to the agent.
 * One thread. The words come from whoever started the machine; unknown ones
 * are somebody else's and passed over.
 */
#ifndef GUEST_AGENT_OPTIONS_H
#define GUEST_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
    const char *root;   /* NULL: none. All strings are the caller's. */
    const char *fstype; /* NULL: find out */
    const char *rootflags;
    const char *hostname;
    const char *init; /* to execute as process 1 after the root is there */
    bool writable;    /* rw; the kernel's default is ro */
    bool overlay;     /* the root is written to, in memory */
    bool off_is_restart;
    bool kernel_resolver;   /* names are resolved where the kernel was told */
    bool softkvm;           /* the host interprets the kernel; see exec.h */
    uint16_t timeline_port; /* 0: none */
};

/*
 * Takes one word. It is kept by reference and must live on. A value that
 * does not make sense is passed over, as the kernel does.
 */
void options_take_word(struct options *o, char *word);

/*
 * Splits a command line in place at blanks outside double quotes and takes
 * its words. The quotes are removed. The buffer must live on.
 */
void options_take_line(struct options *o, char *line);

#endif
