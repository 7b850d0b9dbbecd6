/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot timeline as a picture: a bar for each phase, from the one before it,
 * on a time axis; what the monitor does before the guest's first instruction
 * once more below, enlarged, where it would not be seen.
 *
 * Thread rule: after the run. The title may be anybody's text: it is escaped.
 */
#ifndef VMM_TIMINGS_SVG_H
#define VMM_TIMINGS_SVG_H

#include <stdio.h>

#include "vmm/timings.h"

/* An SVG document. Phases that were not reached are left out. */
void timings_print_svg(const struct timings *t, const char *title, FILE *out);

#endif
