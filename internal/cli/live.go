package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

func tailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tail", Short: "Prints a line for each request as it ends", Args: cobra.NoArgs,
		Long:    "Prints a line for each request of the asked node as it ends, until Ctrl-C.",
		Example: "  caddy redis-cache tail --namespace pickup --outcome MISS",
		RunE:    onConsole(runTail),
	}
	cmd.Flags().String("namespace", "", "Only of this namespace")
	cmd.Flags().String("outcome", "", "Only with this outcome")
	cmd.Flags().IntP("count", "n", 0, "How many lines (default no end)")
	outcomes := []string{"HIT", "MISS", "STALE", "REVALIDATED", "BYPASS"}
	_ = cmd.RegisterFlagCompletionFunc("outcome", cobra.FixedCompletions(outcomes, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runTail(c *console, cmd *cobra.Command, _ []string) error {
	namespace, _ := cmd.Flags().GetString("namespace")
	outcome, _ := cmd.Flags().GetString("outcome")
	count, _ := cmd.Flags().GetInt("count")
	if count < 0 {
		return fmt.Errorf("--count %d is negative", count)
	}
	ctx, stop := untilInterrupt(cmd)
	defer stop()
	query := url.Values{}
	if namespace != "" {
		query.Set("namespace", namespace)
	}
	if outcome != "" {
		query.Set("outcome", strings.ToUpper(outcome))
	}
	response, err := c.open(http.MethodGet, "/tail", query, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	defer context.AfterFunc(ctx, func() { response.Body.Close() })()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for shown := 0; lines.Scan(); {
		var line struct {
			api.TailLine
			Dropped uint64 `json:"dropped"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("reading a line of the admin API: %w", err)
		}
		switch {
		case c.json:
			fmt.Fprintf(c.out, "%s\n", lines.Bytes())
			if line.Dropped > 0 {
				continue
			}
		case line.Dropped > 0:
			fmt.Fprintf(c.out, "… %d requests came too fast to be shown\n", line.Dropped)
			continue
		default:
			c.printLine(&line.TailLine)
		}
		if shown++; shown == count {
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the admin API broke off: %w", err)
	}
	return errors.New("the admin API has ended the stream")
}

func (c *console) printLine(line *api.TailLine) {
	text := c.cut(fmt.Sprintf("%s %-11s %-6s %9.2fms %3d %s %s %s %s", line.Time.Local().Format("15:04:05.000"), clean(line.Outcome), clean(line.Tier), line.DurationMS,
		line.Status, clean(line.Method), clean(line.Path), clean(line.Namespace), clean(line.Reason)))
	text = strings.TrimRight(text, " ")
	switch line.Outcome {
	case "HIT":
		text = c.paint(green, text)
	case "STALE", "REVALIDATED":
		text = c.paint(yellow, text)
	}
	fmt.Fprintln(c.out, text)
}

func warmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "warm URL...", Short: "Sends requests through the site, so that their responses are stored",
		Long: "Sends requests through the site, so that their responses are stored. The exit status is 1 when any failed.",
		Example: `  caddy redis-cache warm https://example.com/ https://example.com/api/v1/companies
  caddy redis-cache warm https://example.com/ --header 'Accept-Language: de'`,
		Args: cobra.MinimumNArgs(1),
		RunE: onConsole(runWarm),
	}
	cmd.Flags().Int("concurrency", api.DefaultConcurrency, "Requests at a time")
	cmd.Flags().StringArray("header", nil, "Field of every request, 'Name: value'; repeatable")
	return cmd
}

const warmPoll = 200 * time.Millisecond

func runWarm(c *console, cmd *cobra.Command, urls []string) error {
	body := map[string]any{"urls": urls}
	body["concurrency"], _ = cmd.Flags().GetInt("concurrency")
	if fields, _ := cmd.Flags().GetStringArray("header"); len(fields) > 0 {
		header, err := parseHeader(fields)
		if err != nil {
			return err
		}
		body["headers"] = []map[string]string{header}
	}
	ctx, stop := untilInterrupt(cmd)
	defer stop()
	text, progress, err := c.warm(ctx, body)
	if c.showsProgress() && progress != nil {
		fmt.Fprintln(c.out) // below the bar
	}
	if err != nil {
		return err
	}
	return c.printWarmed(text, progress)
}

// parseHeader returns a header of "Name: value" lines.
func parseHeader(lines []string) (map[string]string, error) {
	header := make(map[string]string)
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		name, value = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q is not 'Name: value'", line)
		}
		if before, more := header[name]; more {
			separator := ", " // RFC 9110 section 5.3
			if name == "Cookie" {
				separator = "; " // RFC 6265 section 5.4
			}
			value = before + separator + value
		}
		header[name] = value
	}
	return header, nil
}

// warm starts a job and follows it to its end. It returns the last that was heard
// of it, with an error, too; nil before anything was.
func (c *console) warm(ctx context.Context, body any) ([]byte, *api.WarmProgress, error) {
	_, text, err := c.call(http.MethodPost, "/warm", nil, body)
	var last *api.WarmProgress
	for err == nil {
		progress := new(api.WarmProgress)
		if err = json.Unmarshal(text, progress); err != nil {
			err = fmt.Errorf("reading the progress: %w", err)
			break
		}
		last = progress
		c.printProgress(last)
		// The answer to POST has no results, whatever is done by then.
		if !last.Running && len(last.Results) == last.Total {
			break
		}
		select {
		case <-ctx.Done():
			return text, last, errors.New("interrupted; the requests go on")
		case <-time.After(warmPoll):
		}
		_, text, err = c.call(http.MethodGet, "/warm", url.Values{"id": {last.ID}}, nil)
	}
	return text, last, err
}

func (c *console) showsProgress() bool { return c.terminal != nil && !c.json }

// printProgress draws the bar over the one before. It fits into the line, because
// a carriage return does not leave it.
func (c *console) printProgress(p *api.WarmProgress) {
	if !c.showsProgress() || p.Total == 0 {
		return
	}
	const longest = 30
	size, count := longest, fmt.Sprintf(" %d/%d", p.Done, p.Total)
	if c.width > 0 {
		size = max(0, min(longest, c.width-len("[]")-len(count)-1))
	}
	done := size * p.Done / p.Total
	fmt.Fprintf(c.out, "\r[%s%s]%s", strings.Repeat("#", done), strings.Repeat(".", size-done), count)
}

func (c *console) printWarmed(text []byte, p *api.WarmProgress) error {
	if c.json {
		if _, err := c.out.Write(text); err != nil {
			return err
		}
	} else {
		for _, r := range p.Results {
			if r.Error != "" || r.Status >= http.StatusBadRequest {
				fmt.Fprintln(c.out, c.paint(red, strings.TrimSpace(fmt.Sprintf("failed: %s %d %s", clean(r.URL), r.Status, clean(r.Error)))))
			}
		}
		fmt.Fprintf(c.out, "%d requests, %d failed\n", p.Done, p.Failed)
	}
	if p.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed", p.Failed, p.Done)
	}
	return nil
}
