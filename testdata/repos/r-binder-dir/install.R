stop("not this one")
