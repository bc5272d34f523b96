from part import number
