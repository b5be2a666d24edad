package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// maxMessageBytes is the largest response to accept. Batches have about 512 KiB, but one message may have 16 MiB by itself.
const maxMessageBytes = 64 << 20

// serviceConfig retries what is safe to repeat: UNAVAILABLE, since every change carries a request_id. RESOURCE_EXHAUSTED is not
// in it: only with RetryInfo is it worth a retry. Streams have no timeout.
const serviceConfig = `{"methodConfig": [
  {"name": [{"service": "sessiond.v1.SessionService"}, {"service": "sessiond.v1.ConversationService"}],
   "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
                   "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// apiKey sends the key with every call.
type apiKey struct {
	key    string
	secure bool
}

func (k apiKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + k.key}, nil
}

func (k apiKey) RequireTransportSecurity() bool { return k.secure }

// connect opens a connection to the server that the environment names: SESSIOND_TARGET, SESSIOND_API_KEY if it asks for keys,
// SESSIOND_CA, a PEM file, if it speaks TLS.
func connect() (*grpc.ClientConn, error) {
	target := os.Getenv("SESSIOND_TARGET")
	if target == "" {
		target = "localhost:50051"
	}
	transport := insecure.NewCredentials()
	ca := os.Getenv("SESSIOND_CA")
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", ca)
		}
		transport = credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		// The server allows a ping every ten seconds.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if key := os.Getenv("SESSIOND_API_KEY"); key != "" {
		options = append(options, grpc.WithPerRPCCredentials(apiKey{key, ca != ""}))
	}
	return grpc.NewClient(target, options...)
}
