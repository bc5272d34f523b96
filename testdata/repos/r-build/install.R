# Reads a file of the repository, so it has to wait for that.
source("packages.R")
install.packages(packages)
