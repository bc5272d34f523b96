#!/bin/sh
# Installs Node packages in the directory $1, as its lock file has them. What follows says what else is done:
# "unpack" takes them and runs none of their code, "rebuild" runs their install scripts, "prepare" the repository's own. A .npmrc there
# counts, but for what is set here: npm has the environment win, and the command line.
set -eu
cd "$HOME/$1"
shift
export npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false npm_config_logs_max=0 npm_config_progress=false
export npm_config_cache="$UV_CACHE_DIR/npm"
mkdir -p "$TMPDIR"
for what; do
	case $what in
	unpack) npm ci --ignore-scripts ;;
	rebuild) npm rebuild ;;
	prepare)
		if [ "$(npm config get ignore-scripts)" = true ]; then
			continue # npm run would run them all the same
		fi
		for script in preinstall install postinstall prepare; do
			npm run --if-present "$script"
		done
		;;
	esac
done
