/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Custom CPU templates. Numbers and bits are strings there, and complaints of
 * them have the words of Firecracker's parser.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/control.h"
#include "vmm/control_api.h"
#include "vmm/control_config.h"
#include "vmm/hw/cpu_modifiers.h"

#define CPU_ERROR "Configure CPU error"
#define BAD_REGISTER                                                           \
    "Invalid CPUID register. Must be one of [eax, ebx, ecx, edx]"

/* The value of a digit in a base up to 16, or `base`. */
static unsigned int digit(char c, unsigned int base)
{
    unsigned int v = c >= '0' && c <= '9'   ? (unsigned int)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned int)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned int)(c - 'A') + 10
                                            : base;

    return v < base ? v : base;
}

enum number_fault { NUMBER_GOOD, NUMBER_EMPTY, NUMBER_INVALID, NUMBER_LARGE };

static enum number_fault parse_u32(
    const char *text, unsigned int base, uint32_t *ret_value)
{
    uint64_t value = 0;

    text += text[0] == '+' && text[1] != '\0';
    if (*text == '\0')
        return NUMBER_EMPTY;
    for (; *text != '\0'; text++) {
        unsigned int v = digit(*text, base);

        if (v == base)
            return NUMBER_INVALID;
        value = value * base + v;
        if (value > UINT32_MAX)
            return NUMBER_LARGE;
    }
    *ret_value = (uint32_t)value;
    return NUMBER_GOOD;
}

/* "0x2f", "0b101": false with a complaint. */
static bool read_number(
    const char *text, uint32_t *ret_value, char ret_complaint[SCHEMA_TEXT_MAX])
{
    static const char *const kinds[] = {
        [NUMBER_EMPTY] = "Empty",
        [NUMBER_INVALID] = "InvalidDigit",
        [NUMBER_LARGE] = "PosOverflow",
    };
    bool is_hex = strncmp(text, "0x", 2) == 0;
    enum number_fault fault;

    if (!is_hex && strncmp(text, "0b", 2) != 0) {
        (void)snprintf(ret_complaint, SCHEMA_TEXT_MAX,
            "No supported number system prefix found in value [%.512s]. Make "
            "sure to prefix the number with '0x' for hexadecimal numbers or "
            "'0b' for binary numbers.",
            text);
        return false;
    }
    fault = parse_u32(text + 2, is_hex ? 16 : 2, ret_value);
    if (fault != NUMBER_GOOD)
        (void)snprintf(ret_complaint, SCHEMA_TEXT_MAX,
            "Failed to parse string [%.512s] as a number for CPU template - "
            "ParseIntError { kind: %s }",
            text, kinds[fault]);
    return fault == NUMBER_GOOD;
}

/* "0b01x", the last bit last: false with a complaint. */
static bool read_bitmap(const char *text, unsigned int bits,
    uint64_t *ret_filter, uint64_t *ret_value,
    char ret_complaint[SCHEMA_TEXT_MAX])
{
    size_t skip = strncmp(text, "0b", 2) == 0 ? 2 : 0;
    uint64_t filter = 0;
    uint64_t value = 0;
    unsigned int bit = 0;

    for (size_t i = strlen(text); i > skip; i--) {
        char c = text[i - 1];

        if (bit == bits || (c != '_' && c != 'x' && c != '0' && c != '1')) {
            int n = snprintf(ret_complaint, SCHEMA_TEXT_MAX,
                "Failed to parse string [%.512s] as a bitmap - ", text);

            if (bit == bits)
                (void)snprintf(ret_complaint + n, SCHEMA_TEXT_MAX - (size_t)n,
                    "string is too long");
            else
                (void)snprintf(ret_complaint + n, SCHEMA_TEXT_MAX - (size_t)n,
                    "unknown character: %u", (unsigned char)c);
            return false;
        }
        if (c == '_')
            continue;
        filter |= (uint64_t)(c != 'x') << bit;
        value |= (uint64_t)(c == '1') << bit;
        bit++;
    }
    *ret_filter = filter;
    *ret_value = value;
    return true;
}

/* "136", "!136": false with a complaint. */
static bool read_cap(
    const char *text, uint32_t *ret_cap, char ret_complaint[SCHEMA_TEXT_MAX])
{
    static const char *const texts[] = {
        [NUMBER_EMPTY] = "cannot parse integer from empty string",
        [NUMBER_INVALID] = "invalid digit found in string",
        [NUMBER_LARGE] = "number too large to fit in target type",
    };
    enum number_fault fault = parse_u32(text + (text[0] == '!'), 10, ret_cap);

    if (fault != NUMBER_GOOD)
        (void)snprintf(ret_complaint, SCHEMA_TEXT_MAX,
            "Failed to parse string [%.512s] as a kvm capability - can not "
            "convert to numeric: %s",
            text, texts[fault]);
    return fault == NUMBER_GOOD;
}

/* ---- bodies -------------------------------------------------------------- */

static bool check_number(const char *text, char ret_complaint[SCHEMA_TEXT_MAX])
{
    uint32_t value;

    return read_number(text, &value, ret_complaint);
}

static bool check_cap(const char *text, char ret_complaint[SCHEMA_TEXT_MAX])
{
    uint32_t cap;

    return read_cap(text, &cap, ret_complaint);
}

static bool check_bits32(const char *text, char ret_complaint[SCHEMA_TEXT_MAX])
{
    uint64_t filter;
    uint64_t value;

    return read_bitmap(text, 32, &filter, &value, ret_complaint);
}

static bool check_bits64(const char *text, char ret_complaint[SCHEMA_TEXT_MAX])
{
    uint64_t filter;
    uint64_t value;

    return read_bitmap(text, 64, &filter, &value, ret_complaint);
}

static const char *const registers[] = {"eax", "ebx", "ecx", "edx"};

static bool find_register(const char *text, enum cpu_register *ret_reg)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(registers); i++) {
        if (strcmp(registers[i], text) == 0) {
            *ret_reg = (enum cpu_register)i;
            return true;
        }
    }
    return false;
}

static bool is_register(const char *text)
{
    enum cpu_register reg;

    return find_register(text, &reg);
}

#define READ(name_, check_)                                                    \
    {                                                                          \
        .name = (name_), .type = SCHEMA_CUSTOM, .required = true,              \
        .check = (check_)                                                      \
    }
#define OPEN_END(of)                                                           \
    {                                                                          \
        .name = NULL, .name_of = (of), .is_open = true                         \
    }

static const struct schema_field register_fields[] = {
    {.name = "register",
        .type = SCHEMA_CUSTOM,
        .required = true,
        .name_of = BAD_REGISTER,
        .is_good = is_register},
    READ("bitmap", check_bits32),
    OPEN_END("CpuidRegisterModifier"),
};
static const struct schema_field leaf_fields[] = {
    READ("leaf", check_number),
    READ("subleaf", check_number),
    {.name = "flags", .type = SCHEMA_UINT, .required = true, .max = UINT32_MAX},
    {.name = "modifiers",
        .type = SCHEMA_LIST,
        .required = true,
        .object = register_fields},
    OPEN_END("CpuidLeafModifier"),
};
static const struct schema_field msr_fields[] = {
    READ("addr", check_number),
    READ("bitmap", check_bits64),
    OPEN_END("RegisterModifier"),
};

const struct schema_field control_cpu_fields[] = {
    {.name = "kvm_capabilities",
        .type = SCHEMA_LIST,
        .not_null = true,
        .check = check_cap},
    {.name = "cpuid_modifiers",
        .type = SCHEMA_LIST,
        .not_null = true,
        .object = leaf_fields},
    {.name = "msr_modifiers",
        .type = SCHEMA_LIST,
        .not_null = true,
        .object = msr_fields},
    SCHEMA_END("CustomCpuTemplate"),
};

/* What follows has passed the checks of the fields. */

static void take_number(const json_t *from, const char *key, uint32_t *ret)
{
    char text[SCHEMA_TEXT_MAX];

    (void)read_number(schema_string(from, key), ret, text);
}

static void take_bits(const json_t *from, unsigned int bits,
    uint64_t *ret_filter, uint64_t *ret_value)
{
    char text[SCHEMA_TEXT_MAX];

    (void)read_bitmap(
        schema_string(from, "bitmap"), bits, ret_filter, ret_value, text);
}

static int too_many(const char *what, unsigned int max, struct err *err)
{
    return err_set(err, E2BIG, "%s: more than %u", what, max);
}

static int take_leaf(
    struct cpu_modifiers *mods, const json_t *leaf, struct err *err)
{
    size_t i;
    json_t *reg;

    json_array_foreach(json_object_get(leaf, "modifiers"), i, reg)
    {
        struct cpu_cpuid_modifier m = {
            .flags = (uint32_t)schema_uint(leaf, "flags", 0)};
        uint64_t filter = 0;
        uint64_t value = 0;

        if (mods->cpuid_count == CPU_MODIFIERS_CPUID_MAX)
            return too_many("cpuid_modifiers", CPU_MODIFIERS_CPUID_MAX, err);
        take_number(leaf, "leaf", &m.leaf);
        take_number(leaf, "subleaf", &m.subleaf);
        (void)find_register(schema_string(reg, "register"), &m.reg);
        take_bits(reg, 32, &filter, &value);
        m.filter = (uint32_t)filter;
        m.value = (uint32_t)value;
        mods->cpuid[mods->cpuid_count++] = m;
    }
    return 0;
}

static int take_modifiers(
    struct cpu_modifiers *mods, const json_t *body, struct err *err)
{
    char text[SCHEMA_TEXT_MAX];
    size_t i;
    json_t *element;
    int rc = 0;

    json_array_foreach(json_object_get(body, "cpuid_modifiers"), i, element)
    {
        rc = take_leaf(mods, element, err);
        if (rc < 0)
            return rc;
    }
    json_array_foreach(json_object_get(body, "msr_modifiers"), i, element)
    {
        struct cpu_msr_modifier m = {0};

        if (mods->msr_count == CPU_MODIFIERS_MSR_MAX)
            return too_many("msr_modifiers", CPU_MODIFIERS_MSR_MAX, err);
        take_number(element, "addr", &m.index);
        take_bits(element, 64, &m.filter, &m.value);
        mods->msrs[mods->msr_count++] = m;
    }
    json_array_foreach(json_object_get(body, "kvm_capabilities"), i, element)
    {
        const char *cap = json_string_value(element);

        if (mods->cap_count == CPU_MODIFIERS_CAPS_MAX)
            return too_many("kvm_capabilities", CPU_MODIFIERS_CAPS_MAX, err);
        /* What need not be there is not asked for here anyway. */
        if (cap[0] != '!' && read_cap(cap, &mods->caps[mods->cap_count], text))
            mods->cap_count++;
    }
    return 0;
}

int control_cpu_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;
    struct config copy;
    int rc = control_config_begin(c, &copy, &call->err);

    if (rc < 0)
        return rc;
    free(copy.cpu_modifiers);
    copy.cpu_modifiers = calloc(1, sizeof(*copy.cpu_modifiers));
    rc = copy.cpu_modifiers == NULL
             ? err_sys(&call->err, ENOMEM, "template")
             : take_modifiers(copy.cpu_modifiers, call->body, &call->err);
    if (rc < 0)
        control_config_abort(&copy);
    else
        rc =
            control_config_commit(c, &copy, RUN_GIVEN_CPU_TEMPLATE, &call->err);
    return rc < 0 ? err_wrap(&call->err, rc, CPU_ERROR) : 0;
}
