packages <- c("digest")
