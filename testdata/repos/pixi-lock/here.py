where = "here"
