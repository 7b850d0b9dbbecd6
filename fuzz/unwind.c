/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/unwind.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <stdlib.h>

#define STACK_MAX 32u

/* Evaluates a DWARF expression as rules for unwinding have them. */
struct machine {
    const struct unwind_frame *frame;
    const struct unwind_memory *memory;
    uint64_t cfa;
    uint64_t stack[STACK_MAX];
    unsigned int depth;
    bool is_value; /* the result is a value, no place in memory */
};

static bool push(struct machine *m, uint64_t value)
{
    if (m->depth == STACK_MAX)
        return false;
    m->stack[m->depth++] = value;
    return true;
}

static bool push_register(struct machine *m, uint64_t number, uint64_t offset)
{
    return number < UNWIND_REGS && (m->frame->known >> number & 1) != 0 &&
           push(m, m->frame->regs[number] + offset);
}

static bool deref(struct machine *m)
{
    uint64_t *top = &m->stack[m->depth - 1];

    return m->memory->read(m->memory->opaque, *top, top, sizeof(*top));
}

static bool run_binary(struct machine *m, uint8_t atom)
{
    uint64_t b = m->stack[m->depth - 1];
    uint64_t *a = &m->stack[m->depth - 2];

    m->depth--;
    switch (atom) {
    case DW_OP_plus:
        *a += b;
        return true;
    case DW_OP_minus:
        *a -= b;
        return true;
    case DW_OP_and:
        *a &= b;
        return true;
    case DW_OP_or:
        *a |= b;
        return true;
    case DW_OP_mul:
        *a *= b;
        return true;
    case DW_OP_shl:
        *a = b < 64 ? *a << b : 0;
        return true;
    case DW_OP_ge:
        *a = (int64_t)*a >= (int64_t)b;
        return true;
    default:
        return false;
    }
}

static bool run_op(struct machine *m, const Dwarf_Op *op)
{
    if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31)
        return push(m, op->atom - (uint64_t)DW_OP_lit0);
    if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31)
        return push_register(m, op->atom - (uint64_t)DW_OP_breg0, op->number);
    if (op->atom >= DW_OP_reg0 && op->atom <= DW_OP_reg31) {
        m->is_value = true;
        return push_register(m, op->atom - (uint64_t)DW_OP_reg0, 0);
    }
    switch (op->atom) {
    case DW_OP_bregx:
        return push_register(m, op->number, op->number2);
    case DW_OP_regx:
        m->is_value = true;
        return push_register(m, op->number, 0);
    case DW_OP_call_frame_cfa:
        return push(m, m->cfa);
    case DW_OP_const1u:
    case DW_OP_const1s:
    case DW_OP_const2u:
    case DW_OP_const2s:
    case DW_OP_const4u:
    case DW_OP_const4s:
    case DW_OP_const8u:
    case DW_OP_const8s:
    case DW_OP_constu:
    case DW_OP_consts:
        return push(m, op->number);
    case DW_OP_nop:
        return true;
    case DW_OP_dup:
        return m->depth > 0 && push(m, m->stack[m->depth - 1]);
    case DW_OP_plus_uconst:
        if (m->depth == 0)
            return false;
        m->stack[m->depth - 1] += op->number;
        return true;
    case DW_OP_deref:
        return m->depth > 0 && deref(m);
    case DW_OP_stack_value:
        m->is_value = true;
        return true;
    default:
        return m->depth >= 2 && run_binary(m, op->atom);
    }
}

/* Without branches, so it ends with its list. */
static bool run(struct machine *m, const Dwarf_Op *ops, size_t count)
{
    m->depth = 0;
    m->is_value = false;
    for (size_t i = 0; i < count; i++) {
        if (!run_op(m, &ops[i]))
            return false;
    }
    return m->depth > 0;
}

static void recover(struct machine *m, Dwarf_Frame *rules, unsigned int number,
    struct unwind_frame *caller)
{
    Dwarf_Op room[3];
    Dwarf_Op *ops = NULL;
    size_t count = 0;

    if (dwarf_frame_register(rules, (int)number, room, &ops, &count) != 0)
        return;
    if (count == 0 && ops == NULL) { /* the same as in the callee */
        caller->regs[number] = m->frame->regs[number];
        caller->known |= m->frame->known & (1u << number);
        return;
    }
    if (count == 0 || !run(m, ops, count) || (!m->is_value && !deref(m)))
        return;
    caller->regs[number] = m->stack[m->depth - 1];
    caller->known |= 1u << number;
}

/* 1: done; 0: there are no rules for this place; -1: the stack ends. */
static int step_by_rules(Dwarf_CFI *cfi, uint64_t address,
    const struct unwind_memory *memory, struct unwind_frame *frame)
{
    struct machine m = {.frame = frame, .memory = memory};
    struct unwind_frame caller = {.is_call = true};
    Dwarf_Frame *rules = NULL;
    bool is_signal = false;
    Dwarf_Op *ops;
    size_t count;
    int rc = -1;

    if (cfi == NULL || dwarf_cfi_addrframe(cfi, address, &rules) != 0)
        return 0;
    if (dwarf_frame_info(rules, NULL, NULL, &is_signal) >= 0 &&
        dwarf_frame_cfa(rules, &ops, &count) == 0 && run(&m, ops, count)) {
        m.cfa = m.stack[m.depth - 1];
        caller.regs[UNWIND_RSP] = m.cfa;
        caller.known = 1u << UNWIND_RSP;
        caller.is_call = !is_signal;
        for (unsigned int i = 0; i < UNWIND_REGS; i++) {
            if (i != UNWIND_RSP || is_signal)
                recover(&m, rules, i, &caller);
        }
        if ((caller.known >> UNWIND_RIP & 1) != 0 &&
            (is_signal || caller.regs[UNWIND_RSP] > frame->regs[UNWIND_RSP]))
            rc = 1;
    }
    free(rules);
    if (rc == 1)
        *frame = caller;
    return rc;
}

/* As after `push %rbp; mov %rsp, %rbp`. */
static bool step_by_pointers(
    const struct unwind_memory *memory, struct unwind_frame *frame)
{
    uint64_t at = frame->regs[UNWIND_RBP];
    struct unwind_frame caller = {.is_call = true};
    uint64_t pair[2];

    if ((frame->known >> UNWIND_RBP & 1) == 0 || at < frame->regs[UNWIND_RSP] ||
        !memory->read(memory->opaque, at, pair, sizeof(pair)))
        return false;
    caller.regs[UNWIND_RBP] = pair[0];
    caller.regs[UNWIND_RIP] = pair[1];
    caller.regs[UNWIND_RSP] = at + sizeof(pair);
    caller.known = 1u << UNWIND_RBP | 1u << UNWIND_RIP | 1u << UNWIND_RSP;
    *frame = caller;
    return true;
}

/* A call to where no code is: only its return address was pushed. */
static bool step_from_nowhere(
    const struct unwind_memory *memory, struct unwind_frame *frame)
{
    uint64_t at = frame->regs[UNWIND_RSP];

    if (frame->is_call || !memory->read(memory->opaque, at,
                              &frame->regs[UNWIND_RIP], sizeof(uint64_t)))
        return false;
    frame->regs[UNWIND_RSP] = at + sizeof(uint64_t);
    frame->is_call = true;
    return true;
}

bool unwind_step(struct symbols *symbols, const struct unwind_memory *memory,
    struct unwind_frame *frame)
{
    uint64_t pc = frame->regs[UNWIND_RIP] - (frame->is_call ? 1 : 0);
    struct debug_file *file;
    uint64_t bias;

    if (!symbols_is_code(symbols, pc))
        return step_from_nowhere(memory, frame);
    file = symbols_file(symbols, pc, &bias);
    for (unsigned int which = 0; file != NULL && which < 2; which++) {
        int rc = step_by_rules(
            debug_file_cfi(file, which), pc - bias, memory, frame);

        if (rc != 0)
            return rc > 0;
    }
    return step_by_pointers(memory, frame);
}
