// The gateway lets browsers and curl call a sessiond server: it translates Connect, gRPC-Web and JSON over HTTP/1.1 or HTTP/2 to gRPC.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// maxStreams is how many calls a client may have at once on an HTTP/2 connection; sessiond's own limit is the same.
const maxStreams = 1000

type options struct {
	listen   string
	backend  backend
	tlsCert  string
	tlsKey   string
	origins  []string
	hasAdmin bool
}

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	chosen, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, chosen); err != nil {
		slog.Error("gateway_failed", "error", err.Error())
		os.Exit(1)
	}
}

func parse(arguments []string) (options, error) {
	var chosen options
	var origins string
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.StringVar(&chosen.listen, "listen", "localhost:8080", "address to serve HTTP on")
	flags.StringVar(&chosen.backend.target, "target", "localhost:50051", "address of the sessiond server")
	flags.StringVar(&chosen.backend.ca, "target-ca", "",
		"PEM file of the authority that signed the server's certificate; without it the connection is plaintext")
	flags.StringVar(&chosen.tlsCert, "tls-cert", "", "PEM certificate chain to serve HTTPS with")
	flags.StringVar(&chosen.tlsKey, "tls-key", "", "PEM private key of -tls-cert")
	flags.StringVar(&origins, "allow-origin", "",
		"origins whose pages may call, separated by commas, such as https://app.example.com; * for all")
	flags.BoolVar(&chosen.hasAdmin, "admin", false, "also serve AdminService")
	if err := flags.Parse(arguments); err != nil {
		return chosen, err
	}
	if (chosen.tlsCert == "") != (chosen.tlsKey == "") {
		err := errors.New("-tls-cert and -tls-key go together")
		fmt.Fprintln(os.Stderr, err)
		return chosen, err
	}
	for _, origin := range strings.Split(origins, ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			chosen.origins = append(chosen.origins, origin)
		}
	}
	return chosen, nil
}

func run(ctx context.Context, chosen options) error {
	handler, err := newHandler(ctx, chosen)
	if err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Addr:              chosen.listen,
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12},
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      pingInterval, // Watches of clients that have vanished end.
			PingTimeout:          pingTimeout,
		},
	}
	ended := make(chan error, 1)
	go func() {
		slog.Info("gateway_ready", "listen", chosen.listen, "target", chosen.backend.target)
		if chosen.tlsCert != "" {
			ended <- server.ListenAndServeTLS(chosen.tlsCert, chosen.tlsKey)
		} else {
			ended <- server.ListenAndServe()
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.Background(), callDrain+lastDrain)
	defer cancel()
	if err := server.Shutdown(draining); err != nil {
		// Some clients read nothing, not even the end of their call.
		return server.Close()
	}
	return nil
}
