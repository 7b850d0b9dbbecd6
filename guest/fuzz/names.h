/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What init and the preload library have between them: names, descriptors
 * and the words of one environment variable. Both are of one build.
 *
 * FUZZ_NAMES_ENV tells the preload library that it is in the program that is
 * fuzzed; without it the library does nothing. Its value is words with commas
 * between them:
 *
 *     stdin, file, memory, socket   how the input comes
 *     early      the root is where AFL++ would fork or before main(), even if
 *                the program looks as if it had a better place
 *     frames, levels, real          as in conf.h
 *     port=N, map=N, cmplog=N, seed=N
 *     at=PATH    of the input's file; the last word, to the end
 */
#ifndef GUEST_FUZZ_NAMES_H
#define GUEST_FUZZ_NAMES_H

#define FUZZ_NAMES_ENV     "SPORE_FUZZ"
#define FUZZ_NAMES_CONF    "/spore/fuzz.conf"
#define FUZZ_NAMES_PRELOAD "/spore/preload.so"
#define FUZZ_NAMES_INPUT   "/tmp/input"

/* The process that gets to the root writes its number there, an int. */
#define FUZZ_NAMES_ROOTED_FD 197

/* In an executable: its main() says itself where the root is. */
#define FUZZ_NAMES_HARNESS "##SIG_SPORE_HARNESS##"

#endif
