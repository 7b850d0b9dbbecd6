#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make_oci.sh DIR [DEBIAN-MIRROR]: makes a container image with Debian and Python in
# DIR/image, an OCI layout, and in DIR/image.tar, the same as an archive. As
# root, with debootstrap. Its two layers are a Debian root, and over it a small
# server (python_server.py) and the whiteouts of what nobody needs.

set -euo pipefail

die() {
    printf 'make_oci.sh: %s\n' "$*" >&2
    exit 1
}

[ $# -ge 1 ] || die "usage: make_oci.sh DIR [DEBIAN-MIRROR]"
[ "$EUID" -eq 0 ] || die "debootstrap is for root"
command -v debootstrap > /dev/null ||
    die "debootstrap is missing: apt-get install debootstrap"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
mirror=${2:-http://deb.debian.org/debian}
image=$dir/image
blobs=$image/blobs/sha256

# Puts a file among the blobs; its digest is in `digest`, its size in `size`.
add_blob() {
    digest=$(sha256sum < "$1" | cut -d ' ' -f 1)
    size=$(stat -c %s "$1")
    mv "$1" "$blobs/$digest"
}

# add_layer FOLDER: packs it; adds to `layers` and `diff_ids`.
add_layer() {
    tar --numeric-owner --sort=name --mtime=@1700000000 -C "$1" \
        -cf "$dir/layer.tar" .
    diff_ids+=("\"sha256:$(sha256sum < "$dir/layer.tar" | cut -d ' ' -f 1)\"")
    gzip -1 -n < "$dir/layer.tar" > "$dir/layer.gz"
    rm "$dir/layer.tar"
    add_blob "$dir/layer.gz"
    layers+=("{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$digest\",\"size\":$size}")
}

join() {
    local IFS=,
    printf '%s' "$*"
}

if [ ! -e "$dir/root/usr/bin/python3" ]; then
    rm -rf "$dir/root"
    debootstrap --variant=minbase --include=python3-minimal bookworm \
        "$dir/root" "$mirror"
    rm -rf "$dir"/root/var/cache/apt/archives/*.deb \
        "$dir"/root/var/lib/apt/lists/* "$dir"/root/dev/*
fi

rm -rf "$image" "$dir/over"
mkdir -p "$blobs" "$dir/over/srv" "$dir/over/usr/share/doc" \
    "$dir/over/usr/share"
cp "$here/python_server.py" "$dir/over/srv/"
# All of one folder is hidden, and another folder by its name.
: > "$dir/over/usr/share/doc/.wh..wh..opq"
: > "$dir/over/usr/share/.wh.locale"

layers=()
diff_ids=()
add_layer "$dir/root"
add_layer "$dir/over"

cat > "$dir/config" <<END
{"architecture":"amd64","os":"linux",
 "config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8"],
  "Entrypoint":["python3"],"Cmd":["/srv/python_server.py"],
  "WorkingDir":"/srv","User":""},
 "rootfs":{"type":"layers","diff_ids":[$(join "${diff_ids[@]}")]}}
END
add_blob "$dir/config"
config="{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:$digest\",\"size\":$size}"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}\n' \
    "$config" "$(join "${layers[@]}")" > "$dir/manifest"
add_blob "$dir/manifest"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"amd64","os":"linux"}}]}\n' \
    "$digest" "$size" > "$image/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' > "$image/oci-layout"
tar -C "$image" -cf "$dir/image.tar" .
printf '%s\n' "$image"
