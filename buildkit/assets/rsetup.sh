#!/bin/bash
# Makes R ready, as root: a library for the user, and the repository that packages come from. R_SNAPSHOT is a day.
set -euo pipefail
. /etc/os-release
home=$(R RHOME)
install -d -o "$NB_UID" -g "$NB_UID" "$R_LIBS_USER"
etc=$(readlink -f "$home/etc")
if ! grep -qs '^R_LIBS_USER=' "$etc/Renviron.site"; then
	echo "R_LIBS_USER=$R_LIBS_USER" >>"$etc/Renviron.site"
fi
# The repository has binaries for those that say what they are.
cat >>"$etc/Rprofile.site" <<END
local({
  options(repos = c(CRAN = "https://packagemanager.posit.co/cran/__linux__/${VERSION_CODENAME:-bookworm}/$R_SNAPSHOT"))
  options(HTTPUserAgent = sprintf("R/%s R (%s)", getRversion(), paste(getRversion(), R.version[["platform"]], R.version[["arch"]], R.version[["os"]])))
})
END
if [ -d /etc/rstudio ]; then
	printf 'auth-none=1\nauth-minimum-user-id=0\nserver-user=%s\nserver-daemonize=0\nwww-frame-origin=same\nrsession-which-r=%s\n' "$NB_USER" "$home/bin/R" >>/etc/rstudio/rserver.conf
	echo "r-cran-repos=https://packagemanager.posit.co/cran/__linux__/${VERSION_CODENAME:-bookworm}/$R_SNAPSHOT" >>/etc/rstudio/rsession.conf
	chown -R "$NB_UID:$NB_UID" /var/lib/rstudio-server
fi
