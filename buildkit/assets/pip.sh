#!/bin/bash
# Installs requirements into the environment: by uv, or by pip where uv cannot read what pip can. The arguments are
# pip's.
set -uo pipefail
mkdir -p "$UV_CACHE_DIR/said" "$TMPDIR"
said=$(mktemp "$UV_CACHE_DIR/said/XXXXXXXX")
trap 'rm -f "$said"' EXIT
uv pip install --python "$NB_PYTHON_PREFIX" --index-strategy unsafe-best-match "$@" 2>&1 | tee "$said"
code=$?
[ $code -eq 0 ] && exit 0
if grep -qiE "couldn't parse|could not parse|failed to parse|unexpected '|valid utf-8|unsupported (requirement|option)|unrecognized (option|argument)|invalid version|not a valid" "$said"; then
	echo "uv cannot read these requirements; trying pip."
	exec "$NB_PYTHON_PREFIX/bin/python" -m pip install --no-input --disable-pip-version-check --cache-dir "$UV_CACHE_DIR/pip" "$@"
fi
exit $code
