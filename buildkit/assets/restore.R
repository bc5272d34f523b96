# Installs what a renv.lock lists, in the versions that it lists. The argument is its path.
lock <- jsonlite::fromJSON(commandArgs(TRUE)[1], simplifyVector = FALSE)
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

want <- character()
missing <- character()
for (p in lock$Packages) {
  if (p$Package == "renv" || identical(unname(here[p$Package]), p$Version)) next
  remote <- c(p$RemoteType, "")[1]
  if (remote %in% c("github", "gitlab", "git2r", "git")) {
    remotes::install_github(sprintf("%s/%s", p$RemoteUsername, p$RemoteRepo), ref = p$RemoteSha, upgrade = "never", dependencies = FALSE)
  } else if (fetch(p)) {
    want <- c(want, p$Package)
  } else {
    missing <- c(missing, paste(p$Package, p$Version))
  }
}
if (length(missing)) stop("these packages cannot be fetched: ", paste(missing, collapse = ", "))
if (length(want)) {
  # As a repository of its own they are put in order and built side by side.
  tools::write_PACKAGES(source, type = "source")
  utils::install.packages(want, lib = Sys.getenv("R_LIBS_USER"), repos = paste0("file://", local))
  built <- installed.packages(Sys.getenv("R_LIBS_USER"))[, "Package"]
  if (length(setdiff(want, built))) stop("these packages could not be installed: ", paste(setdiff(want, built), collapse = ", "))
}
