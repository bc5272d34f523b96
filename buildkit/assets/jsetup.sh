#!/bin/bash
# Installs Julia, as root, from where this machine gets it. What came is compared with the sums that are published beside it.
set -euo pipefail
mirror=${BINDERY_JULIA_MIRROR:-https://julialang-s3.julialang.org}
file=julia-$JULIA_VERSION-linux-$JULIA_ARCH.tar.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
get() { curl -fsSL --retry 3 --output "$work/$2" "$mirror/bin/$1"; }
get "linux/$JULIA_ARCH_SHORT/${JULIA_VERSION%.*}/$file" "$file"
get "checksums/julia-$JULIA_VERSION.sha256" sums
(cd "$work" && grep " $file\$" sums | sha256sum --check --strict --quiet)
install -d "$JULIA_PATH"
tar --extract --gzip --file "$work/$file" --directory "$JULIA_PATH" --strip-components 1 --no-same-owner
install -d -o "$NB_UID" -g "$NB_UID" "$JULIA_DEPOT_PATH"
