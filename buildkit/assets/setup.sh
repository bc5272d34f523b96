#!/bin/sh
# Makes a base ready: what every image has apart from packages of its own. Runs as root, once per base.
set -eu

missing=
for c in git curl less unzip envsubst locale-gen python3; do
	command -v "$c" >/dev/null || missing=yes
done
[ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null || missing=yes
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing=yes
if [ -n "$missing" ]; then
	command -v apt-get >/dev/null || { echo "The base image has no apt-get: use one that is made from Debian or Ubuntu." >&2; exit 64; }
	apt-get update
	apt-get install -y --no-install-recommends ca-certificates curl gettext-base git less locales python3 python3-venv unzip
	rm -rf /var/lib/apt/lists/*
fi

if ! locale -a 2>/dev/null | grep -qix 'en_US.utf-\?8'; then
	echo 'en_US.UTF-8 UTF-8' >>/etc/locale.gen
	locale-gen
fi

# The user, whatever the base calls uid 1000.
old=$(getent passwd "$NB_UID" | cut -d: -f1) || true
oldgroup=$(getent group "$NB_UID" | cut -d: -f1) || true
if [ -n "$oldgroup" ]; then
	[ "$oldgroup" = "$NB_USER" ] || groupmod --new-name "$NB_USER" "$oldgroup"
else
	groupadd --gid "$NB_UID" "$NB_USER"
fi
if [ -n "$old" ]; then
	[ "$old" = "$NB_USER" ] || usermod --login "$NB_USER" --home "/home/$NB_USER" --move-home --shell /bin/bash "$old"
else
	useradd --create-home --no-log-init --shell /bin/bash --gid "$NB_UID" --uid "$NB_UID" "$NB_USER"
fi
install -d -o "$NB_UID" -g "$NB_UID" "$HOME" /srv/conda /srv/conda/envs /srv/conda/bin /srv/npm
printf 'prefix=/srv/npm\n' >/srv/npm/npmrc
chown "$NB_UID:$NB_UID" /srv/npm/npmrc

# A login shell starts every session, and Debian's /etc/profile sets PATH from nothing: keep the image's.
if ! grep -q BINDERY_PATH /etc/profile 2>/dev/null; then
	touch /etc/profile
	sed '1i BINDERY_PATH=$PATH' /etc/profile >/etc/profile.new
	[ -s /etc/profile.new ] || echo 'BINDERY_PATH=$PATH' >/etc/profile.new
	cat /etc/profile.new >/etc/profile
	rm /etc/profile.new
fi
install -d /etc/profile.d
install -m 0644 "$ASSETS/profile.sh" /etc/profile.d/zz-bindery.sh
install -m 0755 "$ASSETS/python3-login" "$ASSETS/repo2docker-entrypoint" /usr/local/bin/

# JupyterLab asks whether it may tell news, and looks for a newer one. Who sits in an image has a use for neither; what an
# environment says in a file of this name of its own comes first.
install -d /usr/local/etc/jupyter/labconfig
cat >/usr/local/etc/jupyter/labconfig/default_setting_overrides.json <<'END'
{"@jupyterlab/apputils-extension:notification": {"checkForUpdates": false, "fetchNews": "false"}}
END

# What differs from run to run and is of no use.
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /var/log/lastlog /var/log/faillog
