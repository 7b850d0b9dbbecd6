/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of a machine description as people write them, on the command line
 * and in the configuration file alike: sizes, addresses, ports.
 *
 * Thread rule: pure functions. The text is the user's and is checked. Errors
 * quote the text; the caller puts the option or key in front.
 */
#ifndef VMM_CONFIG_TEXT_H
#define VMM_CONFIG_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"

/* "128", "128M" (both MiB), "2G", "512K" to bytes; whole pages only. */
CC_MUST_CHECK int config_parse_size(
    const char *text, uint64_t *ret_bytes, struct err *err);

/* A decimal number within [min, max]. */
CC_MUST_CHECK int config_parse_number(const char *text, uint64_t min,
    uint64_t max, uint64_t *ret_number, struct err *err);

/* "02:00:5e:10:00:01", of one station: no group address, not all zero. */
CC_MUST_CHECK int config_parse_mac(
    const char *text, uint8_t ret_mac[CONFIG_MAC_BYTES], struct err *err);

/* "10.0.0.2" to a number. */
CC_MUST_CHECK int config_parse_ipv4(
    const char *text, uint32_t *ret_address, struct err *err);

/* "10.0.0.2/24": a station's address and the bits of its network, 1 to 32. */
CC_MUST_CHECK int config_parse_cidr(const char *text, uint32_t *ret_address,
    uint8_t *ret_prefix, struct err *err);

/* "[ADDRESS/]HOSTPORT[:GUESTPORT]"; is_udp is left alone. */
CC_MUST_CHECK int config_parse_forward(
    const char *text, struct config_forward *ret_forward, struct err *err);

/* The reverse; buffers of this size hold any of them. */
#define CONFIG_TEXT_MAX 40u
void config_format_mac(
    const uint8_t mac[CONFIG_MAC_BYTES], char ret_text[CONFIG_TEXT_MAX]);
void config_format_ipv4(uint32_t address, char ret_text[CONFIG_TEXT_MAX]);
void config_format_forward(
    const struct config_forward *forward, char ret_text[CONFIG_TEXT_MAX]);

#endif
