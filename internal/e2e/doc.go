// Package e2e tests the real binary from outside: a hub, its worker, sessions, a Git server, a browser.
package e2e
