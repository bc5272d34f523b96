//go:build !race

package dispatch_test

// stride is how far crash tests go from one transaction or statement to the next.
const stride = 1
