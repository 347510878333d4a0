package examples

import (
	"strings"
	"testing"
)

func TestPagesAreRead(t *testing.T) {
	page := "# A page\n\n```sh test\necho 1\necho 2\n```\n\n```text\n1\n2\n```\n\n```yaml\na: 1\n```\n```sh test background\nserve\n```\n" +
		"Some words.\n\n```text\nno output of serve\n```\n```sh skip: it needs the network\nget\n```\n"
	blocks, err := parsePage(page)
	if err != nil || len(blocks) != 3 {
		t.Fatalf("%+v, %v", blocks, err)
	}
	if b := blocks[0]; b.line != 3 || b.text != "echo 1\necho 2" || b.want != "1\n2" || b.background {
		t.Errorf("the first block is %+v", b)
	}
	if b := blocks[1]; !b.background || b.compared || b.text != "serve" {
		t.Errorf("the second block is %+v", b)
	}
	if b := blocks[2]; b.skip != "it needs the network" {
		t.Errorf("the third block is %+v", b)
	}
	for page, want := range map[string]string{
		"\n```sh\nrm x\n```\n":             "line 2: a block of shell commands is marked",
		"```sh test\necho, no end":         "line 1: the block has no end",
		"\n```bash\nrm x\n```\n":           `line 2: a block of "bash" is not run: write sh`,
		"```\nrm x\n```\n":                 "line 1: a block of \"\" is not run: name its language",
		"Then:\n\n    make build\n":        "line 3: commands stand in a block of sh",
		"Then:\n\n    TOKEN=$(cat file)\n": "line 3: commands stand in a block of sh",
		"```sh skip\nrm x\n```\n":          "line 1: a block of shell commands is marked",
		"```sh skip: \nrm x\n```\n":        "line 1: a block of shell commands is marked",
	} {
		if _, err := parsePage(page); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", page, err)
		}
	}
}

func TestOutputIsCompared(t *testing.T) {
	const id = "019ab2f4-5a3e-7c11-8d52-2f1c5d1d9a10"
	for _, c := range []struct {
		want, got string
		loose     bool
		missing   string
	}{
		{"a\nb", "a\nb\n", false, ""},
		{"a\nb", "a\nx\nb", false, "b"},
		{"a\nb", "x\na\nx\nb\ny", true, ""},
		{"b\na", "a\nb", true, ""},
		{"b\na", "a\nb", false, "b"},
		{"a\nc", "a\nb", true, "c"},
		{"a\n…\nb", "a\nx\ny\nb", false, ""},
		{"a", "a\nb", false, "(the end; the output goes on with b)"},
		{"a\n…", "a\nb", false, ""},
		{"queued as call 00000000-0000-4000-8000-000000000000", "queued as call " + id, false, ""},
		{"queued as call …", "refused", false, "queued as call …"},
		{"+0.000 ms  Queued  admin …0123abcd  8badf00d", "  +12.345 ms Queued    admin …ffffffff   deadbeef", false, ""},
		{"+0.000 ms  Queued", "+0.000 ms  Sent", false, "+0.000 ms  Queued"},
		{`{"a":1}`, `{"a":2}`, false, `{"a":1}`},
		{"anything", "", false, "anything"},
	} {
		if got := missing(c.want, c.got, c.loose); got != c.missing {
			t.Errorf("%q in %q: missing %q, want %q", c.want, c.got, got, c.missing)
		}
	}
}
