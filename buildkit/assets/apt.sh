#!/bin/sh
# Installs Debian packages; the arguments are their names. They come from the archives that this machine uses.
set -eu
. /etc/os-release
keep='-o APT::Keep-Downloaded-Packages=true -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache='
from=/run/bindery/sources-${VERSION_CODENAME:-none}.list
if [ "$ID" = debian ] && [ -e "$from" ]; then
	keep="$keep -o Dir::Etc::sourcelist=$from"
fi
# shellcheck disable=SC2086
apt-get update $keep
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends $keep -- "$@"
rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old
