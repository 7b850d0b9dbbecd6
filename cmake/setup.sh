# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Shared by quickstart.sh and test.sh: packages, progress, guest artefacts.
# Sourced with the working directory at the root of the tree.

BUILD_PACKAGES=(
  cmake ninja-build gcc libc6-dev linux-libc-dev musl-tools pkg-config
  libjansson-dev libhttp-parser-dev libseccomp-dev liburing-dev libxxhash-dev zlib1g-dev
  libzstd-dev liblz4-dev liblzma-dev libdw-dev libelf-dev
  libarchive-dev nettle-dev
)
GUEST_PACKAGES=(
  linux-source-6.12 make flex bison bc patch xz-utils binutils libelf-dev
  busybox-static e2fsprogs fakeroot util-linux squashfs-tools
)
TEST_PACKAGES=(
  clang clang-format libclang-rt-14-dev libcmocka-dev bats jq python3 curl
  shellcheck man-db mandoc zsh bsdutils git iproute2 passt afl++ llvm gdb
)

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/spore
JOBS=$(nproc)

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# step TEXT COMMAND...: runs the command with its output in a log; shows that
# it is alive on anything that takes longer than two seconds.
step() {
  local text=$1 log start pid status=0 now shown=0
  shift
  log=$(mktemp "${TMPDIR:-/tmp}/spore-step.XXXXXX")
  start=$SECONDS
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    # Ends early when the command does.
    timeout 2 tail --pid="$pid" -f /dev/null || true
    now=$((SECONDS - start))
    if [ -t 1 ] && [ $now -ge 2 ]; then
      printf '\r\033[K  %s ... %d s' "$text" $now
    elif [ $((now - shown)) -ge 20 ]; then
      printf '  %s ... %d s\n' "$text" $now
      shown=$now
    fi
  done
  wait "$pid" || status=$?
  [ -t 1 ] && printf '\r\033[K'
  now=$((SECONDS - start))
  if [ $status -ne 0 ]; then
    printf '  %s: failed (status %d); the end of its output:\n' "$text" $status
    tail -n 40 "$log"
    rm -f "$log"
    return $status
  fi
  printf '  %s: %d s\n' "$text" $now
  rm -f "$log"
}

# need_packages NAME...: installs what is missing, or says what to install.
need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null |
      grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" -ne 0 ]; then
    die "missing packages; as root: apt-get install --no-install-recommends ${missing[*]}"
  fi
  step "package lists" apt-get update ||
    die "apt-get update failed: is the Debian archive reachable?"
  DEBIAN_FRONTEND=noninteractive step "installing ${#missing[@]} packages" \
    apt-get install -y --no-install-recommends "${missing[@]}" ||
    die "could not install: ${missing[*]}"
}

# check_kvm: says exactly what is wrong with /dev/kvm; status 1 if anything.
check_kvm() {
  if [ ! -e /dev/kvm ]; then
    printf '%s\n' "/dev/kvm is missing: load a KVM module (modprobe kvm_intel or kvm_amd), or turn on nested virtualisation for this machine" >&2
    return 1
  fi
  if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
    printf '%s\n' "/dev/kvm may not be opened by user $(id -un): usermod -aG kvm $(id -un), then log in again" >&2
    return 1
  fi
}

# build PRESET CMAKE-ARGUMENT...
build() {
  local preset=$1
  shift
  step "configuring $preset" cmake --preset "$preset" "$@" ||
    die "the $preset preset could not be configured"
  step "building $preset" cmake --build --preset "$preset" -j "$JOBS" ||
    die "the $preset preset does not build"
}

# guest_artefacts: kernel and root file system, from the cache when they are
# there; their names hold a hash of everything that decides them.
guest_artefacts() {
  step "guest kernel (about five minutes the first time)" \
    guest/build.sh kernel || die "the guest kernel could not be built"
  step "guest root file system" guest/build.sh rootfs ||
    die "the root file system could not be built"
}
