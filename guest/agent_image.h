/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's initrd (guest/initrd), as it is built into the program.
 */
#ifndef GUEST_AGENT_IMAGE_H
#define GUEST_AGENT_IMAGE_H

extern const unsigned char agent_image[];
extern const unsigned char agent_image_end[];

#endif
