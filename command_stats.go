package rediscache

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

// report is what the command reads of GET /redis_cache/stats; what is missing
// there is left out.
type report struct {
	Requests   map[string]uint64             `json:"requests"`
	HitRate    map[string]float64            `json:"hit_rate"`
	Duration   map[string]map[string]float64 `json:"duration_ms"`
	Keys       int64                         `json:"keys"`
	Bytes      uint64                        `json:"bytes"`
	Partial    bool                          `json:"partial"`
	Namespaces map[string]struct {
		Requests map[string]uint64 `json:"requests"`
		HitRate  float64           `json:"hit_rate"`
		Keys     int64             `json:"keys"`
		Share    float64           `json:"share"`
	} `json:"namespaces"`
	Top     []endpoint `json:"top_endpoints"`
	Bottom  []endpoint `json:"bottom_endpoints"`
	Breaker string     `json:"breaker"`
}

type endpoint struct {
	Endpoint string  `json:"endpoint"`
	HitRate  float64 `json:"hit_rate"`
}

func statsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "stats", Short: "Prints statistics of the cache", Args: cobra.NoArgs,
		Example: "  caddy redis-cache stats --window 24h",
		RunE: onConsole(func(c *console, cmd *cobra.Command, _ []string) error {
			text, r, err := c.report(cmd)
			if err != nil {
				return err
			}
			return c.show(text, func(answer object) {
				c.printReport(r)
				if nodes, ok := answer.get("nodes").([]any); ok && len(nodes) > 0 {
					c.heading("Nodes:")
					c.printObjects(nodes)
				}
			})
		}),
	}
	windowFlag(cmd)
	return cmd
}

func windowFlag(cmd *cobra.Command) {
	cmd.Flags().String("window", "", "What requests and durations are about: 1h or 24h (default 1h)")
	_ = cmd.RegisterFlagCompletionFunc("window", cobra.FixedCompletions([]string{"1h", "24h"}, cobra.ShellCompDirectiveNoFileComp))
}

func (c *console) report(cmd *cobra.Command) ([]byte, *report, error) {
	query := make(url.Values)
	switch window, _ := cmd.Flags().GetString("window"); window {
	case "":
	case "1h", "24h":
		query.Set("window", window)
	default:
		return nil, nil, fmt.Errorf("--window %q is neither 1h nor 24h", window)
	}
	_, text, err := c.call(http.MethodGet, "/stats", query, nil)
	if err != nil {
		return nil, nil, err
	}
	r := new(report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, nil, fmt.Errorf("reading the statistics: %w", err)
	}
	return text, r, nil
}

func (c *console) heading(text string) { fmt.Fprintf(c.out, "\n%s\n", c.paint(bold, text)) }

func (c *console) printReport(r *report) {
	fmt.Fprintln(c.out, c.paint(bold, "===== REDIS CACHE STATISTICS ====="))
	counted := ""
	if r.Partial {
		counted = " (not all were counted)"
	}
	fmt.Fprintf(c.out, "Total Keys: %s%s\n", humanize.Comma(r.Keys), counted)
	fmt.Fprintf(c.out, "Total Cache Size: %s%s\n\n", humanize.Bytes(r.Bytes), counted)
	fmt.Fprintf(c.out, "Hit Rate (Last Hour): %.1f%%\n", 100*r.HitRate["1h"])
	fmt.Fprintf(c.out, "Hit Rate (Last 24h): %.1f%%\n", 100*r.HitRate["24h"])
	c.printOutcomes(r)
	for _, kind := range slices.Sorted(maps.Keys(r.Duration)) {
		d := r.Duration[kind]
		fmt.Fprintf(c.out, "Duration of a %s: mean %.2f ms, p50 %.2f ms, p95 %.2f ms, p99 %.2f ms\n",
			clean(kind), d["mean"], d["p50"], d["p95"], d["p99"])
	}
	if r.Breaker != "" {
		fmt.Fprintf(c.out, "Circuit Breaker: %s\n", clean(r.Breaker))
	}
	if len(r.Namespaces) > 0 {
		c.heading("Namespace Distribution:")
		for _, name := range r.namespaces(func(name string) int64 { return r.Namespaces[name].Keys }) {
			ns := r.Namespaces[name]
			fmt.Fprintf(c.out, "- %s: %s keys (%.1f%%)\n", clean(name), humanize.Comma(ns.Keys), 100*ns.Share)
		}
	}
	c.printEndpoints("Top Endpoints by Hit Rate:", r.Top)
	c.printEndpoints("Bottom Endpoints by Hit Rate:", r.Bottom)
}

// namespaces are the names, those with the most first.
func (r *report) namespaces(size func(name string) int64) []string {
	return slices.SortedFunc(maps.Keys(r.Namespaces), func(a, b string) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a, b))
	})
}

func (c *console) printOutcomes(r *report) {
	parts := []string{fmt.Sprintf("total %d", r.Requests["total"])}
	for _, outcome := range slices.Sorted(maps.Keys(r.Requests)) {
		if outcome != "total" {
			parts = append(parts, fmt.Sprintf("%s %d", clean(outcome), r.Requests[outcome]))
		}
	}
	fmt.Fprintln(c.out, c.cut("Requests: "+strings.Join(parts, ", ")))
}

func (c *console) printEndpoints(heading string, endpoints []endpoint) {
	if len(endpoints) == 0 {
		return
	}
	c.heading(heading)
	for i, e := range endpoints {
		fmt.Fprintln(c.out, c.cut(fmt.Sprintf("%d. %s - %.1f%%", i+1, clean(e.Endpoint), 100*e.HitRate)))
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
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	var last *report
	var at time.Time
	for frame := 1; ; frame++ {
		text, r, err := c.report(cmd)
		if err != nil {
			return err
		}
		now := time.Now()
		if c.json {
			if _, err := c.out.Write(text); err != nil {
				return err
			}
		} else {
			c.printFrame(r, last, now.Sub(at))
		}
		last, at = r, now
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

// printFrame shows one frame of top. A total that shrinks has lost what is older
// than the window.
func (c *console) printFrame(r, last *report, since time.Duration) {
	if c.terminal {
		fmt.Fprint(c.out, "\x1b[H\x1b[2J") // home, erase
	}
	rate := "-"
	if last != nil && since > 0 && r.Requests["total"] >= last.Requests["total"] {
		rate = fmt.Sprintf("%.1f", float64(r.Requests["total"]-last.Requests["total"])/since.Seconds())
	}
	fmt.Fprintf(c.out, "Requests/s: %s   Hit Rate: %.1f%%   Keys: %s   Size: %s\n",
		rate, 100*r.HitRate["1h"], humanize.Comma(r.Keys), humanize.Bytes(r.Bytes))
	c.printOutcomes(r)
	fmt.Fprintln(c.out)
	rows := make([][]string, 1, 1+len(r.Namespaces))
	rows[0] = []string{"NAMESPACE", "REQUESTS", "HIT RATE", "KEYS"}
	for _, name := range r.namespaces(func(name string) int64 { return int64(r.Namespaces[name].Requests["total"]) }) {
		ns := r.Namespaces[name]
		rows = append(rows, []string{
			clean(name), humanize.Comma(int64(ns.Requests["total"])), fmt.Sprintf("%.1f%%", 100*ns.HitRate), humanize.Comma(ns.Keys),
		})
	}
	c.table(rows)
	c.printEndpoints("Top Endpoints by Hit Rate:", r.Top)
}
