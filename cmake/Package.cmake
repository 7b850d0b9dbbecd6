# SPDX-License-Identifier: Apache-2.0
# Debian packages of what cmake/Install.cmake and its like install:
#
#   cmake --preset package && cmake --build --preset package --target package
#
# Only builds that were configured for /usr have the target: where a program
# looks for its parts is decided when it is built.
if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  return()
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME spore)
set(CPACK_PACKAGE_VENDOR spore)
set(CPACK_PACKAGE_CONTACT "spore maintainers <spore@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
# Programs keep what names their functions in the build folder.
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_COMPONENTS_ALL spore libspore0 libspore-dev)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)

set(CPACK_DEBIAN_SPORE_PACKAGE_NAME spore)
set(CPACK_DEBIAN_SPORE_PACKAGE_SECTION admin)
set(CPACK_COMPONENT_SPORE_DESCRIPTION
"snapshotting lightweight microVM monitor for KVM
Boots a Linux or a bare guest in a virtual machine of its own, runs a command
in it and hands back output and exit status. Snapshots, clones made ahead,
resets in place and snapshot fuzzing stand on the same engine.
.
The package has a guest kernel and root file system if they were there when
it was made, and the recipes of both.")
set(CPACK_DEBIAN_SPORE_PACKAGE_RECOMMENDS "e2fsprogs, passt")
set(CPACK_DEBIAN_SPORE_PACKAGE_SUGGESTS
  "afl++, gdb, linux-source-6.12, musl-tools, busybox-static, fakeroot")

# The library is of no use without the program, which it starts.
set(CPACK_DEBIAN_LIBSPORE0_PACKAGE_NAME libspore0)
set(CPACK_DEBIAN_LIBSPORE0_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBSPORE0_PACKAGE_DEPENDS "spore (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_LIBSPORE0_DESCRIPTION
"clones of microVM templates, for programs
Has commands run in clones of spore's templates, connects to them and puts
them back. The machines are those of a process of spore's.")

set(CPACK_DEBIAN_LIBSPORE-DEV_PACKAGE_NAME libspore-dev)
set(CPACK_DEBIAN_LIBSPORE-DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_LIBSPORE-DEV_PACKAGE_DEPENDS
  "libspore0 (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_LIBSPORE-DEV_DESCRIPTION
"clones of microVM templates, for programs (development files)
Header, pkg-config file, manual page and example of libspore.")

# What Debian asks of every package besides.
spore_gzip(changelog.gz cmake/debian/changelog PACKAGE_CHANGELOG)
foreach(package IN LISTS CPACK_COMPONENTS_ALL)
  install(FILES cmake/debian/copyright ${PACKAGE_CHANGELOG}
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package}
    COMPONENT ${package})
endforeach()
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
  WORLD_READ WORLD_EXECUTE)

include(CPack)
