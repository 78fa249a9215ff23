module duly

go 1.21
