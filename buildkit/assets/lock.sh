#!/bin/sh
# Writes server.lock and uv.lock anew. Needs uv on PATH.
set -eu
cd "$(dirname "$0")"
uv pip compile --universal --generate-hashes --python-version 3.9 --no-header --no-annotate --upgrade server.in --output-file server.lock
echo "uv==$(uv --version | cut -d' ' -f2)" | uv pip compile --universal --generate-hashes --python-version 3.9 --no-header --no-annotate - --output-file uv.lock
