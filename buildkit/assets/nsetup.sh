#!/bin/bash
# Gives Debian's Nix to the user, as root: one store, no daemon, and no sandbox, for a step is one already.
set -euo pipefail
install -d -o "$NB_UID" -g "$NB_UID" /nix /nix/store /nix/var /nix/var/nix
install -d /etc/nix
printf 'build-users-group =\nsandbox = false\nfilter-syscalls = false\n' >/etc/nix/nix.conf
install -m 0755 "$ASSETS/nix-shell-wrapper" /usr/local/bin/
