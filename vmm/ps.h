/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore ps: the machines that run.
 */
#ifndef VMM_PS_H
#define VMM_PS_H

#include <jansson.h>

/*
 * What machine `id` says of itself, an object with "id": the caller's. NULL if
 * it does not answer within two seconds, or with something else.
 */
json_t *ps_ask(const char *id);

/* The command line from its own word on; the exit status. */
int cmd_ps(int argc, char **argv);

#endif
