module duly/benches

go 1.21

require (
	duly v0.0.0
	github.com/alitto/pond/v2 v2.7.1
	github.com/panjf2000/ants/v2 v2.12.1
)

require golang.org/x/sync v0.11.0 // indirect

replace duly => ../../go
