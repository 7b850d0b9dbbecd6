/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/num.h"

#define LOOPBACK UINT32_C(0x7f000001)

static bool unit_scale(char unit, uint64_t *ret_scale)
{
    switch (unit) {
    case 'k':
    case 'K':
        *ret_scale = NUM_KIB;
        return true;
    case '\0':
    case 'm':
    case 'M':
        *ret_scale = NUM_MIB;
        return true;
    case 'g':
    case 'G':
        *ret_scale = NUM_GIB;
        return true;
    default:
        return false;
    }
}

int config_parse_size(const char *text, uint64_t *ret_bytes, struct err *err)
{
    bool is_number = *text >= '0' && *text <= '9';
    uint64_t value = 0;
    const char *p = num_take_digits(text, &value);
    uint64_t scale;

    if (is_number && p == NULL)
        return err_set(err, ERANGE, "'%.32s' is too large a size", text);
    if (p == NULL || !unit_scale(*p, &scale) || (*p != '\0' && p[1] != '\0'))
        return err_set(err, EINVAL,
            "'%.32s' is not a size: write MiB, or a unit as in 512K, 128M, 2G",
            text);
    if (!num_mul(value, scale, &value))
        return err_set(err, ERANGE, "'%.32s' is too large a size", text);
    if (value % NUM_PAGE_SIZE != 0)
        return err_set(err, EINVAL,
            "'%.32s' is not a multiple of 4K, the size of a page", text);
    *ret_bytes = value;
    return 0;
}

int config_parse_number(const char *text, uint64_t min, uint64_t max,
    uint64_t *ret_number, struct err *err)
{
    uint64_t value = 0;
    const char *p = num_take_digits(text, &value);

    if (p == NULL || *p != '\0' || value < min || value > max)
        return err_set(err, EINVAL, "'%.32s' is not a number from %llu to %llu",
            text, (unsigned long long)min, (unsigned long long)max);
    *ret_number = value;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int config_parse_mac(
    const char *text, uint8_t ret_mac[CONFIG_MAC_BYTES], struct err *err)
{
    static const uint8_t none[CONFIG_MAC_BYTES];
    uint8_t mac[CONFIG_MAC_BYTES];
    const char *p = text;
    bool good = true;

    for (size_t i = 0; good && i < CONFIG_MAC_BYTES; i++) {
        int high = hex_digit(p[0]);
        int low = high < 0 ? -1 : hex_digit(p[1]);

        good = low >= 0 && p[2] == (i + 1 < CONFIG_MAC_BYTES ? ':' : '\0');
        if (good)
            mac[i] = (uint8_t)(high << 4 | low);
        p += 3;
    }
    if (!good)
        return err_set(err, EINVAL,
            "'%.32s' is no MAC address: write it as 02:00:5e:10:00:01", text);
    if ((mac[0] & 1u) != 0 || memcmp(mac, none, sizeof(none)) == 0)
        return err_set(err, EINVAL,
            "'%.32s' is not the address of one station: the first byte must "
            "be even, and not all may be zero",
            text);
    memcpy(ret_mac, mac, sizeof(mac));
    return 0;
}

int config_parse_ipv4(const char *text, uint32_t *ret_address, struct err *err)
{
    struct in_addr address;

    if (inet_pton(AF_INET, text, &address) != 1)
        return err_set(err, EINVAL,
            "'%.32s' is no IPv4 address: write it as 10.0.0.2", text);
    *ret_address = ntohl(address.s_addr);
    return 0;
}

int config_parse_cidr(const char *text, uint32_t *ret_address,
    uint8_t *ret_prefix, struct err *err)
{
    const char *slash = strchr(text, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - text);
    char host[CONFIG_TEXT_MAX];
    uint64_t prefix = 0;
    uint32_t address = 0;

    if (len == 0 || len >= sizeof(host))
        return err_set(err, EINVAL,
            "'%.32s' is no address with its network: write it as 10.0.0.2/24",
            text);
    memcpy(host, text, len);
    host[len] = '\0';
    if (config_parse_ipv4(host, &address, NULL) < 0 ||
        config_parse_number(slash + 1, 1, 32, &prefix, NULL) < 0)
        return err_set(err, EINVAL,
            "'%.32s' is no address with its network: write it as 10.0.0.2/24",
            text);
    *ret_address = address;
    *ret_prefix = (uint8_t)prefix;
    return 0;
}

static const char *take_port(const char *text, uint16_t *ret_port)
{
    uint64_t port = 0;
    const char *p = num_take_digits(text, &port);

    if (p == NULL || port < 1 || port > UINT16_MAX)
        return NULL;
    *ret_port = (uint16_t)port;
    return p;
}

int config_parse_forward(
    const char *text, struct config_forward *ret_forward, struct err *err)
{
    struct config_forward f = {
        .address = LOOPBACK, .is_udp = ret_forward->is_udp};
    const char *slash = strchr(text, '/');
    const char *p = text;
    char host[CONFIG_TEXT_MAX];
    size_t len = slash == NULL ? 0 : (size_t)(slash - text);

    if (slash != NULL) {
        if (len >= sizeof(host))
            len = 0;
        memcpy(host, text, len);
        host[len] = '\0';
        p = config_parse_ipv4(host, &f.address, NULL) < 0 ? NULL : slash + 1;
    }
    if (p != NULL)
        p = take_port(p, &f.host_port);
    f.guest_port = f.host_port;
    if (p != NULL && *p == ':')
        p = take_port(p + 1, &f.guest_port);
    if (p == NULL || *p != '\0')
        return err_set(err, EINVAL,
            "'%.40s' forwards no port: write HOSTPORT:GUESTPORT, or "
            "ADDRESS/HOSTPORT:GUESTPORT for an address other than 127.0.0.1",
            text);
    *ret_forward = f;
    return 0;
}

void config_format_mac(
    const uint8_t mac[CONFIG_MAC_BYTES], char ret_text[CONFIG_TEXT_MAX])
{
    (void)snprintf(ret_text, CONFIG_TEXT_MAX, "%02x:%02x:%02x:%02x:%02x:%02x",
        mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

void config_format_ipv4(uint32_t address, char ret_text[CONFIG_TEXT_MAX])
{
    (void)snprintf(ret_text, CONFIG_TEXT_MAX, "%u.%u.%u.%u", address >> 24,
        address >> 16 & 0xffu, address >> 8 & 0xffu, address & 0xffu);
}

void config_format_forward(
    const struct config_forward *forward, char ret_text[CONFIG_TEXT_MAX])
{
    char host[CONFIG_TEXT_MAX];

    config_format_ipv4(forward->address, host);
    (void)snprintf(ret_text, CONFIG_TEXT_MAX, "%.15s/%u:%u", host,
        forward->host_port, forward->guest_port);
}
