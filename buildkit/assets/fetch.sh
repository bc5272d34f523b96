#!/bin/sh
# Fetches the wheels of a lock file into /out. $1 is the lock file.
# Debian's python3-venv brings pip as a wheel, which runs as it is: that spares making an environment for it.
set -eu
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
	echo "The base's own Python is older than 3.10, which rattler needs: use a newer base for conda environments." >&2
	exit 1
fi
PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python3 -m pip install --quiet --no-cache-dir \
	--disable-pip-version-check --no-deps --only-binary :all: --require-hashes --target /out -r "$1"
find /out -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} + # some of it is copied into images
