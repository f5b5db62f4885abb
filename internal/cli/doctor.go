package cli

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Checks Redis and the configuration that runs",
		Long: `Checks whether Redis is reachable, new and fast enough, configured for the cache
and grants it what it needs, and looks for mistakes in the configuration. The
exit status is 1 when a check fails, with --strict also when one warns.`,
		Example: "  caddy redis-cache doctor\n  caddy redis-cache doctor --strict --json",
		Args:    cobra.NoArgs,
		RunE: onConsole(func(c *console, cmd *cobra.Command, _ []string) error {
			_, text, err := c.call(http.MethodGet, "/doctor", nil, nil)
			if err != nil {
				return err
			}
			if err := c.show(text, c.printChecks); err != nil {
				return err
			}
			strict, _ := cmd.Flags().GetBool("strict")
			return diagnosis(text, strict)
		}),
	}
	cmd.Flags().Bool("strict", false, "Fail on warnings, too")
	return cmd
}

// diagnosis is an error if checks have failed, or with strict have warned.
func diagnosis(text []byte, strict bool) error {
	answer, err := parseObject(text)
	if err != nil {
		return fmt.Errorf("the admin API did not answer with a JSON object: %w", err)
	}
	counts := make(map[api.Status]int)
	checks, _ := answer.get("checks").([]any)
	for _, item := range checks {
		o, _ := item.(object)
		counts[api.Status(inline(o.get("status")))]++
	}
	switch {
	case len(checks) == 0:
		return errors.New("the admin API has made no checks")
	case counts[api.Fail] > 0:
		return fmt.Errorf("failed checks: %d", counts[api.Fail])
	case strict && counts[api.Warn] > 0:
		return fmt.Errorf("warnings: %d", counts[api.Warn])
	}
	return nil
}

// printChecks prints a line for each check, with the advice beneath it.
func (c *console) printChecks(answer object) {
	checks, _ := answer.get("checks").([]any)
	styles := map[api.Status]string{api.OK: green, api.Warn: yellow, api.Fail: red, api.Skip: bold}
	for _, item := range checks {
		o, _ := item.(object)
		status := api.Status(inline(o.get("status")))
		label := fmt.Sprintf("%-4s", status)
		if style, known := styles[status]; known {
			label = c.paint(style, label)
		}
		fmt.Fprintf(c.out, "%s  %-13s  %s\n", label, inline(o.get("name")), inline(o.get("detail")))
		if advice := inline(o.get("advice")); advice != "" {
			fmt.Fprintf(c.out, "%21s%s\n", "", advice)
		}
	}
}
