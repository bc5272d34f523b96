// Package sim runs the queue's policies in a virtual machine room, over recorded or generated demand.
package sim
