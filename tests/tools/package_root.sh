#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Debian packages, installed and used on a clean Debian 12: makes the packages,
# makes a root with debootstrap, installs them there with what they depend on,
# and runs what a user would. Status 77, with the reason, where that cannot be.
#
# As root; needs debootstrap and the archive that this machine's apt uses. The
# packages are those of the arguments, or are built (preset package). SPORE_GUESTS
# is the folder of bare guests, build/release/tests/guests without; lib_probe, a
# program that uses libspore, is in the folder above.

set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly SUITE=bookworm
guests=${SPORE_GUESTS:-$PWD/build/release/tests/guests}
work=

say() {
  printf '%s\n' "$*"
}

# Cannot run here: skipped, or failed where that is not allowed.
cannot_run() {
  say "skipped: $1"
  [ "${SPORE_MUST_WORK:-}" = 1 ] && exit 1
  exit 77
}

fail() {
  say "failed: $1"
  exit 1
}

clean_up() {
  # What was mounted in it went with its namespace.
  [ -z "$work" ] || rm -rf --one-file-system -- "$work"
}

# The archive that apt has this suite from.
find_mirror() {
  # shellcheck disable=SC2016 # apt's own variables
  apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' \
    'Created-By: Packages' 2>/dev/null |
    awk -v suite="$SUITE" '$2 == suite && $3 == "main" && !n++ { print $1 }'
}

# ---- inside -------------------------------------------------------------------

# check WHAT PATTERN COMMAND...: its output has a line that matches.
check() {
  local what=$1 pattern=$2 output status=0
  shift 2
  output=$(timeout 300 "$@" 2>&1 </dev/null) || status=$?
  printf '$ %s\n%s\n' "$*" "$(head -n 6 <<<"$output")"
  [ "$status" -eq 0 ] || fail "$what: status $status: $output"
  grep -qE "$pattern" <<<"$output" || fail "$what: $output"
}

# A bare guest that is a function, frozen, and a program that has clones of it.
use_library() {
  spore run --detach --id function --console --rootfs none \
    --kernel /debs/function.elf --vsock /tmp/vsock >/dev/null </dev/null
  timeout 60 sh -c 'until grep -q ready /run/spore/function/log; do
      timeout 0.1 tail -f /dev/null; done' || true
  check "a template" '^' spore template freeze function function --vsock-port 5001
  spore kill function
  check "a program with libspore" '^ok$' /debs/lib_probe count function
  check "a template goes" '^$' sh -c 'spore template rm function; echo'
}

# As process 1 of a namespace whose root is the new one.
inside() {
  export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
  export XDG_RUNTIME_DIR=/run SPORE_COLD=1 LC_ALL=C.UTF-8
  cd /
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends /debs/*.deb >/debs/log 2>&1 ||
    fail "installing: $(tail -n 20 /debs/log)"
  # shellcheck disable=SC2016 # dpkg's own variables
  dpkg-query -W \
    -f '${Package} ${Version}, ${Installed-Size} KiB, needs: ${Depends}\n' \
    '*spore*'
  check "no file of it is changed" '^0$' \
    sh -c 'dpkg --verify spore | grep -v /usr/share/doc/ | grep -v /usr/share/man/ | wc -l'
  check "version" '^spore [0-9]' spore --version
  check "jailer" . spore-jailer --version
  check "firecracker" . firecracker --version
  check "libraries are there" '^0$' sh -c \
    'ldd /usr/bin/spore* /usr/lib/*/spore/libnyx.so 2>/dev/null | grep -c "not found" || true'
  check "doctor" . spore doctor
  if [ ! -w /dev/kvm ]; then
    say "no /dev/kvm: no guest is run"
    return
  fi
  check "a bare guest" '^hello from a bare guest' \
    spore run --console --timeout 60 --kernel /debs/hello.elf
  use_library
  if [ -r /usr/share/spore/vmlinux ] && [ -r /usr/share/spore/rootfs.ext4 ]; then
    check "a command in a Linux guest" '^Linux' spore run -- uname
  else
    say "the package has no guest: no command is run in one"
  fi
  # It goes without a trace but for what is the user's.
  apt-get purge -y -qq spore libspore0 libspore-dev >/debs/log 2>&1 || fail "purge: $(cat /debs/log)"
  check "nothing is left" '^0$' sh -c \
    'find /usr /etc /var -path /var/lib/dpkg -prune -o -name "*spore*" -print | wc -l'
  say "passed: installed, used and removed on a clean Debian 12"
}

# What a program may expect, and no more; this machine's /dev may be for root.
mount_devices() {
  local dev=$1 name
  mount -t tmpfs -o mode=755 tmpfs "$dev"
  for name in null zero full random urandom tty kvm; do
    [ -e "/dev/$name" ] || continue
    : >"$dev/$name"
    mount --bind "/dev/$name" "$dev/$name"
  done
  mkdir -m 1777 "$dev/shm"
  mkdir "$dev/pts"
  mount -t devpts -o newinstance,ptmxmode=666 devpts "$dev/pts"
  ln -s pts/ptmx "$dev/ptmx"
  ln -s /proc/self/fd "$dev/fd"
}

# In a mount namespace of its own: the new root becomes the root.
enter() {
  local root=$1
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount_devices "$root/dev"
  mount --rbind /sys "$root/sys"
  mount -t proc proc "$root/proc"
  mount -t tmpfs tmpfs "$root/run"
  mount --bind "$2" "$root/debs"
  cp "${BASH_SOURCE[0]}" "$2/package_root.sh"
  cd "$root"
  pivot_root . .
  umount -l .
  exec /bin/bash -c 'source /debs/package_root.sh --functions; inside'
}

case ${1:-} in
--functions) return 0 ;;
--enter)
  enter "$2" "$3"
  exit ;;
esac

# ---- outside ------------------------------------------------------------------

[ "$(id -u)" -eq 0 ] || cannot_run "only root can make a root file system of Debian"
command -v debootstrap >/dev/null || cannot_run "debootstrap is missing: apt-get install debootstrap"
mirror=$(find_mirror)
[ -n "$mirror" ] || cannot_run "apt has no archive of $SUITE here"
probe=$guests/../lib_probe
for file in "$guests/hello.elf" "$guests/function.elf" "$probe"; do
  [ -r "$file" ] || fail "no $file: build the release preset, with its tests"
done

if [ $# -eq 0 ]; then
  # shellcheck source=cmake/setup.sh
  . cmake/setup.sh
  build package
  rm -f build/package/*.deb
  step "packages" cmake --build --preset package --target package
  set -- build/package/*.deb
fi

trap clean_up EXIT
work=$(mktemp -d "${TMPDIR:-/tmp}/spore-package.XXXXXX")
mkdir "$work/debs"
cp -- "$@" "$guests/hello.elf" "$guests/function.elf" "$probe" "$work/debs"
chmod -R a+rX "$work"
say "a clean root of $SUITE"
debootstrap --variant=minbase "$SUITE" "$work/root" "$mirror" >"$work/log" 2>&1 || {
  if grep -qE 'Failed getting release file|Could not resolve|Unable to connect' "$work/log"; then
    cannot_run "the archive cannot be reached"
  fi
  fail "debootstrap: $(tail -n 5 "$work/log")"
}
mkdir -p "$work/root/debs"
unshare --mount --pid --fork --kill-child "$PWD/tests/tools/package_root.sh" \
  --enter "$work/root" "$work/debs"
