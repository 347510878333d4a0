package bench

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ClusterHead is the line above the rows.
func ClusterHead(nodes int) string {
	var names []string
	for i := range nodes {
		names = append(names, strconv.Itoa(i+1))
	}
	of := strings.Join(names, "/")
	return fmt.Sprintf("%4s %6s %6s %6s %6s %6s   %-*s devices %s", "sec", "sent", "ok", "503", "failed", "again",
		nodeWidth(nodes, "partitions"), "partitions "+of, of)
}

func nodeWidth(nodes int, word string) int { return max(len(word)+2*nodes, 4*nodes) + 2 }

// String is a second as a line for people.
func (s ClusterSecond) String() string {
	n := len(s.Owned)
	line := fmt.Sprintf("%4d %6d %6d %6d %6d %6d   %-*s %-*s", s.Second, s.Sent, s.Succeeded, s.Refused, s.Failed, s.Again,
		nodeWidth(n, "partitions"), byNode(s.Owned), nodeWidth(n, "devices"), byNode(s.Connected))
	if len(s.Marks) > 0 {
		line += " <- " + strings.Join(s.Marks, ", ")
	}
	return strings.TrimRight(line, " ")
}

// byNode writes a figure of each node; a node that does not answer has none.
func byNode(figures []int) string {
	var parts []string
	for _, n := range figures {
		if n < 0 {
			parts = append(parts, "-")
		} else {
			parts = append(parts, strconv.Itoa(n))
		}
	}
	return strings.Join(parts, "/")
}

// lostShown bounds how many lost calls are named.
const lostShown = 20

// Print writes the totals for people.
func (r *ClusterResult) Print(w io.Writer) {
	t := r.Total
	fmt.Fprintf(w, "%d calls sent: %d succeeded, %d refused, %d failed; %d sent again through another node\n", t.Sent, t.Succeeded, t.Refused, t.Failed, t.Again)
	if len(r.Failed) > 0 {
		fmt.Fprintf(w, "failed: %s\n", counted(r.Failed))
	}
	fmt.Fprintf(w, "longest time without a success: %.1f s; of one device: %.1f s\n", r.Silence, r.DeviceSilence)
	fmt.Fprintf(w, "%d calls whose success was returned: %d lost\n", r.Checked, len(r.Lost))
	for i, lost := range r.Lost {
		if i == lostShown {
			fmt.Fprintf(w, "  and %d more\n", len(r.Lost)-i)
			break
		}
		fmt.Fprintf(w, "  lost: %s\n", lost)
	}
}
