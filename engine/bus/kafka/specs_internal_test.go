package kafka

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTopicsOfThePage: docs/operation.md names all topics, as the server makes and checks them.
func TestTopicsOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/operation.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `callchain.") {
			cells := strings.Split(line, "|")
			rows = append(rows, strings.Join(cells[1:6], "|"))
		}
	}
	var want []string
	o := Options{Node: "<node.id>", Partitions: 64}
	for _, s := range o.specs() {
		partitions := strconv.Itoa(int(s.partitions))
		if s.partitions == o.Partitions {
			partitions = "`partitions`"
		}
		kept := fmt.Sprintf("%d d", s.retention/(24*time.Hour))
		if s.retention < 24*time.Hour {
			kept = fmt.Sprintf("%d h", s.retention/time.Hour)
		}
		want = append(want, fmt.Sprintf(" `%s` | %s | `%s` | %d (%s) | %d ", s.name, partitions, cleanupDelete, s.retention.Milliseconds(), kept, MessageBytesMax))
	}
	if !slices.Equal(rows, want) {
		t.Errorf("docs/operation.md has\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
}
