package rediscache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
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

// printObjects prints a list of objects as a table, with a column for each field
// that any of them has.
func (c *console) printObjects(value any) {
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
	rows := [][]string{make([]string, len(columns))}
	for i, column := range columns {
		rows[0][i] = strings.ToUpper(clean(column))
	}
	for _, item := range items {
		o, _ := item.(object)
		row := make([]string, len(columns))
		for i, column := range columns {
			row[i] = inline(o.get(column))
		}
		rows = append(rows, row)
	}
	c.table(rows)
}

// table prints rows in columns, the first row as the head. On a terminal that is
// too narrow lines are cut.
func (c *console) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
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
