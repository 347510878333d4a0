// Package filter has the nodes that choose the way of a message: by its type, or by an expression.
package filter
