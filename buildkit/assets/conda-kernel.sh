#!/bin/sh
# Finishes a conda environment that is the kernel's only, at $1, and tells the servers of it.
set -eu
/usr/bin/python3 -I "$ASSETS/rattle.py" finish "$1"
if [ -x "$1/bin/python" ]; then
	"$1/bin/python" -m ipykernel install --prefix "$NB_PYTHON_PREFIX"
fi
if [ -x "$1/bin/R" ]; then
	"$1/bin/R" --no-save --no-restore --quiet -e "IRkernel::installspec(prefix='$NB_PYTHON_PREFIX')" ||
		echo "R's kernel could not be registered."
fi
