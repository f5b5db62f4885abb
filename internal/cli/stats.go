package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

// maxPrintedEndpoints is how many endpoints of a list are printed.
const maxPrintedEndpoints = 10

func statsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "stats", Short: "Prints statistics of the cache", Args: cobra.NoArgs,
		Example: "  caddy redis-cache stats --window 24h",
		RunE: onConsole(func(c *console, cmd *cobra.Command, _ []string) error {
			text, s, err := c.statistics(cmd)
			if err != nil {
				return err
			}
			return c.show(text, func(object) { c.printReport(s) })
		}),
	}
	windowFlag(cmd)
	return cmd
}

func windowFlag(cmd *cobra.Command) {
	cmd.Flags().String("window", "", "What requests and durations are about: 1h or 24h (default 1h)")
	_ = cmd.RegisterFlagCompletionFunc("window", cobra.FixedCompletions([]string{"1h", "24h"}, cobra.ShellCompDirectiveNoFileComp))
}

// windowNames are how people call the windows.
var windowNames = map[api.Window]string{api.Hour: "Last Hour", api.Day: "Last 24h"}

// statistics asks for statistics of the window of the command, and returns the
// answer as it came, too.
func (c *console) statistics(cmd *cobra.Command) ([]byte, *api.Statistics, error) {
	query := make(url.Values)
	if window, _ := cmd.Flags().GetString("window"); window != "" {
		if windowNames[api.Window(window)] == "" {
			return nil, nil, fmt.Errorf("--window %q is neither %s nor %s", window, api.Hour, api.Day)
		}
		query.Set("window", window)
	}
	_, text, err := c.call(http.MethodGet, "/stats", query, nil)
	if err != nil {
		return nil, nil, err
	}
	s := new(api.Statistics)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, nil, fmt.Errorf("reading the statistics: %w", err)
	}
	return text, s, nil
}

func (c *console) heading(text string) { fmt.Fprintf(c.out, "\n%s\n", c.paint(bold, text)) }

// item prints a line of a list.
func (c *console) item(format string, args ...any) {
	fmt.Fprintln(c.out, c.cut(fmt.Sprintf(format, args...)))
}

// printReport prints what is stored and how well it serves, then the details.
func (c *console) printReport(s *api.Statistics) {
	fmt.Fprintln(c.out, c.paint(bold, "===== REDIS CACHE STATISTICS ====="))
	counted := ""
	if s.Partial {
		counted = " (not all were counted)"
	}
	c.item("Total Keys: %s%s", comma(s.Keys), counted)
	c.item("Total Cache Size: %s%s", humanize.Bytes(uint64(s.Bytes)), counted)
	fmt.Fprintln(c.out)
	c.item("Hit Rate (%s): %s", windowNames[api.Hour], percent(s.HitRate[string(api.Hour)]))
	c.item("Hit Rate (%s): %s", windowNames[api.Day], percent(s.HitRate[string(api.Day)]))
	if len(s.Namespaces) > 0 {
		c.heading("Namespace Distribution:")
		for _, name := range namespaceNames(s, func(ns *api.NamespaceStatistics) int { return ns.Keys }) {
			ns := s.Namespaces[name]
			c.item("- %s: %s keys (%s)", clean(name), comma(ns.Keys), percent(ns.Share))
		}
	}
	c.printHitRates("Top Endpoints by Hit Rate:", s.Top)
	c.printHitRates("Bottom Endpoints by Hit Rate:", s.Bottom)
	c.printDetails(s)
}

func (c *console) printDetails(s *api.Statistics) {
	total := s.Requests[api.Total]
	if s.Alone {
		c.item("%s", c.paint(yellow, "Redis gives no answer: the figures may be of this node alone."))
	}
	if s.Waiting != nil {
		c.item("%s", c.paint(yellow, fmt.Sprintf("Purges waiting to be recorded: %s, the first since %s.", comma(s.Waiting.Purges), s.Waiting.Since.Local().Format(time.DateTime))))
	}
	c.heading(fmt.Sprintf("Requests (%s): %s", cmp.Or(windowNames[s.Window], clean(string(s.Window))), comma(total)))
	for _, outcome := range outcomesShown {
		n := s.Requests[outcome]
		c.item("- %s: %s (%s)", outcome, comma(n), percentOf(n, total))
	}
	c.item("Answered by the fetch of another request: %s", comma(s.Coalesced))
	c.item("Invalidations per Minute: %.2f", s.PurgeRate)
	for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
		e := s.Errors[kind]
		if e.Count == 0 {
			continue
		}
		line := fmt.Sprintf("Errors (%s): %s", clean(kind), comma(e.Count))
		if e.At != nil {
			line += fmt.Sprintf(", the last at %s: %s", e.At.Format(time.RFC3339), clean(e.Last))
		}
		c.item("%s", line)
	}
	c.heading("Response Time:")
	times := table{rows: [][]string{{"ANSWER", "MEAN", "P50", "P95", "P99"}}, right: []bool{false, true, true, true, true}}
	for _, kind := range slices.Sorted(maps.Keys(s.DurationMS)) {
		d := s.DurationMS[kind]
		row := append(make([]string, 0, 5), clean(kind))
		for _, ms := range []float64{d.Mean, d.P50, d.P95, d.P99} {
			row = append(row, short(ms*float64(time.Millisecond)))
		}
		times.rows = append(times.rows, row)
	}
	c.printTable(times)
	c.printLifetimes(s)
	if len(s.Costly) > 0 {
		c.heading("Endpoints by Origin Time:")
		for i, e := range s.Costly[:min(len(s.Costly), maxPrintedEndpoints)] {
			c.item("%d. %s - %s in %s requests", i+1, clean(e.Endpoint), short(e.OriginMS*float64(time.Millisecond)), comma(e.Requests))
		}
	}
	c.printNodes(s.Nodes)
}

// outcomesShown are the outcomes, from the best for the origin to the worst.
var outcomesShown = []string{api.Hit, api.Stale, api.Revalidated, api.Miss, api.Bypass}

func (c *console) printLifetimes(s *api.Statistics) {
	c.heading("TTL Distribution:")
	for _, class := range api.Lifetimes {
		n := s.TTL[class]
		c.item("- %s: %s keys (%s)", class, comma(n), percentOf(n, s.Keys))
	}
}

func (c *console) printNodes(nodes []api.NodeStatistics) {
	if len(nodes) == 0 {
		return
	}
	c.heading("Nodes:")
	t := table{
		rows:  [][]string{{"ID", "STATE", "REQUESTS", "HIT RATE", "BREAKER", "MEMORY", "KEYS", "EVICTIONS"}},
		right: []bool{false, false, true, true, false, true, true, true},
	}
	for _, n := range nodes {
		state := "gone"
		switch {
		case n.Self:
			state = "self"
		case n.Live:
			state = "live"
		}
		var memory, keys, evictions string
		if m := n.Memory; m != nil {
			memory = humanize.IBytes(uint64(m.Bytes)) + " of " + humanize.IBytes(uint64(m.Max))
			keys, evictions = comma(m.Keys), comma(m.Evictions)
		}
		t.rows = append(t.rows, []string{
			clean(n.ID), state, comma(n.Requests[api.Total]), percent(n.HitRate), clean(n.Breaker), memory, keys, evictions,
		})
	}
	c.printTable(t)
}

// namespaceNames are the names, those with the most first.
func namespaceNames(s *api.Statistics, size func(*api.NamespaceStatistics) int) []string {
	return slices.SortedFunc(maps.Keys(s.Namespaces), func(a, b string) int {
		return cmp.Or(cmp.Compare(size(s.Namespaces[b]), size(s.Namespaces[a])), cmp.Compare(a, b))
	})
}

func (c *console) printHitRates(heading string, endpoints []api.EndpointStatistics) {
	if len(endpoints) == 0 {
		return
	}
	c.heading(heading)
	for i, e := range endpoints[:min(len(endpoints), maxPrintedEndpoints)] {
		c.item("%d. %s - %s", i+1, clean(e.Endpoint), percent(e.HitRate))
	}
}

func topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "top", Short: "Shows statistics as they change", Args: cobra.NoArgs,
		Long:    "Shows statistics as they change, until Ctrl-C. Without a terminal the frames follow each other.",
		Example: "  caddy redis-cache top --interval 2s",
		RunE:    onConsole(runTop),
	}
	windowFlag(cmd)
	cmd.Flags().Duration("interval", time.Second, "Time between frames")
	cmd.Flags().IntP("count", "n", 0, "How many frames (default no end)")
	return cmd
}

func runTop(c *console, cmd *cobra.Command, _ []string) error {
	interval, _ := cmd.Flags().GetDuration("interval")
	count, _ := cmd.Flags().GetInt("count")
	if interval <= 0 || count < 0 {
		return errors.New("--interval must be positive and --count not negative")
	}
	ctx, stop := untilInterrupt(cmd)
	defer stop()
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	var last *api.Statistics
	var at time.Time
	for frame := 1; ; frame++ {
		text, s, err := c.statistics(cmd)
		if err != nil {
			return err
		}
		now := time.Now()
		if c.json {
			if _, err := c.out.Write(text); err != nil {
				return err
			}
		} else {
			c.printFrame(s, last, now.Sub(at))
		}
		last, at = s, now
		if frame == count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// printFrame shows one frame of top; on a terminal in place of the one before, as
// far as it fits, and at once, so that it does not flicker.
func (c *console) printFrame(s, last *api.Statistics, since time.Duration) {
	if c.terminal == nil {
		c.printTop(s, last, since)
		return
	}
	c.measure()
	var text bytes.Buffer
	frame := *c
	frame.out = &text
	frame.printTop(s, last, since)
	lines := strings.SplitAfter(text.String(), "\n")
	if c.height > 1 && len(lines) > c.height {
		lines = lines[:c.height-1]
	}
	fmt.Fprint(c.out, "\x1b[H\x1b[2J"+strings.Join(lines, "")) // home, erase
}

// printTop prints what top shows. A total that shrinks has lost what is older than
// the window.
func (c *console) printTop(s, last *api.Statistics, since time.Duration) {
	rate := "-"
	if last != nil && since > 0 && s.Requests[api.Total] >= last.Requests[api.Total] {
		rate = fmt.Sprintf("%.1f", float64(s.Requests[api.Total]-last.Requests[api.Total])/since.Seconds())
	}
	c.item("Requests/s: %s   Hit Rate: %s   Keys: %s   Size: %s",
		rate, percent(s.HitRate[string(s.Window)]), comma(s.Keys), humanize.Bytes(uint64(s.Bytes)))
	outcomes := make([]string, 0, len(outcomesShown))
	for _, outcome := range outcomesShown {
		outcomes = append(outcomes, fmt.Sprintf("%s %d", outcome, s.Requests[outcome]))
	}
	c.item("Requests: total %d, %s", s.Requests[api.Total], strings.Join(outcomes, ", "))
	fmt.Fprintln(c.out)
	t := table{rows: [][]string{{"NAMESPACE", "REQUESTS", "HIT RATE", "KEYS"}}, right: []bool{false, true, true, true}}
	for _, name := range namespaceNames(s, func(ns *api.NamespaceStatistics) int { return int(ns.Requests[api.Total]) }) {
		ns := s.Namespaces[name]
		t.rows = append(t.rows, []string{
			clean(name), comma(ns.Requests[api.Total]), percent(ns.HitRate), comma(ns.Keys),
		})
	}
	c.printTable(t)
	c.printHitRates("Top Endpoints by Hit Rate:", s.Top)
}
