#!/bin/sh
# Installs Debian packages; the arguments are their names. They come from the archives that this machine uses.
set -eu
. /etc/os-release
# A layer that a crash of the machine cut off is thrown away: dpkg need not wait for the disk at every file.
keep='-o APT::Keep-Downloaded-Packages=true -o Dpkg::Options::=--force-unsafe-io -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache='
from=/run/bindery/sources-${VERSION_CODENAME:-none}.list
if [ "$ID" = debian ] && [ -e "$from" ]; then
	keep="$keep -o Dir::Etc::sourcelist=$from"
fi
# shellcheck disable=SC2086
apt-get update $keep
# Of these, those that the archives have: NAME, or NAME=VERSION, which is the version that its authors give it.
if [ -n "${APT_EXTRA:-}" ]; then
	# shellcheck disable=SC2086,SC2046
	extra=$(apt-cache $keep madison $(printf '%s\n' $APT_EXTRA | sed 's/=.*//') 2>/dev/null | APT_EXTRA="$APT_EXTRA" awk '
		BEGIN { n = split(ENVIRON["APT_EXTRA"], all, " "); for (i = 1; i <= n; i++) { split(all[i], p, "="); want[p[1]] = p[2] } }
		{ v = $3; sub(/^[0-9]+:/, "", v); sub(/-[^-]*$/, "", v); sub(/[+~](dfsg|ds|really).*$/, "", v) }
		want[$1] == "" || want[$1] == v { print $1 }' | sort -u)
	# shellcheck disable=SC2086
	set -- "$@" $extra
fi
# An R that the archives have not, as a package of its own. Its sums are not published, so it is fetched by https.
if [ -n "${R_BUILD:-}" ]; then
	case $ID in
	debian | ubuntu) at=$ID-$(echo "${VERSION_ID:-12}" | tr -d .) ;;
	*) echo "There is no build of R $R_BUILD for $ID." >&2; exit 64 ;;
	esac
	curl -fsSL --retry 3 --output /tmp/r.deb "${BINDERY_R_BUILDS:-https://cdn.posit.co/r}/$at/pkgs/r-${R_BUILD}_1_$(dpkg --print-architecture).deb"
	# shellcheck disable=SC2086
	apt-get install -y --no-install-recommends $keep /tmp/r.deb
	rm /tmp/r.deb
	ln -s "/opt/R/$R_BUILD/bin/R" "/opt/R/$R_BUILD/bin/Rscript" /usr/local/bin/
fi
# shellcheck disable=SC2086
[ $# -eq 0 ] || apt-get install -y --no-install-recommends $keep -- "$@"
rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old
