# Installs what a renv.lock lists, in the versions that it lists. The argument is its path.
lockfile <- commandArgs(TRUE)[1]
lock <- jsonlite::fromJSON(lockfile, simplifyVector = FALSE)
here <- installed.packages()[, "Version"]
mirror <- getOption("repos")[["CRAN"]]
local <- file.path(tempdir(), "restore")
source <- file.path(local, "src", "contrib")
dir.create(source, recursive = TRUE)

# The lock names repositories by words; the machine's own mirror stands for CRAN.
urls <- list()
for (r in lock$R$Repositories) urls[[r$Name]] <- r$URL
for (name in names(urls)) if (name %in% c("CRAN", "RSPM", "P3M", "PPM")) urls[[name]] <- mirror

fetch <- function(p) {
  file <- sprintf("%s_%s.tar.gz", p$Package, p$Version)
  for (base in unique(c(urls[[c(p$Repository, "")[1]]], mirror))) {
    base <- sub("/__linux__/[^/]+", "", base) # sources, of exactly this version
    for (path in c(sprintf("src/contrib/%s", file), sprintf("src/contrib/Archive/%s/%s", p$Package, file))) {
      got <- try(suppressWarnings(download.file(paste(base, path, sep = "/"), file.path(source, file), quiet = TRUE)), silent = TRUE)
      if (identical(got, 0L)) return(TRUE)
    }
  }
  FALSE
}

# Where else packages come from, at the commit that the lock names.
remote <- function(p) {
  repo <- sprintf("%s/%s", p$RemoteUsername, p$RemoteRepo)
  ref <- c(p$RemoteSha, p$RemoteRef)[1]
  get <- function(how, ...) how(..., subdir = p$RemoteSubdir, upgrade = "never", dependencies = FALSE)
  switch(p$RemoteType,
    github = get(remotes::install_github, repo, ref = ref, host = c(p$RemoteHost, "api.github.com")[1]),
    gitlab = get(remotes::install_gitlab, paste0(repo, "@", ref), host = c(p$RemoteHost, "gitlab.com")[1]),
    bitbucket = get(remotes::install_bitbucket, repo, ref = ref, host = c(p$RemoteHost, "api.bitbucket.org/2.0")[1]),
    git = , git2r = , xgit = get(remotes::install_git, p$RemoteUrl, ref = ref),
    url = get(remotes::install_url, p$RemoteUrl))
}

want <- character()
missing <- character()
others <- list() # of no repository
for (p in lock$Packages) {
  if (p$Package == "renv" || identical(unname(here[p$Package]), p$Version)) next
  if (c(p$RemoteType, "")[1] %in% c("github", "gitlab", "bitbucket", "git", "git2r", "xgit", "url")) {
    others[[p$Package]] <- p
  } else if (fetch(p)) {
    want <- c(want, p$Package)
  } else {
    missing <- c(missing, paste(p$Package, p$Version))
  }
}
if (length(missing)) stop(lockfile, ": these packages cannot be fetched: ", paste(missing, collapse = ", "), call. = FALSE)

# What each needs: those that were fetched say it themselves, of the others the lock does.
needs <- list()
if (length(want)) {
  tools::write_PACKAGES(source, type = "source")
  index <- available.packages(paste0("file://", source), filters = list())
  needs <- tools::package_dependencies(want, index)
}
for (p in others) {
  told <- as.character(unlist(p[c("Requirements", "Depends", "Imports", "LinkingTo")]))
  needs[[p$Package]] <- sub("[[:space:](].*", "", trimws(as.character(unlist(strsplit(told, ",")))))
}
reach <- function(found) { # with all that it needs
  repeat {
    more <- union(found, unlist(needs[found]))
    if (length(more) == length(found)) return(found)
    found <- more
  }
}

# Packages of a repository are put in order and built side by side, as in a repository of their own. The others come one
# by one, after.
install <- function(packages) {
  for (p in others[intersect(names(others), packages)]) {
    tryCatch(remote(p), error = function(e) {
      line <- grep(sprintf('"%s": {', p$Package), readLines(lockfile), fixed = TRUE)
      stop(sprintf("%s, line %d: %s %s: %s", lockfile, c(line, 1L)[1], p$Package, p$Version, conditionMessage(e)), call. = FALSE)
    })
  }
  packages <- intersect(want, packages)
  if (!length(packages)) return()
  utils::install.packages(packages, lib = Sys.getenv("R_LIBS_USER"), repos = paste0("file://", local))
  gone <- setdiff(packages, installed.packages(Sys.getenv("R_LIBS_USER"))[, "Package"])
  if (length(gone)) stop(lockfile, ": these packages could not be installed: ", paste(gone, collapse = ", "), call. = FALSE)
}

# First what needs none of the others, which is most; then in rounds what needs nothing more that is still to come.
first <- want[!vapply(want, function(name) any(reach(name) %in% names(others)), NA)]
install(first)
rest <- setdiff(c(names(others), want), first)
while (length(rest)) {
  ready <- rest[!vapply(rest, function(name) any(setdiff(needs[[name]], name) %in% rest), NA)]
  if (!length(ready)) ready <- rest # they need each other
  install(ready)
  rest <- setdiff(rest, ready)
}
