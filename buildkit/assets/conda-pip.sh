#!/bin/bash
# Installs the pip section of a conda environment. $1 is the prefix, $2 the environment file; the rest are the
# installer's own arguments. Paths in the section start from the file's directory, as with conda.
set -euo pipefail
prefix=$1 from=$2
shift 2
cd "$(dirname "./$from")"
section=.bindery-pip-section.txt
cp /run/bindery-spec/requirements.txt "$section"
trap 'rm -f "$section"' EXIT
if [ "$prefix" != "$NB_PYTHON_PREFIX" ]; then # a Python that uv does not know
	"$prefix/bin/python" -m pip install --no-input --disable-pip-version-check --cache-dir "$UV_CACHE_DIR/pip" --requirement "$section" "$@"
	exit
fi
/usr/bin/python3 -I "$ASSETS/install.py" all --requirement="$section" "$@"
