/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/i8042.h"

#include <errno.h>
#include <stdbool.h>

#define PORT_DATA    0u
#define PORT_SYSTEM  1u /* 0x61 */
#define PORT_COMMAND 4u

#define STATUS_OBF      0x01u
#define STATUS_SYSTEM   0x04u /* self-test passed */
#define STATUS_COMMAND  0x08u /* the last byte came through 0x64 */
#define STATUS_UNLOCKED 0x10u
#define STATUS_TIMEOUT  0x40u
#define STATUS_BITS     (STATUS_OBF | STATUS_COMMAND | STATUS_TIMEOUT)

#define CMD_READ_CTR     0x20u
#define CMD_WRITE_CTR    0x60u
#define CMD_AUX_DISABLE  0xa7u
#define CMD_AUX_ENABLE   0xa8u
#define CMD_AUX_TEST     0xa9u
#define CMD_SELF_TEST    0xaau
#define CMD_KBD_TEST     0xabu
#define CMD_KBD_DISABLE  0xadu
#define CMD_KBD_ENABLE   0xaeu
#define CMD_READ_OUTPUT  0xd0u
#define CMD_WRITE_OUTPUT 0xd1u
#define CMD_ECHO_KBD     0xd2u
#define CMD_ECHO_AUX     0xd3u
#define CMD_WRITE_AUX    0xd4u
#define CMD_PULSE        0xf0u /* with the lines kept high in bits 0-3 */

#define CTR_SYSTEM       0x04u
#define CTR_KBD_DISABLED 0x10u
#define CTR_AUX_DISABLED 0x20u
#define CTR_TRANSLATE    0x40u
#define CTR_POWER_ON                                                           \
    (CTR_SYSTEM | CTR_KBD_DISABLED | CTR_AUX_DISABLED | CTR_TRANSLATE)

#define OUTPUT_RUNNING 0x01u /* the reset line, active low */
#define OUTPUT_A20     0x02u

#define TEST_PASSED         0x00u
#define TEST_DATA_STUCK_LOW 0x03u
#define SELF_TEST_PASSED    0x55u
#define DEVICE_RESEND       0xfeu

#define SYSTEM_WRITABLE   0x0fu
#define SYSTEM_REFRESH    0x10u
#define SYSTEM_TIMER2_OUT 0x20u

static const struct state_field i8042_fields[] = {
    STATE_SCALAR(struct i8042_state, ctr, 1),
    STATE_SCALAR(struct i8042_state, command, 1),
    STATE_SCALAR(struct i8042_state, out, 1),
    STATE_SCALAR(struct i8042_state, status, 1),
    STATE_SCALAR(struct i8042_state, port61, 1),
};

static const struct state_desc i8042_desc =
    STATE_DESC(struct i8042_state, "i8042", 1, i8042_fields);

static struct i8042 *from_device(struct device *dev)
{
    return container_of(dev, struct i8042, dev);
}

/* A newer answer replaces one that nobody fetched. */
static void answer(struct i8042_state *st, uint8_t byte)
{
    st->out = byte;
    st->status |= STATUS_OBF;
}

static void time_out(struct i8042_state *st)
{
    answer(st, DEVICE_RESEND);
    st->status |= STATUS_TIMEOUT;
}

static bool takes_data(uint8_t command)
{
    return command == CMD_WRITE_CTR || command == CMD_WRITE_OUTPUT ||
           command == CMD_ECHO_KBD || command == CMD_ECHO_AUX ||
           command == CMD_WRITE_AUX;
}

static void pulse_reset(const struct i8042 *kbc)
{
    if (kbc->reset != NULL)
        kbc->reset(kbc->opaque);
}

static void write_command(struct i8042 *kbc, uint8_t command)
{
    struct i8042_state *st = &kbc->state;

    st->status |= STATUS_COMMAND;
    st->command = takes_data(command) ? command : 0;
    switch (command) {
    case CMD_READ_CTR:
        answer(st, st->ctr);
        break;
    case CMD_AUX_DISABLE:
        st->ctr |= CTR_AUX_DISABLED;
        break;
    case CMD_AUX_ENABLE:
        st->ctr &= (uint8_t)~CTR_AUX_DISABLED;
        break;
    case CMD_AUX_TEST:
        /* There is no mouse port: a driver takes this as the end of it. */
        answer(st, TEST_DATA_STUCK_LOW);
        break;
    case CMD_SELF_TEST:
        st->ctr |= CTR_SYSTEM;
        answer(st, SELF_TEST_PASSED);
        break;
    case CMD_KBD_TEST:
        answer(st, TEST_PASSED);
        break;
    case CMD_KBD_DISABLE:
        st->ctr |= CTR_KBD_DISABLED;
        break;
    case CMD_KBD_ENABLE:
        st->ctr &= (uint8_t)~CTR_KBD_DISABLED;
        break;
    case CMD_READ_OUTPUT:
        answer(st, OUTPUT_RUNNING | OUTPUT_A20);
        break;
    default:
        if ((command & CMD_PULSE) == CMD_PULSE &&
            (command & OUTPUT_RUNNING) == 0)
            pulse_reset(kbc);
        break;
    }
}

static void write_data(struct i8042 *kbc, uint8_t byte)
{
    struct i8042_state *st = &kbc->state;
    uint8_t command = st->command;

    st->status &= (uint8_t)~STATUS_COMMAND;
    st->command = 0;
    switch (command) {
    case CMD_WRITE_CTR:
        st->ctr = byte;
        break;
    case CMD_WRITE_OUTPUT:
        if ((byte & OUTPUT_RUNNING) == 0)
            pulse_reset(kbc);
        break;
    case CMD_ECHO_KBD:
    case CMD_ECHO_AUX:
        /* Without the mouse flag: the loop test of a driver fails at once. */
        answer(st, byte);
        break;
    default:
        time_out(st);
        break;
    }
}

static uint8_t read_data(struct i8042_state *st)
{
    st->status &= (uint8_t) ~(STATUS_OBF | STATUS_TIMEOUT);
    return st->out;
}

static uint8_t read_status(const struct i8042_state *st)
{
    unsigned int system = (st->ctr & CTR_SYSTEM) != 0 ? STATUS_SYSTEM : 0;

    return (uint8_t)(st->status | system | STATUS_UNLOCKED);
}

static uint8_t read_system(struct i8042_state *st)
{
    st->port61 ^= SYSTEM_REFRESH;
    return st->port61 | SYSTEM_TIMER2_OUT;
}

static void i8042_access(struct device *dev, struct bus_access *access)
{
    struct i8042 *kbc = from_device(dev);
    struct i8042_state *st = &kbc->state;
    uint8_t byte = (uint8_t)access->value;

    /* The ports are not neighbours of one chip: bytes only. */
    if (access->len != 1)
        return;
    switch (access->offset) {
    case PORT_DATA:
        if (access->is_write)
            write_data(kbc, byte);
        else
            access->value = read_data(st);
        break;
    case PORT_SYSTEM:
        if (access->is_write)
            st->port61 = (uint8_t)((st->port61 & SYSTEM_REFRESH) |
                                   (byte & SYSTEM_WRITABLE));
        else
            access->value = read_system(st);
        break;
    case PORT_COMMAND:
        if (access->is_write)
            write_command(kbc, byte);
        else
            access->value = read_status(st);
        break;
    default:
        break;
    }
}

static void i8042_reset(struct device *dev)
{
    from_device(dev)->state = (struct i8042_state){.ctr = CTR_POWER_ON};
}

static int i8042_post_load(struct device *dev, struct err *err)
{
    const struct i8042_state *st = &from_device(dev)->state;

    if ((st->status & ~STATUS_BITS) != 0 ||
        (st->port61 & ~(SYSTEM_WRITABLE | SYSTEM_REFRESH)) != 0 ||
        (st->command != 0 && !takes_data(st->command))) {
        i8042_reset(dev);
        return err_set(err, EINVAL, "i8042: state is inconsistent");
    }
    return 0;
}

static const struct device_ops i8042_ops = {
    .state = &i8042_desc,
    .access = i8042_access,
    .reset = i8042_reset,
    .post_load = i8042_post_load,
};

void i8042_init(struct i8042 *kbc, void (*reset)(void *opaque), void *opaque)
{
    *kbc = (struct i8042){.reset = reset, .opaque = opaque};
    device_init(&kbc->dev, &i8042_ops, "i8042", &kbc->state);
    i8042_reset(&kbc->dev);
}
