#!/bin/sh
# Fills uv's cache with what the Jupyter servers are made of, for Python $1. Nothing of it is run.
set -eu
mkdir -p "$TMPDIR"
UV_LINK_MODE=hardlink uv pip install --quiet --python /usr/bin/python3 --python-version "$1" --target "$TMPDIR/servers" \
	--only-binary :all: --no-deps --require-hashes --requirement "$ASSETS/server.lock"
rm -rf "$TMPDIR"
