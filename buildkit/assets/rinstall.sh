#!/bin/bash
# Installs R packages, as the user. $1 says what: setup, install.R, DESCRIPTION, renv.lock, or "." for the repository's
# own package; $2 is the file.
set -euo pipefail
mkdir -p "$TMPDIR"
began=$(date -u '+%Y-%m-%d %H:%M:%S')
r() { Rscript --no-save --no-restore --no-init-file --no-environ "$@"; }

case $1 in
setup)
	# Debian has these as packages; another R needs them from CRAN.
	r -e 'need <- setdiff(c("remotes", "devtools", "IRkernel", "shiny"), rownames(installed.packages())); if (length(need)) install.packages(need)' \
		-e 'if (!requireNamespace("IRkernel", quietly = TRUE)) stop("IRkernel could not be installed")' \
		-e 'IRkernel::installspec(prefix = Sys.getenv("NB_PYTHON_PREFIX"))'
	if [ -x /usr/lib/rstudio-server/bin/rserver ]; then
		uv pip install --python "$NB_PYTHON_PREFIX" 'jupyter-rsession-proxy==2.3.0'
	fi
	;;
install.R)
	# As with repo2docker, a script that fails does not fail the build.
	code=0
	r "$2" || code=$?
	if [ "$code" -ne 0 ]; then
		printf '\n*** %s ended with exit code %s. The build goes on without what it did not install. ***\n\n' "$2" "$code"
	fi
	;;
DESCRIPTION)
	r -e 'remotes::install_deps(".", dependencies = NA, upgrade = "never")' \
		-e 'need <- remotes::local_package_deps("."); gone <- setdiff(need, rownames(installed.packages()))' \
		-e 'if (length(gone)) stop("these packages could not be installed: ", paste(gone, collapse = ", "))'
	;;
renv.lock)
	r "$ASSETS/restore.R" "$2"
	;;
.)
	# As remotes::install_local does it, which would copy the files and date them by the clock.
	from=$PWD
	mkdir "$TMPDIR/built"
	cd "$TMPDIR/built"
	R CMD build --no-resave-data --no-manual --no-build-vignettes "$from"
	R CMD INSTALL ./*.tar.gz
	;;
esac
BEGAN=$began r "$ASSETS/rdate.R" || echo "R's packages keep the date of this build."
