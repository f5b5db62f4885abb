package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// object is a JSON object whose fields keep their order.
type object []field

type field struct {
	name  string
	value any // nil, bool, json.Number, string, []any or object
}

func (o object) get(name string) any {
	for _, f := range o {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

func parseObject(text []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	value, err := parseValue(decoder)
	if err != nil {
		return nil, err
	}
	o, ok := value.(object)
	if !ok {
		return nil, errors.New("it is another JSON value")
	}
	return o, nil
}

func parseValue(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		o := object{}
		for decoder.More() {
			name, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			value, err := parseValue(decoder)
			if err != nil {
				return nil, err
			}
			o = append(o, field{name.(string), value})
		}
		_, err = decoder.Token()
		return o, err
	case json.Delim('['):
		items := []any{}
		for decoder.More() {
			value, err := parseValue(decoder)
			if err != nil {
				return nil, err
			}
			items = append(items, value)
		}
		_, err = decoder.Token()
		return items, err
	}
	return token, nil
}

// clean keeps what others have written from controlling the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}

// inline is a value on one line.
func inline(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return clean(v)
	case []any:
		parts := make([]string, 0, len(v))
		for _, item := range v {
			parts = append(parts, inline(item))
		}
		return strings.Join(parts, ", ")
	case object:
		parts := make([]string, 0, len(v))
		for _, f := range v {
			parts = append(parts, clean(f.name)+"="+inline(f.value))
		}
		return strings.Join(parts, " ")
	}
	return fmt.Sprint(value)
}

// printObject prints a field a line, and objects within indented.
func (c *console) printObject(o object) { c.printFields(o, "") }

func (c *console) printFields(o object, indent string) {
	for _, f := range o {
		c.printField(f, indent)
	}
}

func (c *console) printField(f field, indent string) {
	name := indent + c.paint(bold, clean(f.name)) + ":"
	switch v := f.value.(type) {
	case object:
		fmt.Fprintln(c.out, name)
		c.printFields(v, indent+"  ")
		return
	case []any:
		if slices.ContainsFunc(v, func(item any) bool { _, is := item.(object); return is }) {
			fmt.Fprintln(c.out, name)
			for _, item := range v {
				fmt.Fprintf(c.out, "%s  - %s\n", indent, inline(item))
			}
			return
		}
	}
	fmt.Fprintln(c.out, strings.TrimRight(name+" "+inline(f.value), " "))
}

// printExplanation prints the advice last and set off.
func (c *console) printExplanation(o object) {
	advice := o.get("advice")
	c.printFields(slices.DeleteFunc(o, func(f field) bool { return f.name == "advice" }), "")
	if text := inline(advice); text != "" {
		fmt.Fprintf(c.out, "\n%s\n", c.paint(bold, "Advice: ")+text)
	}
}

// printObjects prints a list of objects as a table. The columns are those of the
// named fields that any object has; without names, all of them.
func (c *console) printObjects(value any, names []string) {
	items, _ := value.([]any)
	if len(items) == 0 {
		fmt.Fprintln(c.out, "none")
		return
	}
	var columns []string
	for _, item := range items {
		o, _ := item.(object)
		for _, f := range o {
			if !slices.Contains(columns, f.name) {
				columns = append(columns, f.name)
			}
		}
	}
	if len(names) > 0 {
		present := columns
		columns = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(present, name) })
	}
	t := table{rows: [][]string{make([]string, len(columns))}, right: make([]bool, len(columns))}
	for i, column := range columns {
		t.rows[0][i] = headOf(column)
		t.right[i] = !slices.ContainsFunc(items, func(item any) bool {
			o, _ := item.(object)
			_, isNumber := o.get(column).(json.Number)
			return !isNumber && o.get(column) != nil
		})
	}
	for _, item := range items {
		o, _ := item.(object)
		row := make([]string, len(columns))
		for i, column := range columns {
			row[i] = cellOf(column, o.get(column))
		}
		t.rows = append(t.rows, row)
	}
	c.printTable(t)
}

// headOf is the head of a column; the unit stands with the values.
func headOf(column string) string {
	return strings.ToUpper(clean(strings.ReplaceAll(strings.TrimSuffix(column, "_seconds"), "_", " ")))
}

// cellOf is a value in a table: times in local time, durations and sizes with a
// unit, everything else as it is.
func cellOf(column string, value any) string {
	switch v := value.(type) {
	case json.Number:
		f, err := v.Float64()
		switch {
		case err != nil:
		case column == "size" && f >= 0:
			return humanize.Bytes(uint64(f))
		case column == "lag_seconds" || column == "age" || column == "ttl_remaining":
			return short(f * float64(time.Second))
		}
	case string:
		at, err := time.Parse(time.RFC3339, v)
		if err == nil && (column == "time" || column == "stored_at") {
			return at.Local().Format(time.DateTime)
		}
	}
	return inline(value)
}

// short is a duration in nanoseconds as one looks at it.
func short(ns float64) string {
	d := time.Duration(ns)
	unit := time.Second
	switch size := d.Abs(); {
	case size < 10*time.Millisecond:
		unit = time.Microsecond
	case size < time.Second:
		unit = time.Millisecond
	case size < time.Minute:
		unit = 100 * time.Millisecond
	}
	return d.Round(unit).String()
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

func percentOf[N int | uint64](n, total N) string {
	return percent(float64(n) / float64(max(total, 1)))
}

func comma[N int | uint64](n N) string { return humanize.Comma(int64(n)) }

// table is what is printed in columns.
type table struct {
	rows  [][]string // the first is the head
	right []bool     // by column: aligned to the right
}

// printTable cuts lines where the terminal is too narrow.
func (c *console) printTable(t table) {
	widths := make([]int, len(t.right))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				cell = space + cell
			} else {
				cell += space
			}
			line.WriteString(cell + "  ")
		}
		text := c.cut(strings.TrimRight(line.String(), " "))
		if n == 0 {
			text = c.paint(bold, text)
		}
		fmt.Fprintln(c.out, text)
	}
}

// cut shortens a line to the width of the terminal.
func (c *console) cut(line string) string {
	if c.width < 2 || utf8.RuneCountInString(line) <= c.width {
		return line
	}
	return string([]rune(line)[:c.width-1]) + "…"
}

// Select graphic rendition, ECMA-48.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (c *console) paint(style, text string) string {
	if !c.color {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}
