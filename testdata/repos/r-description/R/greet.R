greet <- function() jsonlite::toJSON(digest::digest("x", "md5", FALSE))
