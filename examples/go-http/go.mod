module duly/examples/http

go 1.21

require duly v0.0.0

replace duly => ../../go
