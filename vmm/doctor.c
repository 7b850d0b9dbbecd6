/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/doctor.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/doctor_probe.h"
#include "vmm/doctor_report.h"

#define STATUS_USAGE 2

static const char usage[] =
    "usage: spore doctor [--json]\n"
    "\n"
    "Says what this host can do, what is missing, what that costs and what to\n"
    "do about it. Needs no privilege and changes nothing.\n"
    "\n"
    "  --json  one JSON object instead of text\n"
    "  --help  print this text\n"
    "\n"
    "Exit status: 0 if guests can run here, 1 if not.\n";

int cmd_doctor(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct doctor_report report = {0};
    bool is_json = false;
    int opt;

    optind = 1;
    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (opt) {
        case 'j':
            is_json = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return 0;
        default:
            (void)fputs(usage, stderr);
            return STATUS_USAGE;
        }
    }
    if (optind != argc) {
        (void)fprintf(stderr, "spore: doctor takes no argument '%s'\n%s",
            argv[optind], usage);
        return STATUS_USAGE;
    }
    doctor_probe_kvm(&report);
    doctor_probe_kernel(&report);
    doctor_probe_host(&report);
    doctor_probe_files(&report);
    if (!is_json)
        doctor_report_print(&report, stdout);
    else if (doctor_report_print_json(&report, stdout) < 0)
        (void)fputs("spore: doctor: cannot write the report\n", stderr);
    return doctor_report_can_run(&report) ? 0 : 1;
}
