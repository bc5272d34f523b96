# Login shells: the image's PATH again, and the environment's variables.
if [ -n "${BINDERY_PATH:-}" ]; then
	PATH=$BINDERY_PATH
	unset BINDERY_PATH
fi
case ":$PATH:" in
*:/srv/conda/envs/notebook/bin:*) ;;
*) PATH=/srv/conda/envs/notebook/bin:/srv/conda/bin:/srv/npm/bin:$PATH ;;
esac
export PATH
if [ -n "${NB_PYTHON_PREFIX:-}" ]; then
	CONDA_PREFIX=$NB_PYTHON_PREFIX
	CONDA_SHLVL=1
	export CONDA_PREFIX CONDA_SHLVL
fi
if [ -n "${BASH_VERSION:-}" ] && [ -n "${CONDA_PREFIX:-}" ]; then
	for __bindery_script in /srv/conda/etc/profile.d/conda.sh "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
		# shellcheck disable=SC1090
		[ -r "$__bindery_script" ] && . "$__bindery_script"
	done
	unset __bindery_script
fi
