/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's own version, at most 16 characters. */
#ifndef GUEST_AGENT_VERSION_H
#define GUEST_AGENT_VERSION_H

#define AGENT_VERSION_TEXT "0.1.0"

#endif
