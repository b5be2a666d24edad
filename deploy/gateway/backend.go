package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	servicePrefix = "sessiond.v1."
	adminService  = "sessiond.v1.AdminService"
	retryInterval = time.Second
	// Servers disconnect clients that ping more often than every 10 seconds.
	pingInterval = 30 * time.Second
	pingTimeout  = 15 * time.Second
)

// backend is the sessiond server behind the gateway.
type backend struct {
	target string
	ca     string
}

// tlsConfig returns how to verify the server; nil if it speaks plaintext.
func (b backend) tlsConfig() (*tls.Config, error) {
	if b.ca == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(b.ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", b.ca)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// transport returns the address of the server, and what carries calls to it.
func (b backend) transport(config *tls.Config) (*url.URL, http.RoundTripper) {
	protocols := new(http.Protocols)
	scheme := "http"
	if config == nil {
		protocols.SetUnencryptedHTTP2(true)
	} else {
		scheme = "https"
		protocols.SetHTTP2(true)
	}
	return &url.URL{Scheme: scheme, Host: b.target}, &http.Transport{
		Protocols:         protocols,
		TLSClientConfig:   config,
		ForceAttemptHTTP2: true,
		// A server that has vanished ends no connection. Calls of it end after a ping without an answer.
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingInterval,
			PingTimeout:     pingTimeout,
			// What a slow reader may hold.
			MaxReceiveBufferPerStream: 1 << 20,
		},
	}
}

// schema asks the server for its contract, and waits for the server if it does not answer yet.
func (b backend) schema(ctx context.Context, config *tls.Config) (*protoregistry.Files, []string, error) {
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config.Clone())
	}
	connection, err := grpc.NewClient(b.target, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, nil, err
	}
	defer connection.Close()
	for {
		files, services, err := reflected(ctx, connection)
		if err == nil {
			return files, services, nil
		}
		slog.Info("waiting_for_server", "target", b.target, "error", err.Error())
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(retryInterval):
		}
	}
}

func reflected(ctx context.Context, connection *grpc.ClientConn) (*protoregistry.Files, []string, error) {
	stream, err := grpc_reflection_v1.NewServerReflectionClient(connection).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, nil, err
	}
	ask := func(request *grpc_reflection_v1.ServerReflectionRequest) (*grpc_reflection_v1.ServerReflectionResponse, error) {
		if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if refused := response.GetErrorResponse(); refused != nil {
			return nil, errors.New(refused.ErrorMessage)
		}
		return response, nil
	}
	listed, err := ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		return nil, nil, err
	}
	var services []string
	symbols := []string{"google.rpc.ErrorInfo"} // The details of errors are shown as JSON, too.
	for _, service := range listed.GetListServicesResponse().Service {
		if strings.HasPrefix(service.Name, servicePrefix) {
			services = append(services, service.Name)
			symbols = append(symbols, service.Name)
		}
	}
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	for _, symbol := range symbols {
		answer, err := ask(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
		})
		if err != nil {
			return nil, nil, err
		}
		for _, encoded := range answer.GetFileDescriptorResponse().FileDescriptorProto {
			file := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(encoded, file); err != nil {
				return nil, nil, err
			}
			if !seen[file.GetName()] {
				seen[file.GetName()] = true
				set.File = append(set.File, file)
			}
		}
	}
	files, err := protodesc.NewFiles(set)
	return files, services, err
}

func serviceOf(files *protoregistry.Files, name string) (protoreflect.ServiceDescriptor, error) {
	found, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, err
	}
	service, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no service", name)
	}
	return service, nil
}
