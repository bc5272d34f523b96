#!/bin/bash
# Installs requirements into the environment: by uv, or by pip where uv cannot read what pip can. It runs what packages
# bring to be built, so its cache is the repository's own. The arguments are pip's.
set -uo pipefail
mkdir -p "$UV_CACHE_DIR/said" "$TMPDIR"
prefix=$NB_PYTHON_PREFIX

if [ -e "$prefix/.bindery-done" ]; then # wheels.sh did it all, except to compile
	fresh=$(mktemp "$TMPDIR/XXXXXXXX")
	find "$prefix"/lib/python*/site-packages -name '*.py' -cnewer "$prefix/.bindery-began" >"$fresh"
	[ ! -s "$fresh" ] || "$prefix/bin/python" -I -m compileall -q -j 0 -i "$fresh" >/dev/null 2>&1
	rm -f "$prefix/.bindery-done" "$prefix/.bindery-began" "$fresh"
	exit 0
fi
rm -f "$prefix/.bindery-began"

said=$(mktemp "$UV_CACHE_DIR/said/XXXXXXXX")
trap 'rm -f "$said"' EXIT
UV_COMPILE_BYTECODE=1 uv pip install --python "$prefix" --index-strategy unsafe-best-match "$@" 2>&1 | tee "$said"
code=${PIPESTATUS[0]}
[ "$code" -eq 0 ] && exit 0
if grep -qiE "couldn't parse|could not parse|failed to parse|unexpected '|valid utf-8|unsupported (requirement|option)|unrecognized (option|argument)|invalid version|not a valid" "$said"; then
	echo "uv cannot read these requirements; trying pip."
	exec "$prefix/bin/python" -m pip install --no-input --disable-pip-version-check --cache-dir "$UV_CACHE_DIR/pip" "$@"
fi
exit "$code"
