// Package buildkit turns a plan into an image with an embedded BuildKit.
package buildkit
