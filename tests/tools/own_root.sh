#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# own_root.sh [--user] COMMAND [ARGUMENT...]: runs a command in a mount
# namespace with a root that anyone may enter, whatever the host's is; this
# folder is /w there, where the command begins. With --user as an ordinary user
# who may use /dev/kvm; who is one already just runs it here. Status 77, or 1
# with SPORE_MUST_WORK=1, and a reason where that cannot be had.

set -eu

cannot() {
  echo "$1" >&2
  [ "${SPORE_MUST_WORK:-}" = 1 ] && exit 1
  exit 77
}

case $1 in
--inside) ;;
*)
  if [ "$(id -u)" -ne 0 ]; then
    [ "$1" = --user ] || cannot "only root can make a root of its own"
    shift
    exec "$@"
  fi
  unshare --mount true 2> /dev/null || cannot "no mount namespace can be made"
  exec unshare --mount --propagation private sh "$0" --inside "$@"
  ;;
esac
shift
user=0
if [ "$1" = --user ]; then
  user=1
  shift
fi
# What is there is hidden: a folder made for this would stay behind.
new=/mnt
mount -t tmpfs -o mode=755 none "$new"
for entry in /*; do
  if [ -L "$entry" ]; then
    cp -a "$entry" "$new/"
  elif [ "$entry" = "$new" ]; then
    mkdir "$new$entry"
  elif [ -d "$entry" ]; then
    mkdir "$new$entry"
    mount --rbind "$entry" "$new$entry"
  fi
done
umount -l "$new/dev"
for node in null zero full random urandom tty; do
  : > "$new/dev/$node"
  mount --bind "/dev/$node" "$new/dev/$node"
done
mkdir "$new/dev/pts"
mount --bind /dev/pts "$new/dev/pts"
mknod -m 666 "$new/dev/ptmx" c 5 2
ln -s /proc/self/fd "$new/dev/fd"
[ ! -e /dev/kvm ] || mknod -m 666 "$new/dev/kvm" c 10 232
mkdir "$new/w" "$new/old"
mount --bind . "$new/w"
cd "$new"
pivot_root . old
umount -l old
rmdir old
cd /w
[ "$user" -eq 1 ] || exec "$@"
exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all -- "$@"
