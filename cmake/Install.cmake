# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where, beside the programs and libraries, whose
# own folders say so. docs/install.md is the list for people.

# spore_install_link(PROGRAM NAME): the name by which another program's users
# know it, as a link beside it.
function(spore_install_link program name)
  install(CODE "
    set(dir \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
    file(CREATE_LINK ${program} \"\${dir}/${name}\" SYMBOLIC)"
    COMPONENT spore)
endfunction()

set(SPORE_DATA ${CMAKE_INSTALL_DATADIR}/spore)

# spore_gzip(NAME SOURCE VARIABLE): a compressed copy, without the time at which
# it was made; its path is put into the variable.
function(spore_gzip name source variable)
  set(out ${CMAKE_BINARY_DIR}/compressed/${name})
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/compressed
    COMMAND gzip -9nc ${CMAKE_SOURCE_DIR}/${source} > ${out}
    DEPENDS ${source} VERBATIM)
  string(MAKE_C_IDENTIFIER ${name} target)
  add_custom_target(${target} ALL DEPENDS ${out})
  set(${variable} ${out} PARENT_SCOPE)
endfunction()

file(GLOB MAN_PAGES CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}
  docs/man/*.1)
foreach(page IN LISTS MAN_PAGES)
  get_filename_component(name ${page} NAME)
  spore_gzip(${name}.gz ${page} compressed)
  install(FILES ${compressed} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
    COMPONENT spore)
endforeach()

spore_gzip(libspore.3.gz docs/man/libspore.3 compressed)
install(FILES ${compressed} DESTINATION ${CMAKE_INSTALL_MANDIR}/man3
  COMPONENT libspore-dev)
install(FILES docs/examples/clone_exec.c
  DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/libspore-dev/examples
  COMPONENT libspore-dev)

file(GLOB DOCUMENTS CONFIGURE_DEPENDS docs/*.md docs/openapi.yaml)
install(FILES README.md ${DOCUMENTS} DESTINATION ${CMAKE_INSTALL_DOCDIR}
  COMPONENT spore)

# Units name the program by its whole path.
foreach(unit spore-serve@.service spore-serve@.socket)
  file(READ docs/systemd/${unit} text)
  string(REPLACE /usr/local/bin/ ${CMAKE_INSTALL_FULL_BINDIR}/ text "${text}")
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/systemd/${unit}
    CONTENT "${text}" @ONLY)
  set_property(DIRECTORY APPEND PROPERTY
    CMAKE_CONFIGURE_DEPENDS docs/systemd/${unit})
  install(FILES ${CMAKE_BINARY_DIR}/systemd/${unit}
    DESTINATION lib/systemd/system COMPONENT spore)
endforeach()

# The recipes of guests, with the agent's source, which they build.
install(DIRECTORY guest/kernel guest/rootfs guest/initrd guest/agent
  DESTINATION ${SPORE_DATA}/guest COMPONENT spore
  USE_SOURCE_PERMISSIONS)
install(PROGRAMS guest/build.sh DESTINATION ${SPORE_DATA}/guest
  COMPONENT spore)

# A guest that is built goes along, so that the program has something to run.
# Looked for when it is installed, where the recipes put it.
set(SPORE_GUEST_KERNEL "" CACHE FILEPATH
  "vmlinux to install (empty: that of guest/build.sh, if it is there)")
set(SPORE_GUEST_ROOTFS "" CACHE FILEPATH
  "rootfs.ext4 to install (empty: that of guest/build.sh, if it is there)")
function(spore_install_guest name given cached)
  install(CODE "
    set(file \"${given}\")
    if(NOT file)
      set(cache \"\$ENV{XDG_CACHE_HOME}\")
      if(NOT cache)
        set(cache \"\$ENV{HOME}/.cache\")
      endif()
      set(file \"\${cache}/spore/${cached}\")
    endif()
    if(EXISTS \"\${file}\")
      file(REAL_PATH \"\${file}\" file)
      file(INSTALL FILES \"\${file}\" RENAME ${name}
        DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${SPORE_DATA}\"
        TYPE FILE PERMISSIONS
          OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
    else()
      message(STATUS \"No guest at \${file}: not installed\")
    endif()" COMPONENT spore)
endfunction()
spore_install_guest(vmlinux "${SPORE_GUEST_KERNEL}" kernel/vmlinux)
spore_install_guest(rootfs.ext4 "${SPORE_GUEST_ROOTFS}" rootfs/rootfs.ext4)
