/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore-firecracker`: this monitor with Firecracker's command line, exit
 * statuses and habits (docs/api.md).
 */
#ifndef VMM_FIRECRACKER_H
#define VMM_FIRECRACKER_H

/* The whole program; returns the exit status. */
int firecracker_main(int argc, char **argv);

#endif
