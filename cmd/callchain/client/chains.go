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

// ImportedChain is a chain that came from ThingsBoard.
type ImportedChain struct {
	Chain   Ref    `json:"ruleChainId"`
	Name    string `json:"ruleChainName"`
	Updated bool   `json:"updated"` // it replaced one of this name
}

// ImportChains stores the chains of an export of ThingsBoard and lets them run at once; all or none. What is wrong with them is in
// the *Error's Faults.
func (c *Client) ImportChains(ctx context.Context, export []byte, overwrite bool) ([]ImportedChain, error) {
	answer, _, err := c.raw(ctx, http.MethodPost, fmt.Sprintf("/api/ruleChains/import?overwrite=%t", overwrite), "application/json", export, nil)
	if err != nil {
		return nil, err
	}
	var out []ImportedChain
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("reading the imported chains: %w", err)
	}
	return out, nil
}

// ExportChain gives a chain as ThingsBoard's clients see it: its head, and what is in it.
func (c *Client) ExportChain(ctx context.Context, id string) (head, metadata json.RawMessage, err error) {
	path := "/api/ruleChain/" + url.PathEscape(id)
	if err := c.Do(ctx, http.MethodGet, path, nil, &head); err != nil {
		return nil, nil, err
	}
	if err := c.Do(ctx, http.MethodGet, path+"/metadata", nil, &metadata); err != nil {
		return nil, nil, err
	}
	return head, metadata, nil
}
