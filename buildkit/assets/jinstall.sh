#!/bin/bash
# Installs Julia packages, as the user: the kernel, or what the project in JULIA_PROJECT asks for.
set -euo pipefail
mkdir -p "$TMPDIR"
case $1 in
kernel)
	project=$JULIA_PROJECT
	JULIA_PROJECT='' julia -e 'using Pkg; Pkg.add("IJulia"); using IJulia; installkernel("Julia", "--project=" * ARGS[1])' "$project"
	;;
project)
	julia --project="$JULIA_PROJECT" -e 'using Pkg; Pkg.instantiate(); Pkg.resolve(); Pkg.instantiate()'
	;;
esac
rm -rf "$JULIA_DEPOT_PATH/logs" "$JULIA_DEPOT_PATH/scratchspaces"
