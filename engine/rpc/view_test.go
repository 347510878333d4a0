package rpc_test

import (
	"bufio"
	"os"
	"regexp"
	"strings"
	"testing"

	"callchain/engine/rpc"
)

// viewRow is a row of the view table: the status that a fact shows and the message that it sends into the chain; empty:
// unchanged, none.
type viewRow struct {
	fact   rpc.Fact
	status string
}

// viewTable is docs/decisions/0004 as ThingsBoard would have it (DeviceActorMessageProcessor, RpcStatus).
var viewTable = map[string]viewRow{
	"Requested":                   {rpc.Requested{Expires: began}, ""},
	"Queued":                      {rpc.Queued{}, "QUEUED"},
	"Sent":                        {rpc.Sent{Attempt: 1}, "SENT"},
	"Delivered":                   {rpc.Delivered{}, "DELIVERED"},
	"Progressed":                  {rpc.Progressed{}, ""},
	"DeliveryFailed":              {rpc.DeliveryFailed{}, "TIMEOUT"},
	"DeliveryFailed with requeue": {rpc.DeliveryFailed{Requeue: true}, "QUEUED"},
	"CancelRequested":             {rpc.CancelRequested{}, ""},
	"Succeeded":                   {rpc.Succeeded{}, "SUCCESSFUL"},
	"Failed":                      {rpc.Failed{}, "FAILED"},
	"Expired":                     {rpc.Expired{}, "EXPIRED"},
	"Cancelled":                   {rpc.Cancelled{}, "DELETED"},
	"Rejected":                    {rpc.Rejected{}, "FAILED"},
	"AnsweredLate":                {rpc.AnsweredLate{}, ""},
	"Removed":                     {rpc.Removed{}, "DELETED"},
}

func TestViewTable(t *testing.T) {
	for name, row := range viewTable {
		c := rpc.EvolveCall(rpc.Call{}, rpc.Event{Fact: row.fact}, rpc.DefaultSettings())
		if row.status == "" {
			if c.Status != rpc.StatusNone || c.Status.Message() != "" {
				t.Errorf("%s shows %s and sends %q, want it to change nothing", name, c.Status, c.Status.Message())
			}
			continue
		}
		if got := c.Status.String(); c.Status == rpc.StatusNone || got != row.status {
			t.Errorf("%s shows %s, want %s", name, got, row.status)
		}
		if got := c.Status.Message(); got != "RPC_"+row.status {
			t.Errorf("%s sends %s, want RPC_%s", name, got, row.status)
		}
	}
	for _, name := range factNames(t) {
		if _, ok := viewTable[name]; !ok && !deviceFact.MatchString(name) {
			t.Errorf("the view table has no row for %s", name)
		}
	}
}

var deviceFact = regexp.MustCompile(`^(Session.+|Subscribed|Unsubscribed)$`)

// TestDeliveredStaysShown: a late Written does not revert the status (docs/decisions/0004).
func TestDeliveredStaysShown(t *testing.T) {
	c := rpc.EvolveCall(rpc.Call{}, rpc.Event{Fact: rpc.Delivered{}}, rpc.DefaultSettings())
	c = rpc.EvolveCall(c, rpc.Event{Fact: rpc.Sent{Attempt: 1}}, rpc.DefaultSettings())
	if c.Status != rpc.StatusDelivered || c.Phase != rpc.PhaseDelivered {
		t.Errorf("shown %s in phase %s", c.Status, c.Phase)
	}
}

// TestDecisionPageHasTheViewTable compares the page that users read with the table above.
func TestDecisionPageHasTheViewTable(t *testing.T) {
	file, err := os.Open("../../docs/decisions/0004-view-table.md")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}()
	seen := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		cells := strings.Split(lines.Text(), "|")
		if len(cells) != 5 {
			continue // the first table has three columns
		}
		name := strings.ReplaceAll(strings.TrimSpace(cells[1]), "`", "")
		row, ok := viewTable[name]
		if !ok {
			continue
		}
		seen[name] = true
		status, message := strings.TrimSpace(cells[2]), cells[3]
		if row.status == "" && (strings.Contains(message, "`RPC_Q") || !strings.HasPrefix(status, "unchanged") && !strings.HasPrefix(status, "none")) ||
			row.status != "" && (!strings.HasPrefix(status, row.status) || !strings.Contains(message, "`RPC_"+row.status+"`")) {
			t.Errorf("the page says %q, %q of %s; want %q", status, message, name, row.status)
		}
	}
	for name := range viewTable {
		if !seen[name] {
			t.Errorf("the page has no row for %s", name)
		}
	}
}
