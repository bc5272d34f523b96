# Compiles what was installed into the environment $prefix, or touched, after $since, in nanoseconds. Pythons before 3.8
# compile when they import: what they write is of another form.
if [ -x "$prefix/bin/python" ] && "$prefix/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 8))'; then
	env PYTHONHASHSEED=0 "$prefix/bin/python" -S -s -W ignore "$ASSETS/compile.py" "$since" "" "$prefix"/lib/python3*/site-packages
fi
