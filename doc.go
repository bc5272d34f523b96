// Package bindery is the domain: repositories, builds, images, sessions, events, kinds of failure.
//
// It imports the standard library only, so that any two packages can talk about these things without importing
// each other. docs/ARCHITECTURE.md has the picture.
package bindery
