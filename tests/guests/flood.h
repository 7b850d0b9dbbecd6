/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest flood.c, its entry and its tests agree on. */
#ifndef TESTS_GUESTS_FLOOD_H
#define TESTS_GUESTS_FLOOD_H

#define FLOOD_VECTOR 0x41

#define FLOOD_PORT 4321 /* of the host: where "vsock" connects to */
#define FLOOD_ECHO 5000 /* of the guest: where "echo" answers */

#endif
