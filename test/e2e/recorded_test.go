package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// exchange is a request to a ThingsBoard server, and what that answered (testdata/recorded.txt).
type exchange struct {
	number int
	title  string
	method string
	path   string
	header http.Header
	body   string
	status int
	kind   string // Content-Type of the answer, "" if that is not compared
	answer string
}

// ofDevice tells whether it is one of the device API, whose answers are bare.
func (x *exchange) ofDevice() bool { return strings.HasPrefix(x.path, "/api/v1/") }

var exchangeHead = regexp.MustCompile(`(?m)^=== (\d+) (.*)\n`)

func readExchanges(t *testing.T) map[int]*exchange {
	t.Helper()
	text, err := os.ReadFile("testdata/recorded.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]*exchange{}
	heads := exchangeHead.FindAllSubmatchIndex(text, -1)
	for i, h := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		x := &exchange{title: string(text[h[4]:h[5]]), header: http.Header{"Content-Type": {"application/json"}}}
		if x.number, err = strconv.Atoi(string(text[h[2]:h[3]])); err != nil {
			t.Fatal(err)
		}
		x.read(t, string(text[h[1]:end]))
		out[x.number] = x
	}
	return out
}

func (x *exchange) read(t *testing.T, text string) {
	t.Helper()
	asked, answered, _ := strings.Cut(text, "\n--- ")
	head, body, _ := strings.Cut(asked, "\n\n")
	lines := strings.Split(head, "\n")
	x.method, x.path, _ = strings.Cut(lines[0], " ")
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		x.header.Del(name)
		if value = strings.TrimSpace(value); value != "" {
			x.header.Set(name, value)
		}
	}
	status, answer, _ := strings.Cut(answered, "\n")
	status, x.kind, _ = strings.Cut(status, " ")
	n, err := strconv.Atoi(status)
	if err != nil {
		t.Fatalf("exchange %d: %v", x.number, err)
	}
	x.body, x.status, x.answer = body, n, strings.TrimSpace(answer)
}

// deviation is an answer that differs on purpose; docs/compatibility.md tells users the same.
type deviation struct {
	status  int    // instead of the recorded one; 0: the same
	message string // instead of the recorded one
	kind    string // instead of the recorded one; "": the same
	was, is string // in the body
	why     string
}

const (
	callersMistake = "the caller's mistake is a 400, not a 500"
	documented     = "a one-way persistent call that was delivered ends SUCCESSFUL, as ThingsBoard's documentation says"
	ownWords       = "the words of ThingsBoard's framework are not copied"
	answered       = "a call of the device that nobody answers ends as over MQTT, after rpc.client_side_timeout"
)

// deviations is the one list of them, by number of the exchange.
var deviations = map[int]deviation{
	11:  {status: 401, message: "Authentication failed", why: "no program wants to be sent to a web login"},
	23:  {status: 400, message: "Invalid request body", why: callersMistake},
	24:  {status: 400, message: "Invalid request body", why: callersMistake},
	28:  {status: 400, message: "Invalid request body", why: callersMistake},
	29:  {status: 400, message: "Invalid request body", why: callersMistake},
	30:  {status: 400, message: "Invalid request body", why: callersMistake},
	31:  {status: 400, message: "Invalid request body", why: callersMistake},
	81:  {status: 400, message: "Invalid request parameter 'rpcStatus'", why: callersMistake},
	82:  {message: "Invalid request parameter 'rpcStatus'", why: ownWords},
	83:  {status: 400, message: "Invalid request parameter 'pageSize'", why: callersMistake},
	84:  {status: 400, message: "Invalid request parameter 'pageSize'", why: callersMistake},
	85:  {status: 400, message: "Invalid request parameter 'page'", why: callersMistake},
	86:  {status: 400, message: "Invalid request parameter 'sortProperty'", why: callersMistake},
	100: {was: `"status":"DELIVERED"`, is: `"status":"SUCCESSFUL"`, why: documented},
	101: {was: `"status":"DELIVERED"`, is: `"status":"SUCCESSFUL"`, why: documented},
	115: {was: `"status":"DELIVERED"`, is: `"status":"SUCCESSFUL"`, why: documented},
	122: {message: "Method parameter 'requestId': a 32-bit number is expected", why: ownWords},
	124: {message: "Required request body is missing", why: ownWords},
	126: {
		was: "java.io.EOFException: End of input at line 1 column 5 path $.bad",
		is:  "invalid character 'b' looking for beginning of object key string at byte 2", why: ownWords,
	},
	131: {
		status: 200, kind: "text/plain;charset=UTF-8", was: `{"message":null,"errorCode":2,"status":503,"timestamp":<ms>}`,
		is: `{"error":"timeout"}`, why: answered,
	},
}

// notYet are exchanges whose feature there is not.
var notYet = map[int]string{
	16: "users of customers cannot be made over REST", 17: "users of customers cannot be made over REST",
	206: "there are no gateways", 207: "there are no gateways", 208: "there are no gateways",
}

// recorded replays exchanges against a server.
type recorded struct {
	*process
	exchanges map[int]*exchange
	names     []string // pairs: <name>, what it stands for
}

// named is what stands for a name of the recording.
func (r *recorded) named(text string) string {
	now := time.Now()
	pairs := append([]string{"<70000 x>", strings.Repeat("x", 70_000)}, r.names...)
	for _, ms := range []int{1000, 1500, 600_000} {
		pairs = append(pairs, fmt.Sprintf("<now+%d>", ms), fmt.Sprint(now.UnixMilli()+int64(ms)))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

var times = regexp.MustCompile(`([tT]ime|timestamp)":\d{13}`)

// unnamed is an answer in the words of the recording.
func (r *recorded) unnamed(text string) string {
	var pairs []string
	for i := 0; i < len(r.names); i += 2 {
		pairs = append(pairs, r.names[i+1], r.names[i])
	}
	return times.ReplaceAllString(strings.NewReplacer(pairs...).Replace(text), `$1":<ms>`)
}

// reply is what the server answers.
type reply struct {
	status     int
	kind, body string // Content-Type; the body
}

func (r *recorded) send(t *testing.T, x *exchange) (reply, error) {
	q, err := http.NewRequestWithContext(t.Context(), x.method, "http://"+r.http+r.named(x.path), strings.NewReader(r.named(x.body)))
	if err != nil {
		return reply{}, err
	}
	for name, values := range x.header {
		q.Header.Set(name, r.named(values[0]))
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header.Get("Content-Type"), string(text)}, err
}

// replay sends requests one after the other and compares the answers. The id of a call that the recording has as <rpcN> becomes known.
func (r *recorded) replay(t *testing.T, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if why, later := notYet[n]; later {
			t.Logf("not yet: %d: %s", n, why)
			continue
		}
		x := r.exchanges[n]
		got, err := r.send(t, x)
		if err != nil {
			t.Errorf("%d %s: %v", n, x.title, err)
			continue
		}
		r.learn(x, got.body)
		if what := r.difference(x, got); what != "" {
			t.Errorf("%d %s\n%s", n, x.title, what)
		}
	}
}

// settles asks until the answer is the recorded one: the device and the deadlines take their time.
func (r *recorded) settles(t *testing.T, n int) {
	t.Helper()
	x := r.exchanges[n]
	eventually(t, 15*time.Second, func() string {
		got, err := r.send(t, x)
		if err != nil {
			return err.Error()
		}
		if what := r.difference(x, got); what != "" {
			return fmt.Sprintf("%d %s\n%s", n, x.title, what)
		}
		return ""
	})
}

func (r *recorded) learn(x *exchange, body string) {
	var got, had struct {
		ID string `json:"rpcId"`
	}
	if json.Unmarshal([]byte(body), &got) == nil && json.Unmarshal([]byte(x.answer), &had) == nil && strings.HasPrefix(had.ID, "<rpc") {
		r.names = append(r.names, had.ID, got.ID)
	}
}

// difference says how an answer differs from the recorded one, as far as no deviation says that it does; a deviation that does not show
// is a difference, too.
func (r *recorded) difference(x *exchange, got reply) string {
	want := *x
	got.body = r.unnamed(got.body)
	if d, listed := deviations[x.number]; listed {
		if r.same(x, got) == "" {
			return fmt.Sprintf("the answer is the recorded one; take it off the list of deviations (%s)", d.why)
		}
		if d.status != 0 {
			want.status = d.status
		}
		if d.kind != "" {
			want.kind = d.kind
		}
		if want.answer = strings.Replace(want.answer, d.was, d.is, 1); d.message != "" {
			want.answer = fmt.Sprintf(`{"status":%d,"message":%q}`, want.status, d.message)
		}
	}
	return r.same(&want, got)
}

func (r *recorded) same(want *exchange, got reply) string {
	status, body := got.status, got.body
	ok := status == want.status && (want.kind == "" || want.kind == got.kind)
	switch {
	case !ok:
	case status >= 400 && (!want.ofDevice() || strings.HasPrefix(want.answer, "{")):
		ok = sameProblem(want.answer, body)
	case strings.HasPrefix(want.answer, `{"data":`) && !strings.Contains(want.path, "sortProperty=createdTime"):
		ok = r.sameList(want.answer, body)
	default:
		ok = want.answer == body
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("got  %d %s %s\nwant %d %s %s", status, got.kind, body, want.status, want.kind, want.answer)
}

// sameProblem compares what is no success. Ours always has a body with all of ThingsBoard's fields, whatever the recorded one has: nothing,
// a text, or JSON. A field that a deviation leaves out is not compared.
func sameProblem(want, body string) bool {
	type problem struct {
		Status  int     `json:"status"`
		Message *string `json:"message"`
		Code    int     `json:"errorCode"`
	}
	var had, got problem
	want, body = numbered(want), numbered(body)
	if json.Unmarshal([]byte(body), &got) != nil || got.Message == nil || got.Status == 0 || got.Code == 0 {
		return false
	}
	if json.Unmarshal([]byte(want), &had) != nil {
		return want == "" || want == *got.Message
	}
	return had.Status == got.Status && had.Message != nil && *had.Message == *got.Message && (had.Code == 0 || had.Code == got.Code)
}

// numbered makes JSON of an answer in the words of the recording.
func numbered(text string) string { return strings.ReplaceAll(text, "<ms>", "0") }

// sameList compares pages without an order: as many calls, each as it was recorded in the whole list (79).
func (r *recorded) sameList(want, body string) bool {
	type page struct {
		Data     []json.RawMessage
		Pages    int  `json:"totalPages"`
		Elements int  `json:"totalElements"`
		More     bool `json:"hasNext"`
	}
	var had, got, all page
	for text, into := range map[*page]string{&had: want, &got: body, &all: r.exchanges[79].answer} {
		if json.Unmarshal([]byte(numbered(into)), text) != nil {
			return false
		}
	}
	for _, one := range got.Data {
		if !slices.ContainsFunc(all.Data, func(other json.RawMessage) bool { return bytes.Equal(one, other) }) {
			return false
		}
	}
	return len(had.Data) == len(got.Data) && had.Pages == got.Pages && had.Elements == got.Elements && had.More == got.More
}
