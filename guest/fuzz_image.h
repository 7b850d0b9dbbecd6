/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in a guest that fuzzes (guest/fuzz), as it is built into the
 * program: the initrd with its /init, and the library that targets are
 * started with, which the root file system has as /spore/preload.so.
 */
#ifndef GUEST_FUZZ_IMAGE_H
#define GUEST_FUZZ_IMAGE_H

extern const unsigned char fuzz_image_init[];
extern const unsigned char fuzz_image_init_end[];
extern const unsigned char fuzz_image_preload[];
extern const unsigned char fuzz_image_preload_end[];

#endif
