// Package sim lets the real step live in a world made of one seed: devices that are silent, slow or repeat themselves, a
// store whose answers get lost, crashes between an append and its effects. Whatever happens there, the promises must hold.
//
// It is a tool of tests; nothing of it is in the server.
package sim
