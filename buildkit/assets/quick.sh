# Makes the servers in $NB_PYTHON_PREFIX start sooner. Nothing is lost by it.

# While JupyterLab is being imported it asks node for yarn's settings, which takes as long as half of the server's own
# start. Where there is no node on the PATH it does without, so it is imported without a PATH. Programs that the server
# starts later have the PATH that they should.
for quick in jupyter-lab jupyter-labhub jupyter-notebook jupyter-server jupyterhub-singleuser; do
	if [ -f "$NB_PYTHON_PREFIX/bin/$quick" ] && ! grep -q labapp_path "$NB_PYTHON_PREFIX/bin/$quick"; then
		sed -i "/^import sys$/r $ASSETS/quick-lab" "$NB_PYTHON_PREFIX/bin/$quick"
	fi
done

# Of npm, another program for node, the support for language servers asks where it installs packages, at every start:
# there. These are the directories that it would look into.
[ -e "$NB_PYTHON_PREFIX/etc/jupyter/jupyter_server_config.json" ] || cat >"$NB_PYTHON_PREFIX/etc/jupyter/jupyter_server_config.json" <<END
{
  "LanguageServerManager": {
    "node_roots": [".", "$NB_PYTHON_PREFIX/share/jupyter/lab/staging", "$NB_PYTHON_PREFIX/lib", "$NB_PYTHON_PREFIX", "$NPM_DIR/lib", "$NPM_DIR"]
  }
}
END
