package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	errorDomain = "sessiond.v1"
	malformed   = "MALFORMED_REQUEST"
	retryDelay  = 100 * time.Millisecond
)

// failed returns an error of a call. A message with a reason begins with it, as the server's messages do.
func failed(code codes.Code, reason, text string) *status.Status {
	made := &status.Status{Code: int32(code), Message: text}
	if reason != "" {
		made.Message = reason + ": " + text
		made.Details = append(made.Details, packed(&errdetails.ErrorInfo{Reason: reason, Domain: errorDomain}))
	}
	if code == codes.Unavailable {
		made.Details = append(made.Details, packed(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)}))
	}
	return made
}

func packed(detail proto.Message) *anypb.Any {
	made, err := anypb.New(detail)
	if err != nil {
		panic(err) // Only a message that is not UTF-8 cannot be packed.
	}
	return made
}

// trailers returns the gRPC trailers of an error.
func trailers(failure *status.Status) http.Header {
	header := http.Header{}
	header.Set("Grpc-Status", strconv.Itoa(int(failure.Code)))
	header.Set("Grpc-Message", failure.Message) // The texts are of ASCII, and need no percent encoding.
	if encoded, err := proto.Marshal(failure); err == nil {
		header.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(encoded))
	}
	return header
}

// answer writes an error as the gRPC response of a call that got none.
func answer(w http.ResponseWriter, failure *status.Status) {
	header := w.Header()
	header.Set("Content-Type", "application/grpc")
	for name, values := range trailers(failure) {
		header[name] = values
	}
	w.WriteHeader(http.StatusOK)
}

// malformedError is what the translation says of a request that it cannot read.
func malformedError(err error) error {
	made := connect.NewError(connect.CodeInvalidArgument, err)
	if detail, err := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: malformed, Domain: errorDomain}); err == nil {
		made.AddDetail(detail)
	}
	return made
}

var grpcErrors = connect.NewErrorWriter()

// refuse answers a request that is no call with an error: of gRPC, if it is one of gRPC, or in the JSON of the
// Connect protocol.
func refuse(w http.ResponseWriter, r *http.Request, httpStatus int, code connect.Code, text string) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") && grpcErrors.IsSupported(r) {
		_ = grpcErrors.Write(w, r, connect.NewError(code, errors.New(text)))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code.String(), "message": text})
}
