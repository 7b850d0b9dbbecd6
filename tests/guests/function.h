/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GUESTS_FUNCTION_H
#define TESTS_GUESTS_FUNCTION_H

/* Vsock ports on which it listens. */
#define FUNCTION_ECHO 5000u /* what comes is sent back */
#define FUNCTION_HTTP 5001u /* each packet with a blank line is a request */

/* Not 0 any more when it listens. */
#define FUNCTION_MAILBOX 0x40000u

#endif
