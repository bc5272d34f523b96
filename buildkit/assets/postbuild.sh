#!/bin/sh
# Runs a repository's postBuild, $1, and compiles what it has installed: what pip compiles is not equal in any two builds.
ASSETS=${0%/*} since=$(date +%s%N)
PIP_COMPILE=0 "$1" || exit
for prefix in $(printf '%s\n' "$NB_PYTHON_PREFIX" "$KERNEL_PYTHON_PREFIX" | sort -u); do
	. "$ASSETS/compile.sh"
done
exit 0
