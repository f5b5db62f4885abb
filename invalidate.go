package rediscache

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// purgeRules stand for what decides, besides the journal, what is purged, without showing
// it: the secret is one of them.
func (a *App) purgeRules() string {
	rules := a.queryRules()
	queries := make([]string, len(rules))
	for i, rule := range rules {
		text, _ := json.Marshal(rule) // of strings alone
		queries[i] = string(text)
	}
	slices.Sort(queries)
	on, _ := json.Marshal(a.On)
	return cachekey.UserHash(a.secret, fmt.Sprintf("rules of purges: %q %s %q", slices.Compact(queries), on, a.secret))
}

// eventPurges expands the rules for an event, hard and soft ones apart. What the
// rules read and the data lack is missing; a selector that needs it is left out.
func (a *App) eventPurges(event string, data map[string]any) (purges []journal.Purge, missing []string) {
	repl := eventReplacer(data)
	both := [2]journal.Purge{1: {Soft: true}}
	for _, rule := range a.On[event] {
		kind := 0
		if rule.Soft {
			kind = 1
		}
		complete := config.Selectors{Selector: rule.Selector}
		for _, template := range rule.Values {
			if lacks := lacking(repl, template); len(lacks) > 0 {
				missing = append(missing, lacks...)
				continue
			}
			complete.Values = append(complete.Values, template)
		}
		both[kind].Selectors = append(both[kind].Selectors, complete.Expand(repl, a.secret)...)
	}
	for i := range both {
		both[i].Selectors = engine.ValidSelectors(both[i].Selectors, a.Prefix)
	}
	slices.Sort(missing)
	return slices.DeleteFunc(both[:], func(p journal.Purge) bool { return len(p.Selectors) == 0 }), slices.Compact(missing)
}

// expand expands the rules for an event with data as it was reported.
func (a *App) expand(event string, raw json.RawMessage) (purges []journal.Purge, missing []string, err error) {
	data, err := eventData(raw)
	if err != nil {
		return nil, nil, err
	}
	if len(a.On[event]) == 0 {
		return nil, nil, admin.ErrNoRule
	}
	purges, missing = a.eventPurges(event, data)
	return purges, missing, nil
}

// lacking names the data of the event that a template reads and that are not there.
func lacking(repl *caddy.Replacer, template string) (names []string) {
	_, _ = repl.ReplaceFunc(template, func(name string, value any) (any, error) {
		if field, ok := strings.CutPrefix(name, "event."); ok {
			if _, known := repl.Get(name); !known {
				names = append(names, strings.TrimPrefix(field, "data."))
			}
		}
		return value, nil
	})
	return names
}

// eventReplacer knows {event.data.X}, and {event.X} for names that Caddy does
// not use itself.
func eventReplacer(data map[string]any) *caddy.Replacer {
	repl := caddy.NewReplacer()
	repl.Map(func(name string) (any, bool) {
		name, ok := strings.CutPrefix(name, "event.")
		if !ok {
			return nil, false
		}
		if long, ok := strings.CutPrefix(name, "data."); ok {
			value, known := data[long]
			return value, known
		}
		if slices.Contains(config.CaddyEventFields, name) {
			return nil, false
		}
		value, known := data[name]
		return value, known
	})
	return repl
}

// eventData decodes the data of an event; numbers stay as they were written.
func eventData(raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var data map[string]any
	if err := decoder.Decode(&data); err != nil {
		return nil, fmt.Errorf("data is not a JSON object: %w", err)
	}
	return data, nil
}

// eventHandler purges on the Caddy events for which there are rules. It is a type
// of its own because Caddy logs the exported fields of a handler.
type eventHandler struct{ app *App }

// Handle purges.
func (h eventHandler) Handle(_ context.Context, event caddy.Event) error {
	purges, missing := h.app.eventPurges(event.Name(), event.Data)
	h.app.node.WarnLacking(event.Name(), missing)
	for _, p := range purges {
		p.By = "event " + event.Name()
		if err := h.app.node.Journal.AppendAsync(p); err != nil {
			h.app.logger.Error("an event could not purge", zap.String("event", event.Name()), zap.Error(err))
		}
	}
	return nil
}

// Interface guards
var _ caddyevents.Handler = eventHandler{}
