// Package enrich has the nodes that add stored values to a message. They ask for them with Out.Reads and are run again with
// the answer.
package enrich
