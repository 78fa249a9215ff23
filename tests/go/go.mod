module duly/tests

go 1.21

require (
	duly v0.0.0
	github.com/BurntSushi/toml v1.4.0
	go.uber.org/goleak v1.3.0
)

replace duly => ../../go
