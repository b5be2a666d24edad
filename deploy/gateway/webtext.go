package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

const (
	webType     = "application/grpc-web"
	webTextType = "application/grpc-web-text"
)

// webText serves the variant of gRPC-Web whose bodies are base64, which Google's grpc-web uses for streams. Each piece
// of a response is encoded by itself, with padding, so that it can be read when it comes.
func webText(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, isText := strings.CutPrefix(r.Header.Get("Content-Type"), webTextType)
		if !isText {
			next.ServeHTTP(w, r)
			return
		}
		r.Header.Set("Content-Type", webType+rest)
		r.ContentLength = -1
		r.Header.Del("Content-Length")
		decoded := base64.NewDecoder(base64.StdEncoding, r.Body)
		r.Body = struct {
			io.Reader
			io.Closer
		}{decoded, r.Body}
		next.ServeHTTP(&textWriter{ResponseWriter: w}, r)
	})
}

type textWriter struct {
	http.ResponseWriter
	isBegun bool
}

func (t *textWriter) WriteHeader(status int) {
	header := t.Header()
	if rest, isWeb := strings.CutPrefix(header.Get("Content-Type"), webType); isWeb && status >= http.StatusOK {
		header.Set("Content-Type", webTextType+rest)
		header.Del("Content-Length")
	}
	t.isBegun = t.isBegun || status >= http.StatusOK
	t.ResponseWriter.WriteHeader(status)
}

func (t *textWriter) Write(data []byte) (int, error) {
	if !t.isBegun {
		t.WriteHeader(http.StatusOK)
	}
	_, err := io.WriteString(t.ResponseWriter, base64.StdEncoding.EncodeToString(data))
	return len(data), err
}

func (t *textWriter) Flush() { _ = http.NewResponseController(t.ResponseWriter).Flush() }

func (t *textWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }
