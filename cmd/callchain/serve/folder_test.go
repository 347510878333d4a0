package serve

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/registry"

	"github.com/google/uuid"
)

func mustUUID(t *testing.T, text string) uuid.UUID {
	t.Helper()
	id, err := uuid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// answering is a root chain that answers devices' calls with a word.
const answering = `name: Answering
root: true
nodes:
  - name: answer
    type: transform
    config:
      msg: '"%s"'
    to: {Success: reply}
  - name: reply
    type: rpc call reply
`

func writeChain(t *testing.T, dir, text string) {
	t.Helper()
	// A rename shows the file at once, whole.
	beside := filepath.Join(dir, "answer.tmp")
	if err := os.WriteFile(beside, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(beside, filepath.Join(dir, "answer.yaml")); err != nil {
		t.Fatal(err)
	}
}

func TestChainFilesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	writeChain(t, dir, fmt.Sprintf(answering, "first"))
	server, c := run(t, load(t, t.TempDir(), map[string]string{"chains.dir": dir}))
	_, f := device(t, server, c, "d", "default")
	ask := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		answer, err := f.Request(ctx, 0, "word", []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	if got := ask(); got != `"first"` {
		t.Errorf("the chain answered %s", got)
	}
	writeChain(t, dir, fmt.Sprintf(answering, "second one"))
	until(t, func() bool { return ask() == `"second one"` }, "the changed file is not in effect")

	writeChain(t, dir, strings.Replace(fmt.Sprintf(answering, "third"), "type: transform", "type: trnsform", 1))
	lookAtFiles(t, server, dir)
	if got := ask(); got != `"second one"` {
		t.Errorf("with a broken file the chain answered %s", got)
	}
}

// TestChainFileIsTriedAgain: a file that could not be stored is tried again although it has not changed. One with mistakes is not.
func TestChainFileIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	server, _ := run(t, load(t, t.TempDir(), map[string]string{"chains.dir": dir}))
	server.parts.chains.end(10 * time.Second) // the watcher is gone: nobody else loads
	writeChain(t, dir, fmt.Sprintf(answering, "kept"))
	refuse := func(statement string) {
		t.Helper()
		if _, err := server.database.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	loaded := func() bool {
		server.loadChains(t.Context())
		list, err := server.registry.ActiveChains(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(c registry.Chain) bool { return c.File == "answer.yaml" })
	}
	refuse(`CREATE TRIGGER away BEFORE INSERT ON rule_chains BEGIN SELECT RAISE(ABORT, 'the disk is away'); END`)
	for range 2 {
		if loaded() {
			t.Fatal("the file is loaded although nothing can be stored")
		}
	}
	if _, failed := server.folder.failed["answer.yaml"]; !failed || len(server.folder.seen) > 0 {
		t.Errorf("the file is seen as %+v", server.folder)
	}
	refuse(`DROP TRIGGER away`)
	if !loaded() {
		t.Error("the file is not loaded when it can be stored again")
	}
	writeChain(t, dir, "name: [")
	server.loadChains(t.Context())
	if _, failed := server.folder.failed["answer.yaml"]; failed || len(server.folder.seen) != 1 {
		t.Errorf("a file with mistakes is seen as %+v", server.folder)
	}
}

// lookAtFiles lets the server look at the file as it is now.
func lookAtFiles(t *testing.T, server *Server, dir string) {
	t.Helper()
	server.parts.chains.end(10 * time.Second) // the watcher is gone: nobody else loads
	server.loadChains(t.Context())
	found, err := chainFiles(dir)
	if err != nil || server.folder.seen["answer.yaml"] != found["answer.yaml"] {
		t.Fatalf("the file was not looked at: %v", err)
	}
}

func TestChainsSurviveARestart(t *testing.T) {
	data := t.TempDir()
	server, c := run(t, load(t, data, nil))
	chain, err := c.CreateChain(t.Context(), fmt.Appendf(nil, answering, "kept"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateProfile(t.Context(), "kept", chain.ID, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateDevice(t.Context(), client.Device{Name: "d", Type: "kept"}, "token-d"); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	server, _ = run(t, load(t, data, nil))
	program := server.programs.active(mustUUID(t, chain.ID))
	if program == nil || program.Name != "Answering" || program.Version != chain.Version {
		t.Errorf("after the restart the chain is %+v", program)
	}
	if program, err := server.programs.version(t.Context(), mustUUID(t, chain.ID), 99); program != nil || err != nil {
		t.Errorf("a version that does not exist is %+v, %v", program, err)
	}
}

func TestOnlyChainsAreTakenFromTheFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yml", "c.json", "a.test.yaml", "c.test.json", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := chainFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, []string{"a.yaml", "b.yml", "c.json"}) {
		t.Errorf("the folder's chains are %q", got)
	}
}
