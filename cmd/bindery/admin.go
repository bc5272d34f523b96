package main

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/bindery-hub/bindery/admin"
	"github.com/bindery-hub/bindery/web"
)

// adminPages makes the operators' pages of a hub.
func adminPages(secret []byte, base string, log *slog.Logger) func(s *web.Server) (http.Handler, error) {
	return func(s *web.Server) (http.Handler, error) {
		if base = strings.Trim(base, "/"); base != "" {
			base = "/" + base
		}
		return admin.New(admin.Config{Hub: s, Secret: secret, Base: base, Version: thisRelease().Version, Log: log})
	}
}
