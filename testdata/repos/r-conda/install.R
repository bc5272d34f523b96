install.packages("digest")
IRkernel::installspec()
