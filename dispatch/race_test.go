//go:build race

package dispatch_test

// stride is how far crash tests go from one transaction or statement to the next. The race detector sees the same
// goroutines at most of them, and makes each take twenty times as long: ./check goes through all of them without it.
const stride = 7
