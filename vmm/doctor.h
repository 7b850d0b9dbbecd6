/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore doctor`: what this host can do, what is missing, what that costs the
 * user and what to do about it. Changes nothing. Thread rule: the process has
 * one thread, because a probe forks.
 */
#ifndef VMM_DOCTOR_H
#define VMM_DOCTOR_H

/*
 * argv[0] is "doctor". 0 if guests can run here, 1 if not, 2 for options that
 * it does not have.
 */
int cmd_doctor(int argc, char **argv);

#endif
