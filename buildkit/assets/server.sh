#!/bin/sh
# Makes the environment with the Jupyter servers in it. $1 is the version of Python, or empty for the base's own.
set -eu
uv venv --quiet --no-project --python-preference system --prompt notebook --python "${1:-3}" "$NB_PYTHON_PREFIX"
uv pip install --python "$NB_PYTHON_PREFIX" --require-hashes --requirement "$ASSETS/server.lock"
