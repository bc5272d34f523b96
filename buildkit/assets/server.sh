#!/bin/sh
# Makes the environment with the Jupyter servers in it. $1 is the version of Python, or empty for the base's own.
set -eu
pythons=$UV_PYTHON_INSTALL_DIR
export UV_PYTHON_CACHE_DIR="$UV_CACHE_DIR/python"
if ! uv venv --quiet --no-project --python-preference system --prompt notebook --python "${1:-3}" "$NB_PYTHON_PREFIX"; then
	echo "The base has no Python ${1:-3}, and uv could not bring one. Where uv gets them from is configured: python.mirror, python.downloads." >&2
	exit 1
fi
rm -rf "$pythons/.temp" "$pythons/.lock" "$pythons/.gitignore"
lock=$ASSETS/server.lock
case $("$NB_PYTHON_PREFIX/bin/python" -IB -c 'import sys; print("%d.%d" % sys.version_info[:2])') in
3.8) lock=$ASSETS/server-3.8.lock ;; # the last servers that ran with it
esac
uv pip install --python "$NB_PYTHON_PREFIX" --require-hashes --requirement "$lock"
# The modules of a Python that uv brought are compiled too: who comes first would wait for it.
env PYTHONHASHSEED=0 "$(readlink -f "$NB_PYTHON_PREFIX/bin/python")" -S -s -W ignore "$ASSETS/compile.py" 0 "$UV_CACHE_DIR/compiled" \
	"$NB_PYTHON_PREFIX"/lib/python3*/site-packages $(ls -d "$pythons"/*/lib/python3* 2>/dev/null)
. "$ASSETS/quick.sh"
