package rediscache

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
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
	_ = cmd.RegisterFlagCompletionFunc("namespace", cobra.NoFileCompletions)
	return cmd
}

func runTail(c *console, cmd *cobra.Command, _ []string) error {
	namespace, _ := cmd.Flags().GetString("namespace")
	outcome, _ := cmd.Flags().GetString("outcome")
	count, _ := cmd.Flags().GetInt("count")
	if count < 0 {
		return fmt.Errorf("--count %d is negative", count)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
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
	defer afterClose(ctx.Done(), response.Body.Close)()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for shown := 0; lines.Scan(); {
		var line struct {
			tailLine
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
			c.printLine(&line.tailLine)
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

// afterClose calls end once done is closed, until the function that it returns
// is called.
func afterClose(done <-chan struct{}, end func() error) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		select {
		case <-done:
			_ = end()
		case <-stopped:
		}
	}()
	return func() { close(stopped) }
}

func (c *console) printLine(line *tailLine) {
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
	cmd.Flags().Int("concurrency", defaultWarmConcurrency, "Requests at a time")
	cmd.Flags().StringArray("header", nil, "Field of every request, 'Name: value'; repeatable")
	_ = cmd.RegisterFlagCompletionFunc("header", cobra.NoFileCompletions)
	return cmd
}

const warmPoll = 200 * time.Millisecond

func runWarm(c *console, cmd *cobra.Command, urls []string) error {
	body := map[string]any{"urls": urls}
	body["concurrency"], _ = cmd.Flags().GetInt("concurrency")
	if fields, _ := cmd.Flags().GetStringArray("header"); len(fields) > 0 {
		header := make(map[string]string)
		for _, line := range fields {
			name, value, ok := strings.Cut(line, ":")
			if !ok || strings.TrimSpace(name) == "" {
				return fmt.Errorf("--header %q is not 'Name: value'", line)
			}
			header[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		body["headers"] = []map[string]string{header}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	_, text, err := c.call(http.MethodPost, "/warm", nil, body)
	for ; err == nil; _, text, err = c.call(http.MethodGet, "/warm", url.Values{"id": {warmID(text)}}, nil) {
		var progress warmProgress
		if err := json.Unmarshal(text, &progress); err != nil {
			return fmt.Errorf("reading the progress: %w", err)
		}
		c.printProgress(&progress)
		if !progress.Running && len(progress.Results) == progress.Total {
			return c.printWarmed(text, &progress)
		}
		select {
		case <-ctx.Done():
			return errors.New("interrupted; the requests go on")
		case <-time.After(warmPoll):
		}
	}
	return err
}

func warmID(text []byte) string {
	var progress warmProgress
	_ = json.Unmarshal(text, &progress)
	return progress.ID
}

func (c *console) printProgress(p *warmProgress) {
	if !c.terminal || c.json || p.Total == 0 {
		return
	}
	const size = 30
	done := size * p.Done / p.Total
	fmt.Fprintf(c.out, "\r[%s%s] %d/%d", strings.Repeat("#", done), strings.Repeat(".", size-done), p.Done, p.Total)
	if !p.Running {
		fmt.Fprintln(c.out)
	}
}

func (c *console) printWarmed(text []byte, p *warmProgress) error {
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
