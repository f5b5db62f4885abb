package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
)

// Error is an answer with a status.
func Error(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

// ParseLimit reads how many lines a listing may have.
func ParseLimit(r *http.Request, otherwise, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, Error(http.StatusBadRequest, fmt.Errorf("limit: %q is not between 1 and %d", text, most))
	}
	return n, nil
}

// ReadJSON decodes the body of a request, which must hold one object and nothing that
// is not known.
func ReadJSON(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && decoder.Decode(new(json.RawMessage)) != io.EOF {
		err = errors.New("more than one JSON value")
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return Error(http.StatusRequestEntityTooLarge, err)
	case err != nil:
		return Error(http.StatusBadRequest, fmt.Errorf("reading the JSON body: %w", err))
	}
	return nil
}

// WriteJSON answers with a value.
func WriteJSON(w http.ResponseWriter, status int, value any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(value)
}
