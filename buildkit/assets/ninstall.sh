#!/bin/bash
# Fetches the channel that expressions mean by <nixpkgs>, or makes the environment of the expression $2.
set -euo pipefail
mkdir -p "$TMPDIR"
case $1 in
channel)
	nix-channel --add "${BINDERY_NIX_CHANNEL:-https://nixos.org/channels/nixos-unstable}" nixpkgs
	nix-channel --update
	# The address is this machine's business, not the image's.
	printf 'https://nixos.org/channels/nixos-unstable nixpkgs\n' >~/.nix-channels
	;;
shell)
	nix-shell "$2" --run true
	;;
esac
rm -rf ~/.cache
