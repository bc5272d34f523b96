# What shells need so that conda and mamba can change their variables. Sourced by login shells, and by scripts that say
# "source /srv/conda/etc/profile.d/conda.sh".
__bindery_conda() {
	__bindery_program=$1
	shift
	case "${1:-}" in
	activate | deactivate)
		__bindery_said=$(/srv/conda/bin/"$__bindery_program" "__$@") || return
		eval "$__bindery_said"
		unset __bindery_said
		;;
	*) /srv/conda/bin/"$__bindery_program" "$@" ;;
	esac
}
conda() { __bindery_conda conda "$@"; }
mamba() { __bindery_conda mamba "$@"; }
micromamba() { __bindery_conda micromamba "$@"; }
