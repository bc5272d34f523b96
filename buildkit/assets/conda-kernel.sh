#!/bin/sh
# Finishes a conda environment that is the kernel's only, at $1, and tells the servers of it.
set -eu
prefix=$1
mark=$(mktemp)
since=$(date -r "$mark" +%s%N)
rm "$mark"
/usr/bin/python3 -I "$ASSETS/rattle.py" finish "$prefix"
. "$ASSETS/compile.sh"
if [ -x "$prefix/bin/python" ]; then
	"$prefix/bin/python" -m ipykernel install --prefix "$NB_PYTHON_PREFIX"
fi
if [ -x "$prefix/bin/R" ]; then
	"$prefix/bin/R" --no-save --no-restore --quiet -e "IRkernel::installspec(prefix='$NB_PYTHON_PREFIX')" ||
		echo "R's kernel could not be registered."
fi
