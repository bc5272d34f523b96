pkgs <- c("digest", "jsonlite")
install.packages(pkgs)
