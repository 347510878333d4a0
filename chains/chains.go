// Package chains turns rule chains that users write into programs, and runs messages through them.
//
// A chain is data (Definition, YAML or JSON). Compile checks all of it and names every mistake with its line. Run is pure and
// bounded: it has no clock, no I/O and no chance; what a chain asks of the world goes out with Env.Ask, and a token that
// waits for an answer is a value that can be stored and resumed years later.
package chains
