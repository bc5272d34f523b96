#!/bin/bash
# Installs requirements that are all to be had as wheels. It runs no code of any package, so it may use the cache that
# all repositories share. What it cannot do it leaves to pip.sh, which follows. The arguments are pip's.
set -uo pipefail
mkdir -p "$UV_CACHE_DIR" "$TMPDIR"
touch "$NB_PYTHON_PREFIX/.bindery-began"
uv pip install --python "$NB_PYTHON_PREFIX" --index-strategy unsafe-best-match --only-binary :all: "$@" 2>&1 | sed -u '/^error:/,$d; /^  ×/,$d'
[ "${PIPESTATUS[0]}" -ne 0 ] || touch "$NB_PYTHON_PREFIX/.bindery-done"
exit 0
