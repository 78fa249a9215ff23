// An HTTP server whose handlers have their CPU work done by a pool: no more of it runs than there are workers, whatever
// arrives.
//
//	GET /hash?ms=20   hashes for that long, or until the client leaves or the time limit of a request passes
//	GET /stats        the pool's counters
//
// A client that leaves takes its queued work with it, and running work sees it. A full queue is 503 at once. SIGTERM stops the
// listener, lets what was accepted end for up to 10 s, abandons the rest, and ends the process.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"duly"
)

// hash works for a span, and looks at its context between two blocks.
func hash(ctx context.Context, span time.Duration) (string, error) {
	sum := sha256.Sum256(nil)
	for end := time.Now().Add(span); time.Now().Before(end); {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		for i := 0; i < 100; i++ {
			sum = sha256.Sum256(sum[:])
		}
	}
	return fmt.Sprintf("%x", sum[:4]), nil
}

// limit is how long a request may take.
var limit = 2 * time.Second

func handler(pool *duly.Pool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hash", func(w http.ResponseWriter, r *http.Request) {
		ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
		if err != nil || ms < 0 {
			http.Error(w, "ms is missing, or no number", http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		sum, err := duly.Run(ctx, pool, func(ctx context.Context) (string, error) {
			return hash(ctx, time.Duration(ms)*time.Millisecond)
		}, duly.Label(r.URL.Path))
		switch {
		case err == nil:
			fmt.Fprintln(w, sum)
		case errors.Is(err, duly.ErrQueueFull), errors.Is(err, duly.ErrShutDown):
			w.Header().Set("Retry-After", "1")
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case errors.Is(err, context.DeadlineExceeded):
			http.Error(w, "too slow", http.StatusGatewayTimeout)
		case r.Context().Err() != nil:
			// The client has left.
		default:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/stats", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(pool.Stats())
	})
	return mux
}

// serve answers until ctx is done, then drains.
func serve(ctx context.Context, listener net.Listener, drain time.Duration, options ...duly.Option) (duly.Report, error) {
	pool, err := duly.New(append([]duly.Option{duly.Name("http"), duly.OnOverflow(duly.Reject)}, options...)...)
	if err != nil {
		return duly.Report{}, err
	}
	server := &http.Server{Handler: handler(pool), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = nil
	}
	ending, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	// Handlers that are under way wait for their work: the server first, then the pool.
	_ = server.Shutdown(ending)
	report, drained := pool.Shutdown(ending)
	_ = server.Close()
	return report, errors.Join(err, drained)
}

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	flag.DurationVar(&limit, "limit", limit, "how long a request may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	report, err := serve(ctx, listener, 10*time.Second)
	fmt.Println(report)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
