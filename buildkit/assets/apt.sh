#!/bin/sh
# Installs Debian packages; the arguments are their names.
set -eu
keep='-o APT::Keep-Downloaded-Packages=true -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache='
apt-get update
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends $keep -- "$@"
rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old
