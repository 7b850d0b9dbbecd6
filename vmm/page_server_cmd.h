/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore page-server: a snapshot's memory for machines that ask for its pages.
 */
#ifndef VMM_PAGE_SERVER_CMD_H
#define VMM_PAGE_SERVER_CMD_H

/* The command line from its own word on; the exit status. */
int cmd_page_server(int argc, char **argv);

#endif
