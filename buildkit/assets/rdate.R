# Makes the packages that were built since $BEGAN equal to those of any other build: R notes when it built them.
at <- format(as.POSIXct(as.numeric(Sys.getenv("SOURCE_DATE_EPOCH")), origin = "1970-01-01"), "%Y-%m-%d %H:%M:%S", tz = "UTC")
moment <- "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}"
dated <- function(text) {
  found <- regexpr(moment, text)
  new <- found > 0 & substr(text, found, found + 18) >= Sys.getenv("BEGAN")
  text[new] <- sub(moment, at, text[new])
  text
}
for (dir in list.dirs(Sys.getenv("R_LIBS_USER"), recursive = FALSE)) {
  file <- file.path(dir, "Meta", "package.rds")
  if (!file.exists(file)) next
  meta <- readRDS(file)
  new <- meta
  new$DESCRIPTION[] <- dated(new$DESCRIPTION)
  if (identical(new, meta)) next
  new$Built$Date <- dated(new$Built$Date)
  saveRDS(new, file)
  description <- readLines(file.path(dir, "DESCRIPTION"), warn = FALSE)
  field <- grepl("^(Built|Packaged): ", description)
  description[field] <- dated(description[field])
  writeLines(description, file.path(dir, "DESCRIPTION"))
}
