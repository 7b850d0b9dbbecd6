/* SPDX-License-Identifier: Apache-2.0 */
        .section .rodata
        .globl  agent_image
        .globl  agent_image_end
        .balign 16
agent_image:
        .incbin AGENT_IMAGE_FILE
agent_image_end:

        .section .note.GNU-stack, "", @progbits
