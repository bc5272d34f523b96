where = "there"
