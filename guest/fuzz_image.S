/* SPDX-License-Identifier: Apache-2.0 */
        .section .rodata
        .globl  fuzz_image_init
        .globl  fuzz_image_init_end
        .balign 16
fuzz_image_init:
        .incbin FUZZ_INIT_FILE
fuzz_image_init_end:

        .globl  fuzz_image_preload
        .globl  fuzz_image_preload_end
        .balign 16
fuzz_image_preload:
        .incbin FUZZ_PRELOAD_FILE
fuzz_image_preload_end:

        .section .note.GNU-stack, "", @progbits
