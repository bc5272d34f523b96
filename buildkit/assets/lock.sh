#!/bin/sh
# Writes server.lock, server-3.8.lock, uv.lock and rattler.lock anew. Needs uv on PATH.
set -eu
cd "$(dirname "$0")"
uv pip compile --universal --generate-hashes --python-version 3.9 --no-header --no-annotate --upgrade server.in --output-file server.lock
uv pip compile --python-platform linux --generate-hashes --python-version 3.8 --no-header --no-annotate --upgrade server.in --output-file server-3.8.lock
echo "uv==$(uv --version | cut -d' ' -f2)" | uv pip compile --universal --generate-hashes --python-version 3.9 --no-header --no-annotate - --output-file uv.lock
echo "py-rattler==0.28.0" | uv pip compile --universal --generate-hashes --python-version 3.10 --no-header --no-annotate - --output-file rattler.lock
