# SPDX-License-Identifier: Apache-2.0
# spore_flags: what every translation unit of the host side is compiled with.
add_library(spore_flags INTERFACE)
target_include_directories(
  spore_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_definitions(spore_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64)

target_compile_options(spore_flags INTERFACE
  -Wall -Wextra -Werror -Wpedantic -Wshadow -Wstrict-prototypes
  -Wmissing-prototypes -Wmissing-declarations -Wold-style-definition
  -Wredundant-decls -Wnested-externs -Wpointer-arith -Wcast-qual -Wcast-align
  -Wwrite-strings -Wformat=2 -Wundef -Wvla -Walloca -Wconversion
  -Wsign-conversion -Wdouble-promotion -Wnull-dereference -Wswitch-enum
  -Wimplicit-fallthrough -Wdate-time -Winit-self
  -fno-common -fstack-protector-strong -fstack-clash-protection
  -fcf-protection -fno-strict-overflow -fno-delete-null-pointer-checks)

if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(spore_flags INTERFACE
    -Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wjump-misses-init
    -Wformat-overflow=2 -Wstringop-overflow=4 -Warith-conversion
    -Wtrampolines)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(spore_flags INTERFACE -ftrivial-auto-var-init=zero)
  endif()
else()
  target_compile_options(spore_flags INTERFACE
    -Wcomma -Wassign-enum -Wconditional-uninitialized -Wextra-semi-stmt
    -Wmissing-variable-declarations -Wunreachable-code-aggressive
    -Wshorten-64-to-32 -Wthread-safety)
endif()

# Assertions stay in release builds: they guard against our own mistakes in a
# program that strangers attack.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")

if(SPORE_SANITIZE)
  target_compile_options(spore_flags INTERFACE
    -fsanitize=${SPORE_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  # The sanitizers' own instrumentation sets these off in gcc 12.
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    target_compile_options(spore_flags INTERFACE
      -Wno-null-dereference -Wno-stringop-overflow -Wno-format-overflow)
  endif()
  target_link_options(spore_flags INTERFACE -fsanitize=${SPORE_SANITIZE})
else()
  target_compile_definitions(
    spore_flags INTERFACE $<$<CONFIG:Release>:_FORTIFY_SOURCE=2>)
endif()

if(SPORE_ANALYZE)
  target_compile_options(spore_flags INTERFACE -fanalyzer)
endif()

if(SPORE_FUZZ)
  target_compile_options(spore_flags INTERFACE ${SPORE_FUZZ_FLAGS})
endif()

if(SPORE_COVERAGE)
  target_compile_options(spore_flags INTERFACE
    -fprofile-instr-generate -fcoverage-mapping)
  target_link_options(spore_flags INTERFACE -fprofile-instr-generate)
endif()

set(CMAKE_POSITION_INDEPENDENT_CODE ON)
target_link_options(spore_flags INTERFACE
  -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed)
