/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/server_conn.h"

const struct server_kind_ops server_http_ops = {0};
