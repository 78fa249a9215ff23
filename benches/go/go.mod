module duly-bench-go

go 1.21
