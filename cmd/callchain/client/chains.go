package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Chain is a version of a rule chain.
type Chain struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version int    `json:"version"`
	Active  bool   `json:"active"`
	Root    bool   `json:"root"`
}

// CreateChain stores a chain, written in YAML or JSON, and lets it run at once. What is wrong with it is in the *Error's Faults.
func (c *Client) CreateChain(ctx context.Context, definition []byte) (Chain, error) {
	var out Chain
	answer, _, err := c.raw(ctx, http.MethodPost, "/api/chains?activate=true", "application/yaml", definition, nil)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("reading the stored chain: %w", err)
	}
	return out, nil
}

// DeleteChain hides a chain; parked runs go on in it.
func (c *Client) DeleteChain(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/api/chains/"+url.PathEscape(id), nil, nil)
}
