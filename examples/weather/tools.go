package main

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

//go:embed data.json
var recorded []byte

type forecast struct {
	Recorded string          `json:"recorded"`
	Cities   map[string]city `json:"cities"`
}

type city struct {
	Days   []day    `json:"days"`
	Alerts []string `json:"alerts"`
}

type day struct {
	Date string  `json:"date"`
	Sky  string  `json:"sky"`
	Low  int     `json:"low"`
	High int     `json:"high"`
	Rain float64 `json:"rain_mm"`
}

type where struct {
	City string `json:"city" jsonschema:"name of a city"`
	Days int    `json:"days,omitempty" jsonschema:"how many days, 1 or 2"`
}

// newServer is an MCP server like any other: nothing in it knows of trust.
func newServer() *mcp.Server {
	var data forecast
	if err := json.Unmarshal(recorded, &data); err != nil {
		panic(err) // a constant of this program
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "weather", Version: "1.0.0"}, nil)
	find := func(name string) (city, error) {
		if c, ok := data.Cities[name]; ok {
			return c, nil
		}
		var known []string
		for name := range data.Cities {
			known = append(known, name)
		}
		slices.Sort(known)
		return city{}, fmt.Errorf("nothing is recorded for %q; there are %s", name, strings.Join(known, ", "))
	}
	mcp.AddTool(s, &mcp.Tool{Name: "get_forecast", Description: "The forecast for a city"},
		func(_ context.Context, _ *mcp.CallToolRequest, in where) (*mcp.CallToolResult, any, error) {
			c, err := find(in.City)
			if err != nil {
				return nil, nil, err
			}
			n := min(max(in.Days, 1), len(c.Days))
			b, err := json.Marshal(c.Days[:n])
			if err != nil {
				return nil, nil, err
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(b)}}}, nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "get_alerts", Description: "Warnings for a city"},
		func(_ context.Context, _ *mcp.CallToolRequest, in where) (*mcp.CallToolResult, any, error) {
			c, err := find(in.City)
			if err != nil {
				return nil, nil, err
			}
			text := "none"
			if len(c.Alerts) > 0 {
				text = strings.Join(c.Alerts, "; ")
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
		})
	return s
}
