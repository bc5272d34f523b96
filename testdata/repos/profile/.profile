export FROM_PROFILE=yes
export PATH="$PATH:$HOME/tools"
false
