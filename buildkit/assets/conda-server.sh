#!/bin/sh
# Finishes a conda environment and installs the Jupyter servers into it: what of them it does not have by conda already.
set -eu
mkdir -p "$TMPDIR"
lock=$TMPDIR/server.lock
since=$(date -r "$TMPDIR" +%s%N)
/usr/bin/python3 -I "$ASSETS/rattle.py" finish "$NB_PYTHON_PREFIX"
/usr/bin/python3 -I "$ASSETS/rattle.py" lacks "$NB_PYTHON_PREFIX" "$ASSETS/server.lock" >"$lock"
uv pip install --python "$NB_PYTHON_PREFIX" --no-deps --require-hashes --requirement "$lock"
if ! uv pip check --quiet --python "$NB_PYTHON_PREFIX" >/dev/null 2>&1; then
	# Some of what conda brought does not go with the rest: let uv find what does, near to what is there.
	uv pip install --python "$NB_PYTHON_PREFIX" --requirement "$ASSETS/server.in"
fi
prefix=$NB_PYTHON_PREFIX
. "$ASSETS/compile.sh"
. "$ASSETS/quick.sh"
if [ -x "$NB_PYTHON_PREFIX/bin/R" ]; then
	"$NB_PYTHON_PREFIX/bin/R" --no-save --no-restore --quiet -e "IRkernel::installspec(prefix='$NB_PYTHON_PREFIX')" ||
		echo "R's kernel could not be registered."
fi
rm -rf "$TMPDIR"
