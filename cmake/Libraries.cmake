# SPDX-License-Identifier: Apache-2.0
# The libraries that spore stands on. Release builds link their static
# archives: a monitor is started for every guest, and each shared object would
# cost every start its mapping, its relocations and its private pages.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

# An archive is an imported target, so that what it needs of others comes
# behind it on the linker's command line.
function(spore_library target module)
  pkg_check_modules(DEP_${module} REQUIRED ${module})
  # The module's own comes first, others are named below.
  list(GET DEP_${module}_LIBRARIES 0 lib)
  find_library(DEP_STATIC_${lib} NAMES lib${lib}.a)
  if(DEP_STATIC_${lib})
    add_library(${target} STATIC IMPORTED GLOBAL)
    set_target_properties(
      ${target} PROPERTIES IMPORTED_LOCATION ${DEP_STATIC_${lib}})
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE ${lib})
  endif()
  target_include_directories(
    ${target} SYSTEM INTERFACE ${DEP_${module}_INCLUDE_DIRS})
endfunction()

spore_library(dep_jansson jansson)
spore_library(dep_seccomp libseccomp)
spore_library(dep_uring liburing)
spore_library(dep_zlib zlib)
spore_library(dep_zstd libzstd)
spore_library(dep_lz4 liblz4)
spore_library(dep_lzma liblzma)
spore_library(dep_xxhash libxxhash)

# What names and unwinds the code of fuzz targets: libdw without libdwfl, so
# that its archive brings nothing but libelf and zlib.
spore_library(dep_elf libelf)
spore_library(dep_dw libdw)
target_link_libraries(dep_elf INTERFACE dep_zlib)
target_link_libraries(dep_dw INTERFACE dep_elf dep_zlib)

spore_library(dep_nettle nettle)
# Archives of root file systems; of all that it can read, tar.
spore_library(dep_archive libarchive)
target_link_libraries(dep_archive INTERFACE dep_zlib dep_zstd dep_lzma)

# It comes without a pkg-config file.
find_path(HTTP_PARSER_INCLUDE http_parser.h REQUIRED)
find_library(HTTP_PARSER_LIBRARY NAMES libhttp_parser.a http_parser REQUIRED)
add_library(dep_http_parser INTERFACE)
target_include_directories(
  dep_http_parser SYSTEM INTERFACE ${HTTP_PARSER_INCLUDE})
target_link_libraries(dep_http_parser INTERFACE ${HTTP_PARSER_LIBRARY})
