// Package cli is the command caddy redis-cache: it asks the admin API of a running Caddy,
// and prints what that answers. It knows the API by its JSON alone, and nothing of how a
// cache works. Begin with Command.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

// Command is caddy redis-cache.
func Command() caddycmd.Command {
	return caddycmd.Command{
		Name:  "redis-cache",
		Usage: "<command>",
		Short: "Looks into and controls the cache of a running Caddy",
		Long: `
Asks the admin API of the running Caddy. Where that listens is found as other
commands find it: --address, else the admin endpoint of --config, else the
default. The exit status is 0, or 1 after an error.`,
		CobraFunc: addCommands,
	}
}

// addCommands registers the subcommands.
func addCommands(parent *cobra.Command) {
	parent.Args = cobra.NoArgs
	parent.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	parent.PersistentFlags().StringP("address", "", "", "Address of the admin API, instead of that in the configuration")
	parent.PersistentFlags().StringP("config", "c", "", "Configuration file that names the admin API")
	parent.PersistentFlags().StringP("adapter", "a", "", "Name of the adapter of --config")
	parent.PersistentFlags().Bool("json", false, "Print the JSON of the admin API")
	parent.AddCommand(statsCommand(), topCommand(), tailCommand(), purgeCommand(), warmCommand(), explainCommand(),
		journalCommand(), nodesCommand(), entriesCommand(), doctorCommand(), switchCommand("enable", "Caches again what disable has stopped"),
		switchCommand("disable", "Caches nothing, on all nodes, until enable; purges go on"))
	for _, cmd := range append(parent.Commands(), parent) {
		completeNoFiles(cmd)
	}
}

// completeNoFiles keeps the shell from offering files where none is meant.
func completeNoFiles(cmd *cobra.Command) {
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	none := func(flag *pflag.Flag) {
		if _, known := cmd.GetFlagCompletionFunc(flag.Name); !known && flag.Name != "config" {
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, cobra.NoFileCompletions)
		}
	}
	cmd.Flags().VisitAll(none)
	cmd.PersistentFlags().VisitAll(none)
}

// console is one run of a command: the admin API on one side, where the
// output goes on the other.
type console struct {
	out           io.Writer
	admin         string // network address of the admin API
	json          bool
	terminal      *os.File // out, if it is one
	color         bool
	width, height int // of the terminal; 0: not limited
}

// onConsole makes a command's function from one that has a console.
func onConsole(run func(c *console, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		var flags [3]string
		for i, name := range []string{"address", "config", "adapter"} {
			flags[i], _ = cmd.Flags().GetString(name)
		}
		admin, err := caddycmd.DetermineAdminAPIAddress(flags[0], nil, flags[1], flags[2])
		if err != nil {
			return fmt.Errorf("finding the admin API: %w", err)
		}
		c := &console{out: cmd.OutOrStdout(), admin: admin}
		c.json, _ = cmd.Flags().GetBool("json")
		if file, ok := c.out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
			c.terminal = file
			c.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" // https://no-color.org
			c.measure()
		}
		return run(c, cmd, args)
	}
}

// measure takes the size of the terminal, which changes.
func (c *console) measure() { c.width, c.height, _ = term.GetSize(int(c.terminal.Fd())) }

// untilInterrupt returns a context that ends with the first Ctrl-C; the second
// one ends the process, whatever it waits for.
func untilInterrupt(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// open sends a request. What Caddy answers with a status above 399 is an error.
func (c *console) open(method, path string, query url.Values, body any) (*http.Response, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	response, err := caddycmd.AdminAPIRequest(c.admin, method, "/redis_cache"+path, nil, reader)
	if err != nil {
		return nil, fmt.Errorf("asking the admin API at %s: %s", c.admin, reasonOf(err))
	}
	return response, nil
}

// reasonOf is what an error says, without the JSON in which the admin API said it.
func reasonOf(err error) string {
	text := strings.TrimSpace(err.Error())
	if before, _, isJSON := strings.Cut(text, "{"); isJSON {
		if answer, err := parseObject([]byte(text[len(before):])); err == nil && answer.get("error") != nil {
			return clean(before) + inline(answer.get("error"))
		}
	}
	return clean(text)
}

// call returns the status and the JSON of an answer.
func (c *console) call(method, path string, query url.Values, body any) (int, []byte, error) {
	response, err := c.open(method, path, query, body)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer of the admin API: %w", err)
	}
	return response.StatusCode, text, nil
}

// show prints an answer: as it is with --json, otherwise by f.
func (c *console) show(text []byte, f func(answer object)) error {
	if c.json {
		_, err := c.out.Write(text)
		return err
	}
	answer, err := parseObject(text)
	if err != nil {
		return fmt.Errorf("the admin API did not answer with a JSON object: %w", err)
	}
	f(answer)
	return nil
}

func purgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Purges stored responses on all nodes",
		Long: `Purges the stored responses that any of the selectors selects. The exit status
is 1 also when the purge is recorded but a node has not confirmed it within
--wait; the nodes are named then. It is 1, too, when the purge cannot be recorded
because Redis is away: it then covers what the asked node has stored, and waits.
With --require recorded it is refused in place of that.`,
		Example: `  caddy redis-cache purge --namespace pickup --reason import
  caddy redis-cache purge --tag user:7 --tag user:8 --soft
  caddy redis-cache purge --prefix https://example.com/api/ --dry-run`,
		Args: cobra.NoArgs,
		RunE: onConsole(runPurge),
	}
	lists := map[string]string{
		"namespace": "Namespace; repeatable", "tag": "Tag; repeatable", "key": "Key; repeatable", "url": "Absolute URL; repeatable",
	}
	for name, usage := range lists {
		cmd.Flags().StringArray(name, nil, usage)
	}
	singles := map[string]string{
		"pattern": "Glob on keys", "prefix": "What URLs begin with", "host": "Host", "user": "Identity of a user",
		"wait": "How long to wait for the other nodes (default 1s)", "by": "Who purges, for the journal", "reason": "Why, for the journal",
		"require": "recorded: refuse a purge that would have to wait for Redis",
	}
	for name, usage := range singles {
		cmd.Flags().String(name, "", usage)
	}
	_ = cmd.RegisterFlagCompletionFunc("require", cobra.FixedCompletions([]string{api.RequireRecorded}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().Bool("all", false, "Everything under the prefix")
	cmd.Flags().Bool("soft", false, "Make stale instead of absent")
	cmd.Flags().Bool("dry-run", false, "Only count what would be purged")
	return cmd
}

func runPurge(c *console, cmd *cobra.Command, _ []string) error {
	body := make(map[string]any)
	for _, name := range []string{"namespace", "tag", "key", "url"} {
		if values, _ := cmd.Flags().GetStringArray(name); len(values) > 0 {
			body[name+"s"] = values
		}
	}
	for _, name := range []string{"pattern", "prefix", "host", "user"} {
		if value, _ := cmd.Flags().GetString(name); value != "" {
			body[name] = value
		}
	}
	if all, _ := cmd.Flags().GetBool("all"); all {
		body["all"] = true
	}
	if len(body) == 0 {
		return errors.New("nothing is selected: want any of --namespace, --tag, --key, --pattern, --url, --prefix, --host, --user or --all")
	}
	for _, name := range []string{"wait", "by", "reason", "require"} {
		if value, _ := cmd.Flags().GetString(name); value != "" {
			body[name] = value
		}
	}
	body["soft"], _ = cmd.Flags().GetBool("soft")
	body["dry_run"], _ = cmd.Flags().GetBool("dry-run")
	status, text, err := c.call(http.MethodPost, "/purge", nil, body)
	if err != nil {
		return err
	}
	return c.showRecorded(status, text)
}

// showRecorded prints the answer to what goes through the journal. It is an error
// if that is not confirmed.
func (c *console) showRecorded(status int, text []byte) error {
	if err := c.show(text, c.printObject); err != nil {
		return err
	}
	if status != http.StatusAccepted {
		return nil
	}
	answer, err := parseObject(text)
	if err != nil {
		return fmt.Errorf("reading the answer of the admin API: %w", err)
	}
	if cause := inline(answer.get("waits_for")); cause != "" {
		return fmt.Errorf("it waits to be recorded, and other nodes do not know of it: %s", cause)
	}
	if pending := inline(answer.get("pending")); pending != "" {
		return fmt.Errorf("it is recorded, but not everybody has confirmed it; pending: %s", pending)
	}
	return errors.New("it is recorded, but no replica of Redis has confirmed it")
}

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Tells what would happen to a request, and why",
		Example: `  caddy redis-cache explain https://example.com/api/v1/companies
  caddy redis-cache explain https://example.com/api/v1/me --header 'Authorization: Bearer …'`,
		Args: cobra.ExactArgs(1),
		RunE: onConsole(func(c *console, cmd *cobra.Command, args []string) error {
			query := url.Values{"url": args}
			if method, _ := cmd.Flags().GetString("method"); method != "" {
				query.Set("method", method)
			}
			if headers, _ := cmd.Flags().GetStringArray("header"); len(headers) > 0 {
				query["header"] = headers
			}
			_, text, err := c.call(http.MethodGet, "/explain", query, nil)
			if err != nil {
				return err
			}
			return c.show(text, c.printExplanation)
		}),
	}
	cmd.Flags().String("method", "", "Method of the request (default GET)")
	cmd.Flags().StringArray("header", nil, "Field of the request, 'Name: value'; repeatable")
	_ = cmd.RegisterFlagCompletionFunc("method", cobra.FixedCompletions([]string{"GET", "HEAD", "POST", "QUERY"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func journalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "journal", Short: "Lists who purged what, when and why", Example: "  caddy redis-cache journal --limit 20",
		Args: cobra.NoArgs,
		RunE: onConsole(func(c *console, cmd *cobra.Command, _ []string) error {
			return c.list("/journal", limitOf(cmd), "entries")
		}),
	}
	cmd.Flags().Int("limit", api.DefaultListed, "How many entries, newest first")
	return cmd
}

func nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "nodes", Short: "Lists the nodes that share the cache", Example: "  caddy redis-cache nodes", Args: cobra.NoArgs,
		RunE: onConsole(func(c *console, _ *cobra.Command, _ []string) error { return c.list("/nodes", nil, "nodes") }),
	}
}

func entriesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "entries", Short: "Lists stored responses", Args: cobra.NoArgs,
		Example: "  caddy redis-cache entries --namespace pickup --limit 20",
		RunE: onConsole(func(c *console, cmd *cobra.Command, _ []string) error {
			query := limitOf(cmd)
			for _, name := range []string{"namespace", "pattern", "cursor"} {
				if value, _ := cmd.Flags().GetString(name); value != "" {
					query.Set(name, value)
				}
			}
			return c.list("/entries", query, "entries", "status", "size", "age", "ttl_remaining", "soft_purged", "tiers", "key", "content_type", "tags")
		}),
	}
	cmd.Flags().String("namespace", "", "Only of this namespace")
	cmd.Flags().String("pattern", "", "Only keys that match this glob")
	cmd.Flags().Int("limit", api.DefaultListed, "How many")
	cmd.Flags().String("cursor", "", "Where an earlier list has ended")
	return cmd
}

func limitOf(cmd *cobra.Command) url.Values {
	limit, _ := cmd.Flags().GetInt("limit")
	return url.Values{"limit": {strconv.Itoa(limit)}}
}

// list prints the objects of a list as a table, with the given columns or else
// with all, and below it the other fields of the answer.
func (c *console) list(path string, query url.Values, name string, columns ...string) error {
	_, text, err := c.call(http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	return c.show(text, func(answer object) {
		c.printObjects(answer.get(name), columns)
		for _, f := range answer {
			if value := inline(f.value); f.name != name && value != "" {
				fmt.Fprintf(c.out, "%s: %s\n", clean(f.name), value)
			}
		}
	})
}

func switchCommand(name, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		Example: "  caddy redis-cache " + name + "\n  caddy redis-cache " + name + " --namespace pickup",
		RunE: onConsole(func(c *console, cmd *cobra.Command, _ []string) error {
			body := make(map[string]any)
			for _, flag := range []string{"namespace", "wait", "by", "reason"} {
				if cmd.Flags().Changed(flag) {
					body[flag], _ = cmd.Flags().GetString(flag)
				}
			}
			status, text, err := c.call(http.MethodPost, "/"+name, nil, body)
			if err != nil {
				return err
			}
			return c.showRecorded(status, text)
		}),
	}
	cmd.Flags().String("namespace", "", "Only this namespace (default all)")
	cmd.Flags().String("wait", "", "How long to wait for all nodes (default 1s)")
	cmd.Flags().String("by", "", "Who does it, for the journal")
	cmd.Flags().String("reason", "", "Why, for the journal")
	return cmd
}
